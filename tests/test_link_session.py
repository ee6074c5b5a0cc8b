"""The session against scripts: what it says when what comes is not what was asked for, and how long it takes."""

from __future__ import annotations

import errno
import os
import pty
import struct
import time
import tty
from collections.abc import Callable

import pytest
import serial

from tests.link_script import ScriptedTransport
from tinymbn.errors import DeviceError, FirmwareError, LinkError, TinymbnError
from tinymbn.link import messages, transport
from tinymbn.link.exchange import BAUDS, BoardResetError, Exchange, NoReplyError, Patience, RefusedError
from tinymbn.link.frame import Frame, FrameReader, FrameType
from tinymbn.link.messages import EventKind, Operation, Region, Status, unwrapped
from tinymbn.link.session import Session, open_session

Handler = Callable[[Frame], bytes]
GREETING = struct.pack("<4s5B5I", b"tmbn", 1, 1, 1, 1, 24, 1024, 16_000_000, 16_000_000, 0, 3)
GREETING += b"1.2\0stm32f7\0cortex-m7\0systick\0"


def reply(request: Frame, body: bytes = b"", status: int = Status.OK, version: int = 1) -> bytes:
    named = request.crc.to_bytes(4, "little") + body
    return Frame(FrameType.REPLY, request.sequence, request.operation, status, named, version).to_bytes()


def event(request: Frame, kind: EventKind, body: bytes = b"") -> bytes:
    named = request.crc.to_bytes(4, "little") + bytes([kind]) + body
    return Frame(FrameType.EVENT, request.sequence, request.operation, 0, named).to_bytes()


def scripted(handler: Handler, baud: int = 115200) -> ScriptedTransport:
    """A line on which each whole request goes to the handler; a SYNC is answered unless the handler does."""
    reader = FrameReader()

    def answer(data: bytes) -> bytes:
        return b"".join(handler(frame) for frame in reader.feed(data))

    return ScriptedTransport(answer, baud)


def in_sync(handler: Handler) -> Handler:
    """Answers SYNC and HELLO, and hands on the rest."""

    def answer(request: Frame) -> bytes:
        if request.operation == Operation.SYNC:
            return reply(request, request.payload)
        if request.operation == Operation.HELLO:
            return reply(request, len(GREETING).to_bytes(2, "little") + GREETING)
        return handler(request)

    return answer


def synced(handler: Handler) -> tuple[Session, ScriptedTransport]:
    line = scripted(in_sync(handler))
    session = Session(line)
    session.sync()
    session.hello()
    return session, line


class Once:
    """Answers with each of these in turn, then with the last for ever."""

    def __init__(self, *handlers: Handler) -> None:
        self._handlers = list(handlers)
        self.requests: list[Frame] = []

    def __call__(self, request: Frame) -> bytes:
        self.requests.append(request)
        return (self._handlers.pop(0) if len(self._handlers) > 1 else self._handlers[0])(request)


def silent(request: Frame) -> bytes:
    return b""


def stack_of(request: Frame) -> bytes:
    return reply(request, struct.pack("<II", 4096, 512))


@pytest.mark.parametrize(
    ("sent", "kind", "text"),
    [
        (b"", DeviceError, "script: nothing received within"),
        (b"\xf3\x9a\x80\xff" * 5, LinkError, "bytes of garbage were received; is it another baud rate"),
        (b"MicroPython v1.22 on 2024\r\n>>> ", LinkError, "text was received, not frames: 'MicroPython v1.22"),
        (Frame(2, 0, 1, 0, b"", version=3).to_bytes(), FirmwareError, "speaks version 3 of the protocol, this .* 1"),
    ],
)
def test_what_came_instead_of_an_answer_is_said_in_under_five_seconds(
    sent: bytes, kind: type[TinymbnError], text: str
) -> None:
    line = ScriptedTransport(lambda data: sent)
    with pytest.raises(kind, match=text) as raised:
        Exchange(line).sync()
    assert type(raised.value) is kind
    assert line.now() < 5
    assert line.baud == 115200  # as it was found


def test_a_port_that_repeats_what_is_sent_is_no_board() -> None:
    with pytest.raises(LinkError, match="what is sent comes back"):
        Exchange(ScriptedTransport(lambda data: data)).sync()


def test_nothing_connected_ends_in_under_five_real_seconds() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    begin = time.monotonic()
    with pytest.raises(DeviceError, match="nothing received"):
        open_session(os.ttyname(slave), 115200)
    assert time.monotonic() - begin < 5
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("actual", BAUDS)
def test_another_baud_rate_is_found(actual: int) -> None:
    line = scripted(in_sync(silent))
    right = line.answer
    line.answer = lambda data: right(data) if line.baud == actual else b"\xfe\x81"
    Session(line).sync()
    assert line.baud == actual


def test_stale_replies_and_noise_before_the_sync_are_dropped() -> None:
    old = reply(Frame(1, 9, Operation.STACK, 0, b""), b"12345678")
    line = scripted(lambda request: b"m-ready\r\n" + old + b"\x99\0" + in_sync(silent)(request))
    Exchange(line).sync()
    assert line.now() < 0.25  # it listened for boot lines, and then needed one try


def test_a_sync_of_another_nonce_is_not_ours() -> None:
    foreign = reply(Frame(1, 1, Operation.SYNC, 1, b"abcd"), b"abcd")
    with pytest.raises(LinkError, match=r"frames within .* none an answer"):
        Exchange(scripted(lambda request: foreign)).sync()


def test_a_lost_reply_is_asked_for_again_with_the_same_request() -> None:
    script = Once(silent, silent, stack_of)
    session, line = synced(script)
    begin = line.now()
    assert session.stack().used_bytes == 512
    assert len(script.requests) == 3
    assert len(set(script.requests)) == 1
    assert 0.75 < line.now() - begin < 2.5  # 0.25 s and 0.5 s, and the time on the wire


def test_a_silent_board_is_given_up_after_four_tries() -> None:
    script = Once(silent)
    session, line = synced(script)
    begin = line.now()
    with pytest.raises(NoReplyError, match=r"no whole reply to STACK in 4 tries and .* nothing was received"):
        session.stack()
    assert line.now() - begin < 8


def test_a_damaged_reply_is_asked_for_again_at_once() -> None:
    def damaged(request: Frame) -> bytes:
        whole = bytearray(stack_of(request))
        whole[9] ^= 4
        return bytes(whole)

    session, line = synced(Once(damaged, stack_of))
    begin = line.now()
    assert session.stack().reserved_bytes == 4096
    assert line.now() == begin


def test_text_before_a_reply_is_no_reason_to_ask_again() -> None:
    script = Once(lambda request: b"some text\r\n" + stack_of(request))
    session, line = synced(script)
    whole, pieces = line.read, list[bytes]()

    def byte_by_byte(timeout_s: float) -> bytes:
        if not pieces:
            pieces.extend(bytes([byte]) for byte in whole(timeout_s))
        return pieces.pop(0) if pieces else b""

    line.read = byte_by_byte  # type: ignore[method-assign]
    assert session.stack().used_bytes == 512
    assert len(script.requests) == 1


def test_a_board_that_heard_badly_is_told_again_at_once() -> None:
    complaint = Frame(FrameType.EVENT, 0, 0, Status.BAD_FRAME, bytes(4)).to_bytes()
    session, line = synced(Once(lambda request: complaint, stack_of))
    begin = line.now()
    assert session.stack().reserved_bytes == 4096
    assert line.now() == begin


def test_a_reply_to_another_request_is_never_taken() -> None:
    def stale(request: Frame) -> bytes:
        # Same sequence, same operation, whole: only the name of the request tells that it is old.
        other = Frame(1, request.sequence, request.operation, request.status ^ 1, request.payload)
        return reply(other, struct.pack("<II", 1, 1)) + stack_of(request)

    session, _ = synced(stale)
    assert session.stack().used_bytes == 512


def test_a_board_that_forgot_the_epoch_was_reset() -> None:
    session, _ = synced(lambda request: reply(request, status=Status.NOT_SYNCED))
    with pytest.raises(BoardResetError, match="the board was reset"):
        session.stack()


@pytest.mark.parametrize("status", [Status.VERSION, Status.UNKNOWN_OPERATION, Status.INCONSISTENT])
def test_a_firmware_that_cannot_is_another_firmware(status: Status) -> None:
    session, _ = synced(lambda request: reply(request, status=status))
    with pytest.raises(FirmwareError, match=f"answers {status.name} to STACK"):
        session.stack()


def test_an_unknown_status_is_said_by_number() -> None:
    session, _ = synced(lambda request: reply(request, status=77))
    with pytest.raises(RefusedError, match="refuses STACK: number 77"):
        session.stack()


def test_a_greeting_of_another_firmware_is_no_greeting() -> None:
    line = scripted(lambda request: reply(request, struct.pack("<H", 4) + b"NOPE"))
    with pytest.raises(FirmwareError, match="greets with b'NOPE'"):
        Session(line).hello()


@pytest.mark.parametrize("cut", range(4, len(GREETING)))
def test_a_greeting_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(FirmwareError):
        messages.to_hello(GREETING[:cut])


def test_a_description_that_never_ends_is_refused() -> None:
    line = scripted(lambda request: reply(request, struct.pack("<H", 100)))
    with pytest.raises(FirmwareError, match="does not add up"):
        Session(line).hello()


def test_frames_shrink_after_failures_and_grow_again() -> None:
    longest = [0]

    def short_alone(request: Frame) -> bytes:
        longest[0] = max(longest[0], len(request.payload))
        return reply(request) if len(request.payload) < 100 else b"\x07\x12 damaged\0"

    session, line = synced(short_alone)
    assert session.frame_data_bytes > 900
    written = bytes(range(256)) * 8
    session.write(Region.INPUT, 0, written)
    assert session.frame_data_bytes < 128
    assert longest[0] > 900
    session_line_answers_all = in_sync(reply)
    reader = FrameReader()
    line.answer = lambda data: b"".join(session_line_answers_all(frame) for frame in reader.feed(data))
    for _ in range(60):
        session.write(Region.INPUT, 0, written)
    assert session.frame_data_bytes > 900


def test_a_long_run_is_waited_for_while_it_reports() -> None:
    session, line = synced(silent)
    layers = list[int]()
    seconds = 30
    original = line.read

    def run(request: Frame) -> bytes:
        arrivals = [event(request, EventKind.ACCEPTED)]
        arrivals += [event(request, EventKind.PROGRESS, struct.pack("<H", k)) for k in range(seconds)]
        arrivals += [reply(request, struct.pack("<II", 5, 6))]
        later = iter(arrivals)

        def read(timeout_s: float) -> bytes:
            line.sleep(1.0)
            return next(later, b"")

        line.read = read  # type: ignore[method-assign]
        return b""

    line.answer = lambda data: b"".join(in_sync(run)(frame) for frame in FrameReader().feed(data))
    result = session.run(messages.RunFlag.TRACED, 0, expected_s=1.0, on_progress=layers.append)
    line.read = original  # type: ignore[method-assign]
    assert (result.ticks, result.output_crc32) == (5, 6)
    assert layers == list(range(seconds))
    assert line.now() > seconds


def test_a_board_that_reports_for_ever_is_given_up() -> None:
    session, line = synced(silent)

    def run(request: Frame) -> bytes:
        def read(timeout_s: float) -> bytes:
            line.sleep(0.5)
            return event(request, EventKind.PROGRESS, b"\0\0")

        line.read = read  # type: ignore[method-assign]
        return b""

    line.answer = lambda data: b"".join(in_sync(run)(frame) for frame in FrameReader().feed(data))
    with pytest.raises(NoReplyError):
        session._exchange.request(Operation.RUN, patience=Patience(1.0, 1.0), tries=2)
    assert line.now() < 100


def test_a_board_that_computes_is_not_disturbed_by_its_own_damaged_events() -> None:
    def run(request: Frame) -> bytes:
        broken = bytearray(event(request, EventKind.PROGRESS, b"\0\0"))
        broken[8] ^= 1
        return event(request, EventKind.ACCEPTED) + bytes(broken) + reply(request, struct.pack("<II", 5, 6))

    script = Once(run)
    session, _ = synced(script)
    assert session.run(messages.RunFlag.TRACED, 0, 1.0).ticks == 5
    assert len(script.requests) == 1


def test_rows_that_were_lost_are_asked_for_again_and_no_others() -> None:
    tensor = bytes(range(100))
    asked = list[tuple[int, int]]()

    def dump(request: Frame) -> bytes:
        if request.operation != Operation.DUMP:
            return reply(request)
        *_, begin, length, _ = struct.unpack("<HHHBIIIH", request.payload)
        asked.append((begin, length))
        sent = b""
        for at in range(begin, begin + length, 10):
            lost = len(asked) == 1 and at in (30, 60)
            sent += b"" if lost else event(request, EventKind.DATA, struct.pack("<I", at) + tensor[at : at + 10])
        outside = event(request, EventKind.DATA, struct.pack("<I", 95) + b"too long")
        return event(request, EventKind.ACCEPTED) + sent + outside + reply(request, struct.pack("<I", 100))

    session, _ = synced(dump)
    assert session.dump(1, 100, b"input", expected_s=1.0) == tensor
    assert asked == [(0, 100), (30, 40)]


def test_a_layer_of_another_size_is_another_firmware() -> None:
    session, _ = synced(lambda request: reply(request, struct.pack("<I", 99) if request.operation == 9 else b""))
    with pytest.raises(FirmwareError, match="layer 1 reports 99 bytes, expected 100"):
        session.dump(1, 100, b"input", expected_s=1.0)


def test_rows_that_never_come_are_an_error() -> None:
    session, _ = synced(lambda request: reply(request, struct.pack("<I", 100) if request.operation == 9 else b""))
    with pytest.raises(LinkError, match="100 of 100 bytes of layer 1 were lost in each of 12 tries"):
        session.dump(1, 100, b"input", expected_s=1.0)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(errno.EACCES, "denied"), "dialout"),
        (serial.SerialException(errno.EACCES, "denied"), "dialout"),
        (serial.SerialException(errno.EBUSY, "busy"), "in use by another program"),
        (serial.SerialException(errno.ENOENT, "none"), "no such port"),
        (serial.SerialException(errno.EIO, "strange"), "cannot be opened: .*strange"),
    ],
)
def test_a_port_that_does_not_open_says_why(monkeypatch: pytest.MonkeyPatch, error: OSError, text: str) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(DeviceError, match=text):
        transport.open_port("/dev/null", 115200)


def test_a_port_that_vanishes_is_a_link_error() -> None:
    master, slave = pty.openpty()
    line = transport.open_port(os.ttyname(slave), 115200)
    os.close(slave)
    os.close(master)
    with pytest.raises(LinkError, match="went away"):
        line.read(1.0)
    line.close()


@pytest.mark.parametrize(
    ("ticks", "bits", "estimate", "right"),
    [
        (5, 24, 6, 5),
        (5, 24, (1 << 24) + 9, (1 << 24) + 5),
        ((1 << 24) - 1, 24, (1 << 24) + 3, (1 << 24) - 1),
        (3, 24, (1 << 24) - 4, (1 << 24) + 3),
        (7, 32, 0, 7),
        ((1 << 24) - 1, 24, 0, (1 << 24) - 1),  # never negative
    ],
)
def test_a_counter_that_wrapped_is_read_by_the_estimate(ticks: int, bits: int, estimate: int, right: int) -> None:
    assert unwrapped(ticks, bits, estimate) == right
