"""MLPerf Tiny's text commands, driven as the official runner drives them: lines up to ``m-ready``, never flushed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
import serial

from tests.link_board import PtyBoard, board_program
from tests.link_model import INPUT_BYTES, layers_of, random_input
from tinymbn.link.messages import Region
from tinymbn.link.session import open_session

READY = "m-ready"
HEX_BYTES = 31  # a line of the runner without a power monitor


class Runner:
    """A terminal that reads byte by byte and ends each command with ``%``."""

    def __init__(self, path: str) -> None:
        self._port = serial.Serial(path, 115200, timeout=0.1)

    def close(self) -> None:
        self._port.close()

    def lines(self, wait_s: float = 5.0) -> list[str]:
        """The lines up to the next m-ready, which has to be the last."""
        found, line, end = list[str](), "", time.monotonic() + wait_s
        while time.monotonic() < end:
            letter = self._port.read(1).decode("ascii")  # anything but text is an error
            if letter == "\n":
                found.append(line)
                line = ""
                if READY in found[-1]:
                    return found
            elif letter and letter not in "\r\0":
                line += letter
        raise AssertionError(f"no {READY} after {found} {line!r}")

    def command(self, text: str) -> list[str]:
        """What it answers, without the m-ready at its end."""
        self._port.write(text.encode("ascii") + b"%")
        *lines, ready = self.lines()
        assert ready == READY
        return lines

    def raw(self, data: bytes) -> None:
        self._port.write(data)

    def silence(self) -> bytes:
        """What comes within a while without having been asked for."""
        time.sleep(0.1)
        return bytes(self._port.read(self._port.in_waiting))

    def load(self, pixels: bytes) -> None:
        assert self.command(f"db load {len(pixels)}") == [f"m-[Expecting {len(pixels)} bytes]"]
        for at in range(0, len(pixels), HEX_BYTES):
            last = at + HEX_BYTES >= len(pixels)
            assert self.command(f"db {pixels[at : at + HEX_BYTES].hex()}") == (["m-load-done"] if last else [])


@pytest.fixture
def board() -> Iterator[PtyBoard]:
    with PtyBoard(board_program(), wait=True) as waiting:
        yield waiting


@pytest.fixture
def runner(board: PtyBoard) -> Iterator[Runner]:
    yield from _booted(board)


@pytest.fixture
def forgetful() -> Iterator[Runner]:
    """A board without room for the frame beside the arena."""
    with PtyBoard(board_program(input_stays=False), wait=True) as waiting:
        yield from _booted(waiting)


def _booted(board: PtyBoard) -> Iterator[Runner]:
    opened = Runner(board.port)
    board.reset()
    assert opened.lines() == ["m-timestamp-mode-performance", "m-lap-us-0", "m-init-done", READY]
    yield opened
    opened.close()


def _pixels(seed: int) -> bytes:
    """A picture whose int8 form is the input of this seed."""
    return bytes((byte + 128) & 255 for byte in random_input(seed))


def _results(seed: int) -> str:
    output = layers_of(random_input(seed))[-1]
    probabilities = [(int.from_bytes([byte], "little", signed=True) + 128) / 256 for byte in output]
    return "m-results-[" + ",".join(f"{p:0.3f}" for p in probabilities) + "]"


def test_the_board_says_who_it_is(runner: Runner) -> None:
    assert runner.command("name") == ["m-name-dut-[tinymbn stand-in]"]
    assert runner.command("profile") == ["m-profile-[ULPMark for tinyML Firmware V0.0.1]", "m-model-[vww01]"]
    assert len(runner.command("help")) == 4


def test_time_goes_by_in_microseconds(runner: Runner) -> None:
    begin = time.monotonic()
    laps = []
    for _ in range(2):
        (line,) = runner.command("timestamp")
        laps.append(int(re.fullmatch(r"m-lap-us-(\d+)", line).group(1)))  # type: ignore[union-attr]
        time.sleep(0.3)
    assert 290_000 <= laps[1] - laps[0] <= (time.monotonic() - begin) * 1e6


@pytest.mark.parametrize("seed", range(3))
def test_a_picture_is_loaded_and_classified(runner: Runner, seed: int) -> None:
    runner.load(_pixels(seed))
    lines = runner.command("infer 1 0")
    assert lines[:3] == ["m-warmup-start-0", "m-warmup-done", "m-infer-start-1"]
    laps = [int(re.fullmatch(r"m-lap-us-(\d+)", line).group(1)) for line in lines[3:5]]  # type: ignore[union-attr]
    assert laps[0] <= laps[1]
    assert lines[5:] == ["m-infer-done", _results(seed)]
    assert runner.command("results") == [_results(seed)]


def test_any_number_of_inferences_of_one_picture_has_its_result(runner: Runner) -> None:
    for seed in (4, 5):
        runner.load(_pixels(seed))
        assert runner.command("infer 5 3")[-1] == _results(seed)
        lines = runner.command("infer")
        assert (lines[0], lines[-1]) == ("m-warmup-start-10", _results(seed))
        assert runner.command("results") == [_results(seed)]


def test_the_buffer_is_printed_before_an_inference_and_after(runner: Runner) -> None:
    pixels = _pixels(6)[:11]
    runner.load(pixels)
    printed = ["m-buffer-" + pixels[:8].hex("-"), "m-buffer-" + pixels[8:].hex("-")]
    assert runner.command("db print") == printed
    runner.command("infer 2 1")
    assert runner.command("db print") == printed


def test_a_picture_may_be_loaded_in_between_inferences(runner: Runner) -> None:
    runner.load(_pixels(1))
    pixels = _pixels(2)
    runner.command(f"db load {len(pixels)}")
    runner.command(f"db {pixels[:HEX_BYTES].hex()}")
    runner.command("infer 3 0")  # of what is there by now
    for at in range(HEX_BYTES, len(pixels), HEX_BYTES):
        runner.command(f"db {pixels[at : at + HEX_BYTES].hex()}")
    assert runner.command("infer 1 1")[-1] == _results(2)


NO_ROOM = (
    "e-[infer: {} runs; a run overwrites the input and RAM has no room for a copy, so one at a time: "
    "db load, infer 1 0]"
)
OVERWRITTEN = "e-[infer: the last run overwrote the input; db load it again]"


@pytest.mark.parametrize(("command", "runs"), [("infer 2 0", 2), ("infer 1 1", 2), ("infer", 11), ("infer 5 3", 8)])
def test_without_room_for_the_frame_more_than_one_inference_is_refused(
    forgetful: Runner, command: str, runs: int
) -> None:
    forgetful.load(_pixels(4))
    assert forgetful.command(command) == [NO_ROOM.format(runs)]
    assert forgetful.silence() == b""
    assert forgetful.command("infer 1 0")[-1] == _results(4)  # the picture is still there


def test_without_room_for_the_frame_each_picture_is_inferred_once(forgetful: Runner) -> None:
    for seed in (4, 5):
        forgetful.load(_pixels(seed))
        assert forgetful.command("db print")[0].startswith("m-buffer-")
        assert forgetful.command("infer 1 0")[-1] == _results(seed)
        assert forgetful.command("infer 1 0") == forgetful.command("infer 2 0") == [OVERWRITTEN]
        assert forgetful.command("db print") == ["e-[db print: nothing is loaded, or an inference overwrote it]"]
        assert forgetful.command("db 00") == ["e-[db: no db load before 00]"]
        assert forgetful.command("results") == [_results(seed)]


def test_without_room_half_a_picture_does_not_bring_back_one_that_was_overwritten(forgetful: Runner) -> None:
    forgetful.load(_pixels(4))
    forgetful.command("infer 1 0")
    forgetful.command(f"db load {INPUT_BYTES}")
    forgetful.command("db 0011")
    assert forgetful.command("infer 1 0") == [OVERWRITTEN]


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("x", "e-[Unknown command: x]"),
        ("", "e-[Unknown command: ]"),
        ("names", "e-[Unknown command: names]"),
        ("db", "e-[db: load, print or hexadecimal digits]"),
        ("db load", "e-[db load: how many bytes, at least 1, not ]"),
        ("db load 0", "e-[db load: how many bytes, at least 1, not 0]"),
        ("db load -5", "e-[db load: how many bytes, at least 1, not -5]"),
        (f"db load {INPUT_BYTES + 1}", "e-[db load: 481 bytes exceed the input's 480]"),
        ("db load 99999999999", "e-[db load: how many bytes, at least 1, not 99999999999]"),
        ("db 00", "e-[db: no db load before 00]"),
        ("infer 0", "e-[infer: inferences are 1 to 1000000, not 0]"),
        ("infer 1 x", "e-[infer: warm-ups are 0 to 1000000, not x]"),
        ("x" * 81, f"e-[Command longer than 80 characters: {'x' * 80}]"),
    ],
)
def test_what_makes_no_sense_is_refused_with_one_ready(runner: Runner, command: str, answer: str) -> None:
    assert runner.command(command) == [answer]
    assert runner.silence() == b""


def test_digits_that_are_none_store_nothing(runner: Runner) -> None:
    runner.command("db load 2")
    assert runner.command("db 0") == ["e-[db: odd number of hexadecimal digits: 0]"]
    assert runner.command("db 0g") == ["e-[db: not hexadecimal: 0g]"]
    assert runner.command("db aB01ff") == ["m-load-done"]  # what exceeds the count is dropped
    assert runner.command("db print") == ["m-buffer-ab-01"]
    assert runner.command("db 00") == ["e-[db: no db load before 00]"]


def test_a_modem_manager_disturbs_nobody(runner: Runner) -> None:
    runner.raw(b"AT\r\n")
    assert runner.silence() == b""
    assert runner.command("name") == ["m-name-dut-[tinymbn stand-in]"]


def test_noise_before_a_command_costs_one_command_at_most(runner: Runner) -> None:
    runner.raw(bytes(set(range(256)) - set(b"%")))
    assert runner.silence() == b""  # never binary to somebody who has said no frame
    assert runner.command("name")[0] in ("m-name-dut-[tinymbn stand-in]", "e-[Unknown command: name]")
    assert runner.command("name") == ["m-name-dut-[tinymbn stand-in]"]


def test_text_then_frames_then_noise_then_text(board: PtyBoard) -> None:
    data = random_input(2)
    board.reset()
    for seed in range(2):
        runner = Runner(board.port)
        runner.silence()
        runner.load(_pixels(seed))
        assert runner.command("infer 1 0")[-1] == _results(seed)
        runner.close()
        with open_session(board.port, 115200) as session:
            session.infer(data, traced=True, expected_s=0.1)
            assert session.read(Region.OUTPUT, 0, 5) == layers_of(data)[-1]
            session.transport.write(bytes([7, 0, 200, 9, 0, 1]) + bytes(range(128, 256)))
            time.sleep(0.1)  # half a frame is dropped after 50 ms
            session.transport.discard()


def test_frames_take_the_loaded_picture_away(runner: Runner, board: PtyBoard) -> None:
    runner.load(_pixels(0))
    runner.close()
    with open_session(board.port, 115200) as session:
        session.write(Region.INPUT, 0, b"x")
    again = Runner(board.port)
    assert again.command("db print")[0].startswith("e-[")
    again.close()


def test_text_may_follow_a_frame_without_a_pause(board: PtyBoard) -> None:
    board.reset()
    with open_session(board.port, 115200) as session:
        session.echo(b"x")
        session.transport.write(b"name%")
        answer = b""
        while b"m-ready\r\n" not in answer:
            piece = session.transport.read(2.0)
            assert piece, answer
            answer += piece
    assert answer == b"m-name-dut-[tinymbn stand-in]\r\nm-ready\r\n"
