"""What does not fit is told by how many bytes, with the largest sizes that do; both hold when they are planned."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.firmwares import firmware, model, require_tools
from tests.graphs import classifier
from tests.shared import needs_shared
from tinymbn.bench_report import plan_values
from tinymbn.board import Board, known_boards, load_board
from tinymbn.build import memory_usage
from tinymbn.elf import read_sections
from tinymbn.errors import ModelError, PlanError
from tinymbn.firmware import write_firmware
from tinymbn.graph import Graph
from tinymbn.image import int8_pixel_table
from tinymbn.link.session import Session
from tinymbn.project_file import read_project
from tinymbn.stimuli import stimuli
from tinymbn.verify import identify, verify
from tinymbn.workbench import Request, build_folder, open_bench
from tinymbn_codegen.budget import FRAME_BUFFER_SPARE_BYTES, frame_buffer_bytes, make_budget
from tinymbn_codegen.fit import Size, largest_sizes, require_fit
from tinymbn_codegen.options import Options
from tinymbn_codegen.plan import Plan, make_plan
from tinymbn_codegen.project import library_files
from tinymbn_codegen.rescale import rescale, smaller_sizes

OPTIONS = Options()


def with_ram(board: Board, kib: int) -> Board:
    """The board with another size of the memory that the arena is in."""
    memory = tuple(replace(m, size=kib * 1024) if "arena" in m.use else m for m in board.memory)
    return replace(board, memory=memory)


def missing(graph: Graph, board: Board) -> int:
    """Bytes, dead channels included: a rescaled graph has no others."""
    room = make_budget(make_plan(graph, Options(without=frozenset({"dead_channels"})), ""), board).missing
    return room.missing if room is not None else 0


def test_what_fits_passes_and_says_nothing() -> None:
    plan, board = make_plan(model(), OPTIONS, ""), load_board("qemu-m0")
    require_fit(model(), plan, board, make_budget(plan, board))


def test_each_memory_that_is_too_small_is_told_the_worst_first() -> None:
    plan, board = make_plan(model(), OPTIONS, ""), load_board("qemu-m0")
    small = {"ram": 4096, "flash": 8192}
    board = replace(board, memory=tuple(replace(m, size=small.get(m.kind, m.size)) for m in board.memory))
    budget = make_budget(plan, board)
    with pytest.raises(PlanError, match=r"flash .*does not fit by .* of 8,192; ram .*does not fit by .* of 4,096; "):
        require_fit(model(), plan, board, budget)
    assert budget.missing is budget.short[0]


@needs_shared
@pytest.mark.parametrize(("name", "board_name"), [("person_detect", "qemu-m0"), ("vww_96_int8", "qemu-m0")])
def test_the_bytes_that_lack_are_those_that_would_do(name: str, board_name: str) -> None:
    graph, board = model(name), load_board(board_name)
    plan = make_plan(graph, OPTIONS, "")
    with pytest.raises(PlanError, match=r"does not fit by [\d,]+ bytes") as raised:
        require_fit(graph, plan, board, make_budget(plan, board))
    found = re.search(r": (\w+) \((\w+)\): does not fit by ([\d,]+) bytes: ([\d,]+) of ([\d,]+);", str(raised.value))
    assert found is not None
    lacks, used, size = (int(number.replace(",", "")) for number in found.groups()[2:])
    assert lacks == used - size > 0
    for spare, fits in ((lacks, True), (lacks - 1, False)):
        memory = tuple(replace(m, size=m.size + spare) if m.name == found[1] else m for m in board.memory)
        rooms = make_budget(plan, replace(board, memory=memory)).rooms
        (room,) = [room for room in rooms if room.memory.name == found[1]]
        assert (room.missing == 0) == fits


@needs_shared
@pytest.mark.parametrize(("name", "kib"), [("person_detect", 16), ("vww_96_int8", 28), ("person_detect", 14)])
def test_the_sizes_named_fit_and_the_next_larger_ones_do_not(name: str, kib: int) -> None:
    graph, board = model(name), with_ram(load_board("stm32f7"), kib)
    assert missing(graph, board)
    sizes = largest_sizes(graph, board, OPTIONS)
    assert sizes
    heights = list(smaller_sizes(graph))
    for size in sizes:
        assert missing(rescale(graph, size.width, size.height, size.columns), board) == 0
        finer = [height for height in heights if height > size.height]
        if finer:
            columns = smaller_sizes(graph)[finer[-1]]
            assert missing(rescale(graph, size.width, finer[-1], columns), board)
        wider = size.width + Fraction(1, 8)
        if wider <= 1:
            assert missing(rescale(graph, wider, size.height, size.columns), board)
    # Each beats the others in one of the two.
    assert [s.width for s in sizes] == sorted((s.width for s in sizes), reverse=True)
    assert [s.height for s in sizes] == sorted(s.height for s in sizes)


def test_where_nothing_smaller_fits_it_is_said() -> None:
    board = with_ram(load_board("stm32f7"), 1)
    plan = make_plan(model(), OPTIONS, "")
    with pytest.raises(PlanError, match=r"no smaller one of its kind would$"):
        require_fit(model(), plan, board, make_budget(plan, board))


ROWS = Options(input="rows")


def arena_room(plan: Plan, board: Board) -> tuple[int, int]:
    """Bytes in use and in all of the memory that the arena is in, the link's own frame not counted."""
    (room,) = (room for room in make_budget(plan, board).rooms if "arena" in room.memory.use)
    return room.used - room.only_link, room.memory.size


@pytest.mark.parametrize("board", [board for board in known_boards() if not board.is_host], ids=lambda b: str(b.name))
def test_the_link_has_a_frame_of_its_own_where_it_fits(board: Board) -> None:
    plan = make_plan(model(), OPTIONS, "")
    used, size = arena_room(plan, board)
    assert used + plan.input_bytes + FRAME_BUFFER_SPARE_BYTES <= size  # the digits are small
    assert frame_buffer_bytes(plan, board) == plan.input_bytes
    (part,) = (part for part in make_budget(plan, board).parts if part.only_link)
    assert (part.name, part.bytes, part.exact) == ("frame of the link", plan.input_bytes, True)


def test_without_room_there_is_none_and_it_is_not_held_against_the_model() -> None:
    plan, board = make_plan(model(), OPTIONS, ""), load_board("qemu-m0")
    used, _ = arena_room(plan, board)
    least = used + plan.input_bytes + FRAME_BUFFER_SPARE_BYTES
    for size, frame in ((least, plan.input_bytes), (least - 1, 0), (used, 0)):
        memory = tuple(replace(m, size=size) if m.kind == "ram" else m for m in board.memory)
        tight = replace(board, memory=memory)
        budget = make_budget(plan, tight)
        assert frame_buffer_bytes(plan, tight) == frame
        assert sum(part.bytes for part in budget.parts if part.only_link) == frame
        require_fit(model(), plan, tight, budget)
        assert plan_values(plan, budget, tight, ())["frame_buffer_bytes"] == frame
        assert plan_values(plan, budget, tight, ())["activation_bytes"] == plan.arena_bytes


def test_fed_by_rows_verify_needs_a_frame_and_a_product_does_not() -> None:
    plan, board = make_plan(model(), ROWS, ""), load_board("qemu-m0")
    used, _ = arena_room(plan, board)
    memory = tuple(replace(m, size=used + 100) if m.kind == "ram" else m for m in board.memory)
    tight = replace(board, memory=memory)
    assert frame_buffer_bytes(plan, tight) == plan.input_bytes
    with pytest.raises(PlanError) as raised:
        require_fit(model(), plan, tight, make_budget(plan, tight))
    assert "does not fit by 924 bytes" in str(raised.value)
    assert "1,024 of these are the whole frame that verify sends" in str(raised.value)
    assert "codegen --library has none" in str(raised.value)
    assert "frame[" not in "".join(library_files(plan, tight, int8_pixel_table(model())).values())


def test_a_firmware_without_room_for_the_frame_is_verified_all_the_same_and_infers_once(tmp_path: Path) -> None:
    require_tools("qemu-m0")
    board = load_board("qemu-m0")
    used, _ = arena_room(make_plan(model(), OPTIONS, ""), board)
    memory = tuple(replace(m, size=-(-used // 8) * 8) if m.kind == "ram" else m for m in board.memory)
    tight = replace(board, memory=memory)
    write_firmware(model(), tight, OPTIONS, tmp_path / "firmware")
    build_folder(tmp_path / "firmware")
    with open_bench(Request(graph=model(), board=tight, folder=tmp_path / "firmware", emulate=True)) as bench:
        session = bench.connection.session
        assert verify(bench.connection, identify(bench.connection, model(), tight), stimuli(model(), [], 2, 0)).equal
        assert "runs; a run overwrites the input" in text_answer(session, b"infer 2 0%")
        assert "m-results-[" in text_answer(session, b"infer 1 0%")


def text_answer(session: Session, command: bytes) -> str:
    """What a text command answers."""
    session.transport.write(command)
    said, end = b"", session.transport.now() + 10.0
    while b"m-ready\r\n" not in said and session.transport.now() < end:
        said += session.transport.read(0.1)
    return said.decode("ascii")


def test_a_size_reads_as_a_person_says_it() -> None:
    assert Size(Fraction(1, 2), 96, 128).text == "0.5 of its channels at 96x128"
    assert Size(Fraction(1), 96, 96).text == "its channels at 96x96"


def test_a_graph_rescaled_to_its_own_size_is_itself() -> None:
    assert rescale(model(), Fraction(1), 32, 32) is model()


@pytest.mark.parametrize(("width", "height"), [(Fraction(1, 2), 32), (Fraction(1), 48), (Fraction(1, 4), 64)])
def test_a_rescaled_graph_keeps_its_layers_its_outputs_and_its_kind_of_padding(width: Fraction, height: int) -> None:
    graph = model()
    scaled = rescale(graph, width, height, height)
    assert [layer.kind for layer in scaled.layers] == [layer.kind for layer in graph.layers]
    assert [scaled.tensors[name].shape for name in scaled.outputs] == [graph.tensors[n].shape for n in graph.outputs]
    assert scaled.input_tensor.shape == (height, height, 1)
    for layer in scaled.layers:
        shape, old = scaled.tensors[layer.output].shape, graph.tensors[layer.output].shape
        if len(shape) == 3:
            assert shape[0] == -(-old[0] * height // 32)
            assert shape[2] == old[2] if width == 1 else shape[2] % 8 == 0
    wanted = sum(int(np.prod(scaled.tensors[layer.output].shape)) for layer in scaled.layers)
    assert wanted > 0


def test_operands_that_are_constants_do_not_scale_and_are_told() -> None:
    with pytest.raises(ModelError, match="constants among its operands fix their shapes"):
        rescale(classifier(), Fraction(1, 2), 4, 5)


@pytest.mark.parametrize("board_name", ["qemu-m0", "qemu-m3", "stm32f7"])
def test_the_budget_is_at_least_what_the_linker_uses_and_not_much_more(board_name: str) -> None:
    board, folder = load_board(board_name), firmware(board_name)
    budget = make_budget(make_plan(model(), OPTIONS.on(board.core), ""), board)
    used = {u.name: u.used for u in memory_usage(read_sections(folder / "firmware.elf"), read_project(folder).memory)}
    for room in budget.rooms:
        assert used[room.memory.name] <= room.used, room.memory.name
        assert room.used < 1.25 * used[room.memory.name] + 512, room.memory.name
