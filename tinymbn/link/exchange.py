"""One request and its reply: tries, time-outs, and what to say when nothing comes.

A reply belongs to a request if it carries the request's CRC; all else that comes is stale or noise, and normal.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from tinymbn.errors import DeviceError, FirmwareError, LinkError
from tinymbn.link.frame import VERSION, Frame, FrameReader, FrameType
from tinymbn.link.messages import NAME_BYTES, EventKind, Operation, Status
from tinymbn.link.transport import Transport

BAUDS = (921600, 460800, 230400, 115200)
MOST_TRIES = 12

FIRST_EXCHANGE_S = 3.0  # QEMU looks once a second whether somebody reads
PORT_EXCHANGE_S = 2.5  # of a port: that nobody is there is said in under 5 s, the start of the program included
_OTHER_BAUD_S = 0.4
_QUIET_S = 0.1
_BOOT_TEXT_S = 0.5
_SHORTEST_WAIT_S = 0.25
_LONGEST_WAIT_S = 2.0
_SILENT_TRIES = 4  # a line on which nothing at all comes is given up
_BITS_A_BYTE = 10
_EVENTS_EXTEND = 20  # times the patience, at most

OnEvent = Callable[[EventKind, bytes], None]


class BoardResetError(LinkError):
    """A board that was reset since the last SYNC: what it was told is gone; sync and start the work again."""


class NoReplyError(LinkError):
    """A request that no whole reply came to."""

    def __init__(self, message: str, *, silent: bool) -> None:
        super().__init__(message)
        self.silent = silent


class RefusedError(LinkError):
    """A request that the board answered, but not with OK."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Patience:
    """How long a reply may take.

    Attributes:
        first_s: until the reply, or the first event of it, beside the time on the wire.
        working_s: from one event to the next, once there was one.
    """

    first_s: float = _SHORTEST_WAIT_S
    working_s: float = _LONGEST_WAIT_S


QUICK = Patience()


class Exchange:
    """Requests and replies over one line."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.tries = 0  # that the last request took
        self.damaged = 0  # requests and replies that came damaged, in all
        self._reader = FrameReader()
        self._sequence = 0
        self._echoes = 0  # requests received: our own words
        self._strangers = 0  # whole frames that belong to none of our requests

    def sync(self, first_s: float = FIRST_EXCHANGE_S) -> None:
        """Finds the board at this baud rate or another and starts a new epoch.

        Args:
            first_s: at this baud rate.

        Raises:
            DeviceError: nothing was received at all.
            LinkError: text or noise was received.
            FirmwareError: the board speaks another version of the protocol.
        """
        first_baud = self.transport.baud
        begin = self.transport.now()
        self._reader = FrameReader()
        self._echoes = self._strangers = 0
        self._listen()
        if self._sync_within(first_s - (self.transport.now() - begin)):
            return
        for baud in BAUDS:
            if baud != first_baud:
                self.transport.set_baud(baud)
                if self._sync_within(_OTHER_BAUD_S):
                    return
        self.transport.set_baud(first_baud)
        raise self._nobody(self.transport.now() - begin)

    def request(
        self,
        operation: Operation,
        payload: bytes = b"",
        *,
        patience: Patience = QUICK,
        on_event: OnEvent | None = None,
        tries: int = MOST_TRIES,
    ) -> bytes:
        """What the board answers.

        Raises:
            BoardResetError: the board has forgotten the epoch.
            NoReplyError: no whole reply came, after so many tries.
            RefusedError: the board answered with another status than OK.
        """
        frame = self._frame(operation, payload)
        begin = self.transport.now()
        heard_before = self._heard
        for self.tries in range(1, tries + 1):
            reply = self._try(frame, patience, on_event)
            if reply is not None:
                self._check_status(reply)
                return reply.payload[NAME_BYTES:]
            silent = self._heard == heard_before
            if silent and self.tries >= _SILENT_TRIES:
                break
        waited_s = self.transport.now() - begin
        what = "nothing was received" if silent else self._what_came()
        raise NoReplyError(
            f"{self.transport.name}: no whole reply to {operation.name} in {self.tries} tries and"
            f" {waited_s:.1f} s: {what}; is the board still powered and connected?",
            silent=silent,
        )

    def _frame(self, operation: Operation, payload: bytes) -> Frame:
        self._sequence = (self._sequence + 1) & 0xFFFF
        return Frame(FrameType.REQUEST, self._sequence & 255, operation, self._sequence >> 8, payload)

    def _try(self, frame: Frame, patience: Patience, on_event: OnEvent | None) -> Frame | None:
        """The reply; None where the wait is over or what came was damaged."""
        wire = frame.to_bytes()
        self.transport.write(wire)
        wire_s = _BITS_A_BYTE * (len(wire) + FrameReader.MOST_BYTES // 4) / self.transport.baud
        wait_s = min(patience.first_s * 2 ** (self.tries - 1), max(_LONGEST_WAIT_S, patience.first_s)) + 3 * wire_s
        return self._await(frame.crc, wait_s, patience.working_s, on_event)

    def _await(self, name: int, wait_s: float, working_s: float, on_event: OnEvent | None) -> Frame | None:
        now = self.transport.now()
        deadline = now + wait_s
        bound = deadline + _EVENTS_EXTEND * working_s
        working = False
        damaged_before = self._reader.bad_frames
        while now < deadline:
            damaged = False
            for frame in self._reader.feed(self.transport.read(deadline - now)):
                self._check_version(frame)
                self._echoes += frame.type == FrameType.REQUEST
                if frame.type == FrameType.EVENT and frame.status == Status.BAD_FRAME:
                    damaged = True  # the board heard us, but not well
                elif int.from_bytes(frame.payload[:NAME_BYTES], "little") != name or len(frame.payload) < NAME_BYTES:
                    self._strangers += 1
                elif frame.type == FrameType.REPLY:
                    return frame
                elif frame.type == FrameType.EVENT:
                    working = True
                    deadline = min(bound, self.transport.now() + working_s)
                    _hand_over(frame.payload[NAME_BYTES:], on_event)
            damaged |= self._reader.bad_frames > damaged_before
            if damaged and not working:  # never disturb a board that computes
                self.damaged += 1
                return None
            now = self.transport.now()
        self._reader.flush()
        return None

    def _listen(self) -> None:
        """Lets a board that is booting say its lines: a request would come while it cannot listen."""
        end = self.transport.now() + _BOOT_TEXT_S
        while self.transport.now() < end:
            data = self.transport.read(_QUIET_S)
            if not data:
                break
            self._reader.feed(data)
        self._reader.flush()

    def _sync_within(self, seconds: float) -> bool:
        nonce = secrets.randbits(32) | 1
        self._sequence = nonce >> 16
        frame = self._frame(Operation.SYNC, nonce.to_bytes(4, "little"))
        end = self.transport.now() + seconds
        wait_s = _SHORTEST_WAIT_S / 2
        # A reset may have left half a frame, or noise a whole one: a delimiter ends it before ours begins.
        self.transport.write(b"\0\0")
        while (left_s := end - self.transport.now()) > 0:
            self.transport.write(frame.to_bytes())
            wait_s = min(2 * wait_s, 1.0)
            reply = self._await(frame.crc, min(wait_s, left_s), 0.0, None)
            if reply is not None:
                self._check_status(reply)
                return reply.payload[NAME_BYTES:] == frame.payload
        return False

    def _check_version(self, frame: Frame) -> None:
        if frame.version != VERSION:
            raise FirmwareError(
                f"{self.transport.name}: the board speaks version {frame.version} of the protocol,"
                f" this tinymbn version {VERSION}; flash firmware of this tinymbn"
            )

    def _check_status(self, reply: Frame) -> None:
        name, operation = self.transport.name, _name_of(Operation, reply.operation)
        match reply.status:
            case Status.OK:
                return
            case Status.NOT_SYNCED:
                raise BoardResetError(f"{name}: the board was reset while in use; try again, or look for a fault in it")
            case Status.VERSION | Status.UNKNOWN_OPERATION | Status.INCONSISTENT:
                status = _name_of(Status, reply.status)
                raise FirmwareError(
                    f"{name}: the board answers {status} to {operation}; flash firmware of this tinymbn"
                )
            case _:
                status = _name_of(Status, reply.status)
                raise RefusedError(f"{name}: the board refuses {operation}: {status}", reply.status)

    @property
    def _heard(self) -> int:
        """Pieces of anything received that was no whole frame."""
        return self._reader.noise_bytes + self._reader.bad_frames + self.damaged

    def _what_came(self) -> str:
        noise = self._reader.noise
        text = noise.decode("ascii", "replace")
        readable = sum((c.isprintable() and c.isascii()) or c in "\r\n\t" for c in text)
        if text and readable >= 0.9 * len(text):
            return f"text was received, not frames: {text.strip()[:60]!r}"
        return f"{self._reader.noise_bytes} bytes of garbage were received"

    def _nobody(self, waited_s: float) -> LinkError | DeviceError:
        self._reader.flush()
        name = self.transport.name
        if self._echoes:
            return LinkError(f"{name}: what is sent comes back, and nothing else; is RX wired to TX, or an echo on?")
        if self._strangers and not self._reader.noise_bytes:
            return LinkError(
                f"{name}: {self._strangers} frames within {waited_s:.1f} s, none an answer; reset the board"
            )
        if not self._reader.noise_bytes:
            return DeviceError(
                f"{name}: nothing received within {waited_s:.1f} s; is a board connected, powered and flashed,"
                " and the port closed elsewhere?"
            )
        hint = "is it another firmware?" if "text" in self._what_came() else "is it another baud rate or device?"
        return LinkError(f"{name}: no frame within {waited_s:.1f} s: {self._what_came()}; {hint}")


def _hand_over(event: bytes, on_event: OnEvent | None) -> None:
    if on_event is not None and event and event[0] in [kind.value for kind in EventKind]:
        on_event(EventKind(event[0]), event[1:])


def _name_of(kind: type[Operation] | type[Status], number: int) -> str:
    return kind(number).name if number in [member.value for member in kind] else f"number {number}"
