"""What does not fit is told by how many bytes, with the largest sizes that do; both hold when they are planned."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from tests.firmwares import firmware, model
from tests.graphs import classifier
from tests.shared import needs_shared
from tinymbn.board import Board, load_board
from tinymbn.build import memory_usage
from tinymbn.elf import read_sections
from tinymbn.errors import ModelError, PlanError
from tinymbn.graph import Graph
from tinymbn.project_file import read_project
from tinymbn_codegen.budget import make_budget
from tinymbn_codegen.fit import Size, largest_sizes, require_fit
from tinymbn_codegen.options import Options
from tinymbn_codegen.plan import make_plan
from tinymbn_codegen.rescale import rescale, smaller_sizes

OPTIONS = Options()


def with_ram(board: Board, kib: int) -> Board:
    """The board with another size of the memory that the arena is in."""
    memory = tuple(replace(m, size=kib * 1024) if "arena" in m.use else m for m in board.memory)
    return replace(board, memory=memory)


def missing(graph: Graph, board: Board) -> int:
    room = make_budget(make_plan(graph, OPTIONS, ""), board).missing
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
@pytest.mark.parametrize(("name", "kib"), [("person_detect", 40), ("vww_96_int8", 40), ("person_detect", 24)])
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
    budget = make_budget(make_plan(model(), OPTIONS, ""), board)
    used = {u.name: u.used for u in memory_usage(read_sections(folder / "firmware.elf"), read_project(folder).memory)}
    for room in budget.rooms:
        assert used[room.memory.name] <= room.used, room.memory.name
        assert room.used < 1.25 * used[room.memory.name] + 512, room.memory.name
