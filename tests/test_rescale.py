"""What would fit where a model does not: found by planning its shapes again at another width and resolution."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from tests.graphs import classifier
from tests.shared import SHARED, needs_shared
from tinymbn.board import Board, load_board
from tinymbn.errors import ModelError, PlanError
from tinymbn.graph import Graph
from tinymbn.interpreter import Interpreter
from tinymbn.load import load_model
from tinymbn.model_file import fingerprint
from tinymbn.paths import SHIPPED_MODEL
from tinymbn_codegen.budget import make_budget
from tinymbn_codegen.fit import largest_sizes, require_fit
from tinymbn_codegen.options import Options
from tinymbn_codegen.plan import make_plan
from tinymbn_codegen.rescale import rescale, smaller_sizes

HALF, ONE = Fraction(1, 2), Fraction(1)
WHOLE = Options(without=frozenset({"dead_channels"}))  # a rescaled graph's weights are zeros, as if all were dead


@pytest.fixture(scope="module")
def digits() -> Graph:
    return load_model(SHIPPED_MODEL)


def small(board: Board, ram_bytes: int) -> Board:
    """The board with another size of RAM."""
    memory = tuple(replace(m, size=ram_bytes) if "arena" in m.use else m for m in board.memory)
    return replace(board, memory=memory)


def test_the_same_size_is_the_same_graph(digits: Graph) -> None:
    assert rescale(digits, ONE, 32, 32) is digits


def test_width_scales_what_lies_between_input_and_classes(digits: Graph) -> None:
    half = rescale(digits, HALF, 32, 32)
    assert half.input_tensor.shape == (32, 32, 1)
    assert half.output_tensors[0].shape == (10,)
    assert [half.tensors[layer.output].shape[-1] for layer in half.layers[:4]] == [8, 8, 16, 16]
    assert half.macs < 0.5 * digits.macs


def test_resolution_scales_maps_and_keeps_channels(digits: Graph) -> None:
    fine = rescale(digits, ONE, 64, 48)
    assert [fine.tensors[layer.output].shape for layer in fine.layers[:2]] == [(32, 24, 8), (16, 12, 8)]
    assert fine.output_tensors[0].shape == (10,)
    assert fine.parameters == digits.parameters


def test_a_rescaled_graph_runs(digits: Graph) -> None:
    graph = rescale(digits, HALF, 48, 40)
    assert Interpreter(graph).run(np.zeros((48, 40, 1), np.int8)).shape == (10,)


def test_operands_that_are_constants_fix_the_shapes() -> None:
    with pytest.raises(ModelError, match="constants among its operands"):
        rescale(classifier(), HALF, 4, 5)


def test_sizes_to_try_begin_with_the_present_one_and_keep_the_ratio() -> None:
    graph = rescale(load_model(SHIPPED_MODEL), ONE, 96, 128)
    sizes = smaller_sizes(graph)
    assert list(sizes.items())[:3] == [(96, 128), (80, 106), (64, 85)]


def test_a_model_that_fits_is_no_error(digits: Graph) -> None:
    board = load_board("qemu-m0")
    plan = make_plan(digits, Options(), fingerprint(digits))
    require_fit(digits, plan, board, make_budget(plan, board))


def test_a_model_that_does_not_fit_is_told_by_how_much_and_what_would(digits: Graph) -> None:
    big = rescale(digits, ONE, 128, 128)
    board = load_board("qemu-m0")
    plan = make_plan(big, WHOLE, fingerprint(big))
    budget = make_budget(plan, board)
    room = budget.missing
    assert room is not None
    with pytest.raises(PlanError) as error:
        require_fit(big, plan, board, budget)
    assert f"does not fit by {room.used - room.memory.size:,} bytes" in str(error.value)
    assert error.value.exit_code == 4
    sizes = largest_sizes(big, board, Options())
    assert sizes
    for size in sizes:
        assert size.text in str(error.value)


def test_each_size_fits_and_the_next_larger_ones_do_not(digits: Graph) -> None:
    big = rescale(digits, ONE, 128, 128)
    board = load_board("qemu-m0")
    sizes = largest_sizes(big, board, Options())

    def fits(width: Fraction, height: int) -> bool:
        graph = rescale(big, width, height, height)
        return make_budget(make_plan(graph, WHOLE, ""), board).missing is None

    for size in sizes:
        assert fits(size.width, size.height)
        assert size.height == 128 or not fits(size.width, size.height + 16)
    assert [size.width for size in sizes] == sorted((size.width for size in sizes), reverse=True)
    assert [size.height for size in sizes] == sorted(size.height for size in sizes)


def test_where_nothing_fits_it_is_said(digits: Graph) -> None:
    board = small(load_board("qemu-m0"), 2048)
    plan = make_plan(digits, Options(), fingerprint(digits))
    with pytest.raises(PlanError, match="no smaller one of its kind would"):
        require_fit(digits, plan, board, make_budget(plan, board))


@needs_shared
@pytest.mark.parametrize(
    "name",
    ["person_detect", "ssd_slim_120x160x1_int8", "mcunet_vww", "tf2_mobilenet_v2_1.0_224_ptq", "vww_96_int8"],
)
def test_real_models_rescale(name: str) -> None:
    graph = load_model(SHARED / "models" / f"{name}.tflite")
    height, width, _ = graph.input_tensor.shape
    smaller = rescale(graph, HALF, height // 2, width // 2)
    assert smaller.macs < graph.macs / 8
    assert make_plan(smaller, WHOLE, "").arena_bytes < make_plan(graph, WHOLE, "").arena_bytes / 3


def test_a_model_whose_input_is_no_picture_has_no_other_sizes(digits: Graph) -> None:
    tail = replace(
        digits,
        tensors={
            name: t for name, t in digits.tensors.items() if name in (*digits.layers[-1].inputs, digits.outputs[0])
        },
        layers=digits.layers[-1:],
        input=digits.layers[-1].inputs[0],
    )
    assert largest_sizes(tail, load_board("qemu-m0"), Options()) == ()
