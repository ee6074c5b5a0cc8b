"""A board with the firmware of the model that ships, over its serial line: what it computes, and how it speaks.

``pytest -m hardware --board B [--port P]`` on a board that ``tinymbn deploy --board B`` was run for; with
``--emulate`` the firmware is built and run in the board's emulator.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.firmwares import PICTURES, firmware, mistakes, model
from tests.graphs import classifier
from tinymbn.board import Board, load_board
from tinymbn.board_rules import reachable_bauds
from tinymbn.connection import Connection
from tinymbn.errors import FirmwareError
from tinymbn.link.session import Session
from tinymbn.profile import profile
from tinymbn.stimuli import stimuli
from tinymbn.verify import identify, verify
from tinymbn.workbench import Request, open_bench

pytestmark = pytest.mark.hardware

ECHOES = 500
TEXT_S = 5.0


@pytest.fixture(scope="module")
def wanted(request: pytest.FixtureRequest) -> Request:
    """The firmware on the board, or in its emulator."""
    board = load_board(request.config.getoption("--board"))
    found = Request(
        graph=model(),
        board=board,
        emulate=request.config.getoption("--emulate"),
        port=request.config.getoption("--port"),
    )
    return replace(found, folder=firmware(board.name)) if found.emulated else found


@pytest.fixture
def board(wanted: Request) -> Board:
    return wanted.board


@pytest.fixture
def connection(wanted: Request) -> Iterator[Connection]:
    with open_bench(wanted) as bench:
        yield bench.connection


@pytest.fixture
def session(connection: Connection) -> Session:
    return connection.session


def test_every_byte_of_every_layer_is_the_references(connection: Connection, board: Board) -> None:
    verdict = verify(connection, identify(connection, model(), board), stimuli(model(), PICTURES, 6, 0))
    assert verdict.equal, verdict.first_difference and verdict.first_difference.text
    assert len(verdict.inputs) == len(PICTURES) + 6
    assert not mistakes(verdict.remarks)


def test_another_model_is_refused(connection: Connection, board: Board) -> None:
    with pytest.raises(FirmwareError, match="holds another model"):
        identify(connection, classifier(), board)


def test_the_line_carries_every_byte_and_every_length(session: Session) -> None:
    chance = random.Random(1)
    before = session.counters()
    for number in range(ECHOES):
        data = chance.randbytes(chance.randrange(session.frame_data_bytes + 1))
        assert session.echo(data) == data, f"echo {number}"
    after = session.counters()
    assert (after.overruns, after.bad_frames) == (before.overruns, before.bad_frames)


def test_a_reset_board_comes_back_as_it_was(session: Session, connection: Connection) -> None:
    session.reset()
    session.sync()
    assert session.hello() == connection.hello
    assert session.echo(b"after the reset") == b"after the reset"


def test_baud_rates_change_and_change_back(session: Session, board: Board) -> None:
    before = session.transport.baud
    rates = reachable_bauds(board) or (before,)
    for baud in (*rates, before):
        assert session.set_baud(baud), baud
        assert session.echo(bytes(range(64))) == bytes(range(64)), baud


def answer(session: Session, command: bytes) -> list[str]:
    """What a text command answers, up to the line that ends every answer."""
    transport = session.transport
    transport.write(command)
    said, end = b"", time.monotonic() + TEXT_S
    while b"m-ready\r\n" not in said and time.monotonic() < end:
        said += transport.read(0.1)
    return said.decode("ascii").split("\r\n")


def test_the_text_commands_of_mlperf_tiny_are_answered_in_between(session: Session, board: Board) -> None:
    assert answer(session, b"name%") == [f"m-name-dut-[tinymbn {board.name}]", "m-ready", ""]
    assert "m-model-[model]" in answer(session, b"profile%")
    assert answer(session, b"what%") == ["e-[Unknown command: what]", "m-ready", ""]
    assert session.echo(b"frames again") == b"frames again"


def test_one_picture_has_the_same_result_each_time(connection: Connection, session: Session) -> None:
    (stimulus,) = stimuli(model(), PICTURES[:1], 0, 0)
    session.infer(stimulus.values.tobytes(), traced=False, expected_s=5.0)
    once = answer(session, b"infer 1 0%")
    assert once[-3].startswith("m-results-[")
    assert answer(session, b"infer 3 2%")[-3:] == once[-3:]


def test_stack_and_faults_are_as_they_should_be(connection: Connection, session: Session, board: Board) -> None:
    verify(connection, identify(connection, model(), board), stimuli(model(), [], 1, 0))
    stack = session.stack()
    assert board.is_host or 0 < stack.used_bytes < stack.reserved_bytes
    assert session.fault() is None


def test_the_clock_is_what_the_board_says(connection: Connection, session: Session) -> None:
    assert connection.hello.board_status == 0
    if connection.machine is None:  # an emulator's clock has nothing to do with this computer's
        hello = connection.hello
        assert session.measure_counter_hz(hello.counter_bits, 1.0) == pytest.approx(hello.counter_hz, rel=0.02)


def test_a_network_takes_as_long_each_time(connection: Connection, board: Board) -> None:
    if connection.machine is not None:
        pytest.skip("an emulator's time varies")
    identity = identify(connection, model(), board)
    first, second = (profile(connection, identity, next(stimuli(model(), [], 1, 0)), 3) for _ in range(2))
    assert second.total == pytest.approx(first.total, rel=0.01)
    assert sum(cost.count for cost in first.layers) == pytest.approx(first.total, rel=0.1)
