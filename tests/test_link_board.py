"""A session with the board's own C, by pyserial over a pseudo-terminal, under sanitizers."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator

import pytest

from tests.link_board import PtyBoard, board_program
from tests.link_model import (
    CONSTANTS,
    INPUT_BYTES,
    LAYER_BYTES,
    OUTPUT_BYTES,
    ROW_BYTES,
    ROWS,
    layers_of,
    random_input,
    scaled_rows,
)
from tinymbn.errors import DeviceError, FirmwareError
from tinymbn.link import messages
from tinymbn.link.exchange import BoardResetError, Exchange, RefusedError
from tinymbn.link.frame import Frame, FrameReader
from tinymbn.link.messages import LayerRecord, LayerRows, Operation, Region, RunFlag, Status
from tinymbn.link.session import Session, open_session
from tinymbn.link.transport import SerialTransport, open_port

LAYERS = len(LAYER_BYTES)
GUARDED = RunFlag.TRACED | RunFlag.GUARDED
ALONE = RunFlag.TRACED | RunFlag.ALONE


@pytest.fixture
def board() -> Iterator[PtyBoard]:
    with PtyBoard(board_program()) as running:
        yield running


@pytest.fixture
def session(board: PtyBoard) -> Iterator[Session]:
    with open_session(board.port, 115200) as opened:
        yield opened


@pytest.fixture
def forgetful() -> Iterator[Session]:
    """A session with a board whose frame lies in the arena, where a run overwrites it."""
    with (
        PtyBoard(board_program(input_stays=False)) as running,
        open_session(running.port, 115200) as opened,
    ):
        yield opened


def _expected(data: bytes) -> list[tuple[int, int]]:
    return [(len(output), zlib.crc32(output)) for output in layers_of(data)]


def _reported(records: tuple[LayerRecord, ...]) -> list[tuple[int, int]]:
    return [(record.bytes, record.crc32) for record in records]


def test_the_greeting_names_board_and_firmware(session: Session) -> None:
    hello = session.hello()
    assert (hello.board, hello.core, hello.version, hello.counter) == ("stand-in", "pc", "0.0.test", "nanoseconds")
    assert (hello.rx_max, hello.counter_bits, hello.counter_hz, hello.board_status) == (128, 32, 10**9, 0)


def test_a_description_longer_than_a_frame_comes_whole(session: Session) -> None:
    model = session.model()
    assert model.sha256 == "deadbeef01020304" + "0" * 48
    assert (model.input_bytes, model.output_bytes, model.arena_bytes) == (INPUT_BYTES, OUTPUT_BYTES, 2 * INPUT_BYTES)
    assert (model.layers, model.name) == (LAYERS, "vww01")
    assert len(model.options) > 128
    assert model.options.endswith("as it does here")


def test_constants_have_one_crc_a_layer_and_zero_without_any(session: Session) -> None:
    assert session.constants(LAYERS) == CONSTANTS


def test_constants_that_take_seconds_have_the_same_crcs() -> None:
    with (
        PtyBoard(board_program(), {"BOARD_LATE": "1"}) as late,
        open_session(late.port, 115200) as session,
    ):
        assert session.constants(LAYERS) == CONSTANTS  # events between two layers leave the first one's


@pytest.mark.parametrize("seed", range(3))
def test_a_traced_run_reports_every_layer_as_computed_here(session: Session, seed: int) -> None:
    data = random_input(seed)
    result = session.infer(data, traced=True, expected_s=0.1)
    records = session.records(LAYERS)
    assert _reported(records) == _expected(data)
    assert result.output_crc32 == zlib.crc32(layers_of(data)[-1])
    assert result.ticks == sum(record.ticks for record in records) > 0


def test_a_run_of_seconds_reports_the_layer_it_is_at() -> None:
    data, layers = random_input(0), list[int]()
    with (
        PtyBoard(board_program(), {"BOARD_SLOW": "1"}) as slow,
        open_session(slow.port, 115200) as session,
    ):
        session.infer(data, traced=True, expected_s=0.5, on_progress=layers.append)
        assert _reported(session.records(LAYERS)) == _expected(data)
    assert layers
    assert set(layers) <= {0, 1, 2}


def test_a_plain_run_gives_the_output_and_no_records(session: Session) -> None:
    data = random_input(7)
    result = session.infer(data, traced=False, expected_s=0.1)
    assert session.read(Region.OUTPUT, 0, OUTPUT_BYTES) == layers_of(data)[-1]
    assert result.output_crc32 == zlib.crc32(layers_of(data)[-1])
    assert result.ticks > 0
    assert _reported(session.records(LAYERS)) == [(0, 0)] * LAYERS


@pytest.mark.parametrize("layer", range(LAYERS))
def test_dump_brings_the_rows_of_a_layer(session: Session, layer: int) -> None:
    data = random_input(11)
    assert session.dump(layer, LAYER_BYTES[layer], data, expected_s=0.1) == layers_of(data)[layer]


def test_a_layer_alone_works_on_what_was_put_into_the_arena(session: Session) -> None:
    outputs = layers_of(random_input(3))
    whole = LayerRows(1, 0, ROWS)
    # mix() reads the arena's second half.
    feed = [(Region.ARENA, INPUT_BYTES, outputs[0])]
    record = session.run_alone(whole, feed, expected_s=0.1)
    assert (record.index, record.bytes, record.crc32) == (1, INPUT_BYTES, zlib.crc32(outputs[1]))
    assert session.dump_alone(whole, INPUT_BYTES, feed, expected_s=0.1) == outputs[1]


def test_rows_of_a_layer_alone_need_those_that_they_read_alone(session: Session) -> None:
    outputs = layers_of(random_input(3))
    for first, count in ((4, 1), (5, 1), (6, 3)):
        feed = [(Region.ARENA, *row) for row in scaled_rows(outputs, *range(first, first + count + 1))]
        rows, expected = LayerRows(1, first, count), outputs[1][first * ROW_BYTES : (first + count) * ROW_BYTES]
        assert session.dump_alone(rows, len(expected), feed, expected_s=0.1) == expected
        record = session.run_alone(rows, feed, expected_s=0.1)
        assert (record.bytes, record.crc32) == (len(expected), zlib.crc32(expected))


def test_a_frame_of_its_own_place_is_run_again_with_the_same_result(session: Session) -> None:
    data = random_input(5)
    session.infer(data, traced=True, expected_s=0.1)
    first = session.records(LAYERS)
    for _ in range(3):
        session.run(GUARDED, zlib.crc32(data), 0.1)
        assert _reported(session.records(LAYERS)) == _reported(first) == _expected(data)
    assert session.read(Region.INPUT, 0, INPUT_BYTES) == data


def test_a_frame_that_was_overwritten_is_not_run_again(forgetful: Session) -> None:
    data = random_input(5)
    forgetful.infer(data, traced=True, expected_s=0.1)
    with pytest.raises(RefusedError, match="INPUT_DIFFERS"):
        forgetful.run(GUARDED, zlib.crc32(data), 0.1)


def test_a_frame_that_was_overwritten_is_written_again_by_whoever_wants_it_run(forgetful: Session) -> None:
    data = random_input(5)
    for traced in (True, False, True):
        forgetful.infer(data, traced=traced, expected_s=0.1)
        assert forgetful.read(Region.OUTPUT, 0, OUTPUT_BYTES) == layers_of(data)[-1]
        assert forgetful.dump(1, INPUT_BYTES, data, expected_s=0.1) == layers_of(data)[1]
    assert _reported(forgetful.records(LAYERS)) == _expected(data)


def test_a_frame_that_lies_there_is_not_sent_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    data, sent = random_input(5), list[int]()
    write = session.transport.write

    def counted(data: bytes) -> None:
        sent.append(len(data))
        write(data)

    monkeypatch.setattr(session.transport, "write", counted)
    session.infer(data, traced=True, expected_s=0.1)
    assert sum(sent) > INPUT_BYTES
    sent.clear()
    session.infer(data, traced=False, expected_s=0.1)
    assert session.dump(1, INPUT_BYTES, data, expected_s=0.1) == layers_of(data)[1]
    assert sum(sent) < INPUT_BYTES
    other = random_input(6)
    session.infer(other, traced=False, expected_s=0.1)
    assert session.read(Region.OUTPUT, 0, OUTPUT_BYTES) == layers_of(other)[-1]


def test_a_repeated_request_is_answered_from_memory() -> None:
    with PtyBoard(board_program(input_stays=False)) as board:
        _ask_three_times(open_port(board.port, 115200))


def _ask_three_times(transport: SerialTransport) -> None:
    exchange = Exchange(transport)
    exchange.sync()
    data = random_input(9)
    for at in range(0, INPUT_BYTES, 96):
        exchange.request(Operation.WRITE, messages.write(Region.INPUT, at, data[at : at + 96]))
    run = Frame(1, 200, Operation.RUN, 0, messages.run(GUARDED, zlib.crc32(data)))
    replies = []
    for _ in range(3):
        transport.write(run.to_bytes())
        reader, found = FrameReader(), list[Frame]()
        end = time.monotonic() + 2
        while not any(frame.type == 2 for frame in found) and time.monotonic() < end:
            found += reader.feed(transport.read(0.2))
        replies.append(found)
    assert [len(found) for found in replies] == [2, 1, 1]  # accepted and reply, then the reply alone
    assert replies[0][1] == replies[1][0] == replies[2][0]
    assert replies[0][1].status == Status.OK  # a second run would have refused its destroyed input
    transport.close()


def test_regions_end_where_they_end(session: Session) -> None:
    for region, size in ((Region.INPUT, INPUT_BYTES), (Region.ARENA, 2 * INPUT_BYTES), (Region.OUTPUT, OUTPUT_BYTES)):
        assert len(session.read(region, size - 1, 1)) == 1
        assert session.crc(region, 0, size) == zlib.crc32(session.read(region, 0, size))
        assert session.crc(region, size, 0) == 0
        for offset, length in ((size, 1), (size - 1, 2), (0xFFFFFFFF, 1), (2, size - 1)):
            with pytest.raises(RefusedError, match="BAD_ARGUMENT"):
                session.crc(region, offset, length)
    for region in (Region.OUTPUT, Region.RECORDS):
        with pytest.raises(RefusedError, match="BAD_ARGUMENT"):
            session.write(region, 0, b"x")


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        (Operation.RUN, messages.run(RunFlag.TRACED, 0, LayerRows(1))),
        (Operation.RUN, messages.run(RunFlag.TRACED, 0, LayerRows(0, 0, ROWS))),
        (Operation.RUN, messages.run(RunFlag(8), 0)),
        (Operation.RUN, messages.run(ALONE, 0, LayerRows(LAYERS, 0, 1))),
        (Operation.RUN, messages.run(ALONE, 0, LayerRows(0, 0, 0))),
        (Operation.RUN, messages.run(ALONE, 0, LayerRows(0, 0, ROWS + 1))),
        (Operation.RUN, messages.run(ALONE, 0, LayerRows(0, ROWS, 1))),
        (Operation.RUN, messages.run(ALONE, 0, LayerRows(1, ROWS - 1, 2))),
        (Operation.RUN, messages.run(ALONE, 0, LayerRows(1, 0xFFFF, 0xFFFF))),
        (Operation.RUN, messages.run(ALONE, 0, LayerRows(2, 1, 1))),
        (Operation.RUN, messages.run(RunFlag.ALONE, 0, LayerRows(0, 0, 1))),
        (Operation.RUN, messages.run(RunFlag.TRACED, 0)[:-1]),
        (Operation.DUMP, messages.dump(LayerRows(LAYERS), RunFlag.TRACED, 0, 0, 1, 1)),
        (Operation.DUMP, messages.dump(LayerRows(0, 1, 1), RunFlag.TRACED, 0, 0, 1, 1)),
        (Operation.DUMP, messages.dump(LayerRows(0, 0, ROWS + 1), ALONE, 0, 0, 1, 1)),
        (Operation.DUMP, messages.dump(LayerRows(0), RunFlag.TRACED, 0, 0xFFFFFFFF, 1, 1)),
        (Operation.DUMP, messages.dump(LayerRows(0), RunFlag.TRACED, 0, 0, 1, 0)),
        (Operation.CONSTANTS, messages.constants(LAYERS, 1)),
        (Operation.CONSTANTS, messages.constants(0xFFFF, 0xFFFF)),
        (Operation.READ, messages.read(Region.INPUT, 0, 200)),  # more than a frame carries
        (Operation.FAULT, b"\2"),
        (Operation.STACK, b"\0"),
        (Operation.SYNC, bytes(4)),
    ],
)
def test_senseless_arguments_are_refused(
    board: PtyBoard,
    operation: Operation,
    arguments: bytes,
) -> None:
    exchange = Exchange(open_port(board.port, 115200))
    exchange.sync()
    with pytest.raises(RefusedError, match="BAD_ARGUMENT"):
        exchange.request(operation, arguments)
    exchange.transport.close()


def test_an_operation_nobody_knows_is_another_firmware(board: PtyBoard) -> None:
    exchange = Exchange(open_port(board.port, 115200))
    exchange.sync()
    with pytest.raises(FirmwareError, match="UNKNOWN_OPERATION to NONE"):
        exchange.request(Operation.NONE)
    exchange.transport.close()


def test_another_version_of_the_protocol_is_answered_as_such(board: PtyBoard) -> None:
    transport = open_port(board.port, 115200)
    transport.write(Frame(1, 1, Operation.HELLO, 0, b"\0\0", version=2).to_bytes())
    reader, found = FrameReader(), list[Frame]()
    end = time.monotonic() + 2
    while not found and time.monotonic() < end:
        found = reader.feed(transport.read(0.2))
    assert [frame.status for frame in found] == [Status.VERSION]
    transport.close()


def test_before_a_sync_the_board_says_hello_alone(board: PtyBoard) -> None:
    exchange = Exchange(open_port(board.port, 115200))
    assert exchange.request(Operation.HELLO, messages.piece(0))
    with pytest.raises(BoardResetError):
        exchange.request(Operation.STACK)
    exchange.transport.close()


def test_a_reset_is_noticed_and_the_session_goes_on_after_a_sync(board: PtyBoard, session: Session) -> None:
    data = random_input(1)
    session.write(Region.INPUT, 0, data)
    board.reset()
    with pytest.raises(BoardResetError, match="reset"):
        session.run(GUARDED, zlib.crc32(data), 0.1)
    session.sync()
    session.infer(data, traced=True, expected_s=0.1)
    assert _reported(session.records(LAYERS)) == _expected(data)


def test_reset_on_request_forgets_everything(session: Session) -> None:
    session.reset()
    with pytest.raises(BoardResetError):
        session.stack()
    session.sync()
    assert session.stack().used_bytes == 1000


def test_the_fault_record_is_read_and_cleared() -> None:
    with (
        PtyBoard(board_program(), {"BOARD_FAULT": "1"}) as faulty,
        open_session(faulty.port, 115200) as session,
    ):
        fault = session.fault(clear=True)
        assert fault is not None
        assert (fault.count, fault.pc, fault.lr, fault.psr, fault.sp) == (2, 0x08001234, 0x08004321, 3, 0x20001000)
        assert (fault.cfsr, fault.hfsr, fault.mmfar, fault.bfar) == (0x8200, 0x40000000, 7, 0xDEADBEEF)
        assert session.fault() is None


def test_stack_counters_and_echo(session: Session) -> None:
    assert session.stack() == messages.StackUse(4096, 1000)
    assert session.echo(bytes(range(100))) == bytes(range(100))
    assert session.counters().bad_frames == 0
    assert session.measure_counter_hz(32, 0.1) == pytest.approx(1e9, rel=0.1)


def test_the_baud_rate_changes_if_both_sides_can(session: Session) -> None:
    assert session.set_baud(921600)
    assert session.transport.baud == 921600
    assert not session.set_baud(1000)  # the stand-in refuses less than 1200
    assert session.transport.baud == 921600
    assert session.stack().reserved_bytes == 4096


def test_noise_and_half_frames_before_a_session_do_no_harm(board: PtyBoard) -> None:
    transport = open_port(board.port, 115200)
    transport.write(b"AT\r\nAT+CGMI\r" + bytes(range(256)) * 3 + b"\0\x07half a frame")
    transport.close()
    with open_session(board.port, 115200) as session:
        assert session.constants(LAYERS) == CONSTANTS


def test_a_port_has_one_user(session: Session) -> None:
    with pytest.raises(DeviceError, match="in use by another program"):
        open_port(session.transport.name, 115200)


def test_no_such_port_is_said() -> None:
    with pytest.raises(DeviceError, match="/dev/ttyNONE: no such port"):
        open_port("/dev/ttyNONE", 115200)
