"""The conversation with a board: what the rest of tinymbn asks of it, in bytes and numbers."""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Callable, Sequence
from types import TracebackType

from tinymbn.errors import FirmwareError, LinkError
from tinymbn.link import messages
from tinymbn.link.exchange import (
    FIRST_EXCHANGE_S,
    MOST_TRIES,
    PORT_EXCHANGE_S,
    BoardResetError,
    Exchange,
    NoReplyError,
    Patience,
    RefusedError,
)
from tinymbn.link.frame import VERSION, payload_room
from tinymbn.link.messages import (
    Counters,
    EventKind,
    Fault,
    Hello,
    LayerRecord,
    LayerRows,
    ModelIdentity,
    Operation,
    Region,
    RunFlag,
    RunResult,
    StackUse,
    Status,
)
from tinymbn.link.rows import Rows
from tinymbn.link.transport import Transport, open_port

__all__ = ["BoardResetError", "Feed", "Session", "open_session"]

Feed = tuple[Region, int, bytes]  # where to, offset, data
OnProgress = Callable[[int], None]  # of the layer that computes

_SMALLEST_RX_MAX = 128  # until HELLO says
_HEAD_BYTES = max(messages.WRITE_HEAD_BYTES, messages.NAME_BYTES + messages.DATA_HEAD_BYTES)
_FLOOR_BYTES = 32  # frames never carry less
_GROW_AFTER = 8  # transfers without a failure
_TRIES_ABOVE_FLOOR = 2
_RUNS = 5  # of the same work, where bytes were lost
_DUMPS = 12
_CONSTANTS_A_REQUEST = 8
_CRC_PATIENCE = Patience(first_s=3.0, working_s=5.0)
_BAUD_TRIAL_S = 1.0
_BAUD_SETTLES_S = 0.02
_BAUD_FALLS_BACK_S = 3.5  # the board waits 2 s and looks once a second


def open_session(path: str, baud: int, *, opened: Callable[[], None] | None = None) -> Session:
    """A session with the board at this port, synced.

    Args:
        path: of the port.
        baud: tried first; then the usual ones.
        opened: called between opening the port and speaking, for an emulator that waits for its reader.

    Raises:
        DeviceError: the port cannot be opened, or nothing at all was received from it.
        LinkError: what was received is no answer.
        FirmwareError: the board speaks another version of the protocol.
    """
    session = Session(open_port(path, baud))
    try:
        if opened is not None:
            opened()
        session.sync(PORT_EXCHANGE_S if opened is None else FIRST_EXCHANGE_S)
        session.hello()
    except BaseException:
        session.close()
        raise
    return session


class Session:
    """One host, one board. Every method ends within a bounded time, if need be with a LinkError."""

    def __init__(self, transport: Transport) -> None:
        self._exchange = Exchange(transport)
        self._first_baud = transport.baud
        self._largest = payload_room(_SMALLEST_RX_MAX) - _HEAD_BYTES
        self._size = self._largest  # data bytes a frame carries at present
        self._successes = 0
        self._loaded: int | None = None  # CRC-32 of the input that was written last

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def transport(self) -> Transport:
        """The line below."""
        return self._exchange.transport

    @property
    def frame_data_bytes(self) -> int:
        """Data bytes a frame carries at present: fewer after failures."""
        return self._size

    def sync(self, first_s: float = FIRST_EXCHANGE_S) -> None:
        """Starts over with whatever state the line and the board are in; ``first_s`` at this baud rate, then others."""
        self._exchange.sync(first_s)

    def close(self) -> None:
        """Leaves the board at the baud rate it was found at, if it still answers, and closes the line."""
        try:
            if self.transport.baud != self._first_baud:
                self._exchange.request(Operation.BAUD, self._first_baud.to_bytes(4, "little"), tries=2)
                self._settle_at(self._first_baud)
                self._exchange.request(Operation.HELLO, messages.piece(0), tries=2)  # else it would go back
        except (LinkError, FirmwareError):
            pass  # the next session finds it by trying
        finally:
            self.transport.close()

    def hello(self) -> Hello:
        """Which firmware answers; from then on frames are as long as its receiver takes.

        Raises:
            FirmwareError: not tinymbn's, or none that speaks this version of the protocol.
        """
        hello = messages.to_hello(self._description(Operation.HELLO))
        if not hello.protocol_first <= VERSION <= hello.protocol_last:
            raise FirmwareError(
                f"board {hello.board!r}: speaks versions {hello.protocol_first} to {hello.protocol_last} of the"
                f" protocol, this tinymbn version {VERSION}; flash firmware of this tinymbn"
            )
        self._largest = payload_room(hello.rx_max) - _HEAD_BYTES
        self._size = self._largest
        return hello

    def model(self) -> ModelIdentity:
        """Which model the firmware holds."""
        return messages.to_model(self._description(Operation.MODEL))

    def constants(self, layers: int) -> tuple[int, ...]:
        """CRC-32 over all constants of each layer, in order; 0 for a layer without any."""
        found: list[int] = []
        while len(found) < layers:
            count = min(layers - len(found), _CONSTANTS_A_REQUEST)
            arguments = messages.constants(len(found), count)
            found += messages.to_u32(
                self._exchange.request(Operation.CONSTANTS, arguments, patience=_CRC_PATIENCE), count
            )
        return tuple(found)

    def write(self, region: Region, offset: int, data: bytes) -> None:
        """Writes bytes into INPUT or ARENA."""
        self._loaded = None
        done = 0
        while done < len(data):
            part = data[done : done + self._size]
            if self._transfer(Operation.WRITE, messages.write(region, offset + done, part), len(part)) is not None:
                done += len(part)

    def read(self, region: Region, offset: int, length: int) -> bytes:
        """Bytes of any region."""
        found = bytearray()
        while len(found) < length:
            count = min(self._size, length - len(found))
            part = self._transfer(Operation.READ, messages.read(region, offset + len(found), count), count)
            if part is not None:
                if len(part) != count:
                    raise FirmwareError(f"board: read {len(part)} bytes, asked for {count}; it runs another firmware")
                found += part
        return bytes(found)

    def crc(self, region: Region, offset: int, length: int) -> int:
        """CRC-32 of bytes on the board."""
        arguments = messages.crc(region, offset, length)
        return messages.to_u32(self._exchange.request(Operation.CRC, arguments, patience=_CRC_PATIENCE), 1)[0]

    def infer(
        self, data: bytes, *, traced: bool, expected_s: float, on_progress: OnProgress | None = None
    ) -> RunResult:
        """Runs the whole network once on this input, which is written where it is not there already.

        Args:
            data: the model's input, int8 as bytes.
            traced: by ``run_traced``, with a record a layer; else by ``run``.
            expected_s: what the run may take; three times as long, plus what events add, is the limit.
            on_progress: called with the number of the layer about once a second.
        """
        flags = RunFlag.GUARDED | (RunFlag.TRACED if traced else RunFlag(0))
        for tries_left in reversed(range(_RUNS)):
            self._load(data)
            try:
                return self.run(flags, zlib.crc32(data), expected_s, on_progress=on_progress)
            except RefusedError as refused:
                if refused.status != Status.INPUT_DIFFERS or not tries_left:
                    raise
                self._loaded = None
        raise AssertionError("the last try raises or returns")

    def run(
        self,
        flags: RunFlag,
        input_crc32: int,
        expected_s: float,
        *,
        rows: LayerRows | None = None,
        on_progress: OnProgress | None = None,
    ) -> RunResult:
        """Runs the network, or rows of a layer, on what lies on the board; the records are read afterwards."""
        reply = self._exchange.request(
            Operation.RUN,
            messages.run(flags, input_crc32, rows),
            patience=_run_patience(expected_s),
            on_event=_progress_to(on_progress),
        )
        return RunResult(*messages.to_u32(reply, 2))

    def run_alone(self, rows: LayerRows, feed: Sequence[Feed], *, expected_s: float) -> LayerRecord:
        """Puts bytes into the arena, runs rows of one layer on them and gives its record."""
        for piece in feed:
            self.write(*piece)
        self.run(RunFlag.TRACED | RunFlag.ALONE, 0, expected_s, rows=rows)
        return self.records(rows.layer + 1)[rows.layer]

    def records(self, layers: int) -> tuple[LayerRecord, ...]:
        """The records of the last traced run."""
        return messages.to_records(self.read(Region.RECORDS, 0, layers * messages.RECORD_BYTES))

    def dump(self, layer: int, tensor_bytes: int, data: bytes, *, expected_s: float) -> bytes:
        """The whole output of one layer of a run on this input.

        Args:
            layer: whose output.
            tensor_bytes: of that output.
            data: the model's input.
            expected_s: what a run may take, without the bytes on the wire.
        """
        flags = RunFlag.TRACED | RunFlag.GUARDED
        return self._dump(LayerRows(layer), tensor_bytes, lambda: self._load(data), flags, zlib.crc32(data), expected_s)

    def dump_alone(self, rows: LayerRows, rows_bytes: int, feed: Sequence[Feed], *, expected_s: float) -> bytes:
        """Rows of one layer's output, run alone on bytes put into the arena.

        Args:
            rows: which.
            rows_bytes: of them in the tensor.
            feed: what is put into the arena before.
            expected_s: what they may take, without the bytes on the wire.
        """

        def prepare() -> None:
            for piece in feed:
                self.write(*piece)

        return self._dump(rows, rows_bytes, prepare, RunFlag.TRACED | RunFlag.ALONE, 0, expected_s)

    def stack(self) -> StackUse:
        """How much of its stack the board has used."""
        return StackUse(*messages.to_u32(self._exchange.request(Operation.STACK), 2))

    def counters(self) -> Counters:
        """Overruns and bad frames the board saw, and its clocks."""
        return Counters(*messages.to_u32(self._exchange.request(Operation.COUNTERS), 4))

    def measure_counter_hz(self, counter_bits: int, seconds: float = 0.25) -> float:
        """Ticks a second of the board's counter, by this machine's clock; good to about one in a hundred.

        The counter must wrap at most once in that time.
        """
        first, begin = self.counters().cycles, self.transport.now()
        time.sleep(seconds)
        last, end = self.counters().cycles, self.transport.now()
        return ((last - first) % (1 << counter_bits)) / (end - begin)

    def fault(self, *, clear: bool = False) -> Fault | None:
        """The last fault the board survived, if any; ``clear`` makes it forget it."""
        found = messages.to_fault(self._exchange.request(Operation.FAULT, b"\0"))
        if clear:
            self._exchange.request(Operation.FAULT, b"\1")
        return found

    def set_baud(self, baud: int) -> bool:
        """Goes to another baud rate; False, and all as before, where board or line cannot do it."""
        before = self.transport.baud
        if baud == before:
            return True
        try:
            self._exchange.request(Operation.BAUD, baud.to_bytes(4, "little"), tries=3)
        except RefusedError:
            return False
        except NoReplyError:
            pass  # the reply may be what was lost
        end = self.transport.now() + _BAUD_TRIAL_S
        try:
            self._settle_at(baud)
            while self.transport.now() < end:
                try:
                    self._exchange.request(Operation.HELLO, messages.piece(0), tries=1)
                    return True
                except (NoReplyError, RefusedError):
                    continue
        except LinkError:
            pass  # this end cannot do it
        self._settle_at(before)
        end = self.transport.now() + _BAUD_FALLS_BACK_S
        while True:
            try:
                self._exchange.request(Operation.HELLO, messages.piece(0), tries=1)
                return False
            except NoReplyError:
                if self.transport.now() >= end:
                    raise

    def reset(self) -> None:
        """Resets the board; sync before anything else."""
        with contextlib.suppress(NoReplyError):  # the reply may be what was lost; SYNC will tell
            self._exchange.request(Operation.RESET, tries=2)

    def echo(self, data: bytes) -> bytes:
        """The same bytes back, through the board; as many as a frame carries at most."""
        return self._exchange.request(Operation.ECHO, data)

    def _load(self, data: bytes) -> None:
        """Writes the input, unless it was written last and no run has overwritten it, as far as this end knows.

        Where the frame lies in the arena, a run does; the guard of the next run tells.
        """
        crc32 = zlib.crc32(data)
        if self._loaded != crc32:
            self.write(Region.INPUT, 0, data)
            self._loaded = crc32

    def _settle_at(self, baud: int) -> None:
        """Changes this end's baud rate and gives the board time to do the same."""
        self.transport.set_baud(baud)
        self.transport.read(_BAUD_SETTLES_S)

    def _description(self, operation: Operation) -> bytes:
        """A description that comes in pieces."""
        found = bytearray()
        total = 1
        while len(found) < total:
            reply = self._exchange.request(operation, messages.piece(len(found)))
            total = int.from_bytes(reply[:2], "little")
            if len(reply) <= 2 or len(found) + len(reply) - 2 > total:
                raise FirmwareError(f"board: its answer to {operation.name} does not add up; flash the firmware again")
            found += reply[2:]
        return bytes(found)

    def _transfer(self, operation: Operation, arguments: bytes, data_bytes: int) -> bytes | None:
        """The reply to a request whose size is ours to choose; None where a shorter one shall be tried."""
        at_floor = data_bytes <= _FLOOR_BYTES
        try:
            reply = self._exchange.request(operation, arguments, tries=MOST_TRIES if at_floor else _TRIES_ABOVE_FLOOR)
        except NoReplyError as failure:
            if at_floor:
                raise
            self._size = _FLOOR_BYTES if failure.silent else max(_FLOOR_BYTES, self._size // 2)
            self._successes = 0
            return None
        self._adapt(self._exchange.tries)
        return reply

    def _adapt(self, tries: int) -> None:
        """Shorter frames after failures, longer ones after successes."""
        if tries > 1:
            self._size = max(_FLOOR_BYTES, self._size // 2)
            self._successes = 0
            return
        self._successes += 1
        if self._successes >= _GROW_AFTER:
            self._size = min(self._largest, 2 * self._size)
            self._successes = 0

    def _dump(
        self,
        which: LayerRows,
        rows_bytes: int,
        prepare: Callable[[], None],
        flags: RunFlag,
        input_crc32: int,
        expected_s: float,
    ) -> bytes:
        rows = Rows(rows_bytes)
        for _ in range(_DUMPS):
            if rows.whole:
                return rows.data
            prepare()
            begin, end = rows.missing
            arguments = messages.dump(which, flags, input_crc32, begin, end - begin, self._size)
            try:
                reply = self._exchange.request(
                    Operation.DUMP, arguments, patience=_run_patience(expected_s), on_event=rows.keep
                )
            except RefusedError as refused:
                if refused.status != Status.INPUT_DIFFERS:
                    raise
                self._loaded = None
                continue
            (reported,) = messages.to_u32(reply, 1)
            if reported != rows_bytes:
                raise FirmwareError(
                    f"board: layer {which.layer} reports {reported} bytes, expected {rows_bytes}; it runs another"
                    " firmware"
                )
            self._adapt(1 if rows.whole else 2)
        if rows.whole:
            return rows.data
        raise LinkError(
            f"{self.transport.name}: {rows.missing_bytes} of {rows_bytes} bytes of layer {which.layer} were lost in "
            f"each of {_DUMPS} tries; check cable and baud rate"
        )


def _run_patience(expected_s: float) -> Patience:
    return Patience(first_s=1.0, working_s=max(1.0, 3 * expected_s))


def _progress_to(on_progress: OnProgress | None) -> Callable[[EventKind, bytes], None]:
    def hand_on(kind: EventKind, body: bytes) -> None:
        if on_progress is not None and kind is EventKind.PROGRESS:
            on_progress(int.from_bytes(body[:2], "little"))

    return hand_on
