"""The estimate of instructions and time: what is counted, the arithmetic, and that nothing lacks a formula."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.firmwares import DIGITS, STREAMED, firmware, model
from tests.graphs import classifier, every_kernel, weights
from tinymbn.board import Board, known_boards, load_board
from tinymbn.estimate_report import difference, estimate_lines, estimate_values, estimated_counts
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.layers import Activation, AnyLayer, Conv2D, Dense, Depthwise, Mean, Padding, Softmax, Window
from tinymbn.profile import ICOUNT_SHIFT, LayerCost, Profile, profile
from tinymbn.stimuli import stimuli
from tinymbn.verify import identify
from tinymbn.workbench import Request, open_bench
from tinymbn_codegen.estimate import Amount, Estimate, Formula, estimate, load_costs, parse_costs
from tinymbn_codegen.kernels import KERNELS
from tinymbn_codegen.loops import COUNTED, CoreClass, core_class, turns
from tinymbn_codegen.mve.tile import executed
from tinymbn_codegen.options import KernelSet, Options
from tinymbn_codegen.plan import Plan, Step, make_plan

_SHA256 = "5a" * 32
_SETS: dict[CoreClass, KernelSet] = {"armv6m": "armv6m", "armv7m": "armv7m"}
_KEPT = frozenset({"dead_channels"})  # counted by hand, whatever the values
_RELU = Quant(0.05, -128)
_SAME = Padding(1, 1, 1, 1)
_BOARDS = [board.name for board in known_boards() if not board.is_host]


def _plan(graph: Graph, board: Board, kernels: KernelSet = "chosen") -> Plan:
    return make_plan(graph, Options(kernels=kernels, without=_KEPT).on(board.core), _SHA256)


def _separable(size: int, channels: int) -> Graph:
    """A convolution, two depthwise-separable blocks, average, dense, softmax."""
    tensors = {"x": Tensor("x", (size, size, 3), Quant(0.05, -1))}
    layers: list[AnyLayer] = []

    def add(kind: Any, quant: Quant = _RELU, **arguments: Any) -> None:
        read = layers[-1].output if layers else "x"
        name = f"{kind.kind} {len(layers)}"
        layer = kind(name=name, inputs=(read,), output=name, **arguments)
        tensors[name] = Tensor(name, layer.output_shape(tensors[read].shape), quant)
        layers.append(layer)

    made = channels
    add(
        Conv2D,
        weights=weights(made, 3, 3, 3, channels=made),
        activation=Activation(),
        window=Window((3, 3), (2, 2), padding=_SAME),
    )
    for stride in (1, 2):
        w = weights(3, 3, made, channels=made)
        window = Window((3, 3), (stride, stride), padding=_SAME)
        add(Depthwise, weights=w, activation=Activation(), window=window)
        w = weights(2 * made, 1, 1, made, channels=2 * made)
        add(Conv2D, weights=w, activation=Activation(), window=Window((1, 1)))
        made *= 2
    add(Mean, axes=(0, 1), keep_dims=False, multiplier=2**30, shift=-3)
    add(Dense, weights=weights(10, made, channels=10), activation=Activation(), quant=Quant(0.1, 0))
    add(Softmax, quant=Quant(1 / 256, -128), multiplier=2**30, shift=23, diff_min=-248)
    return Graph("separable", tensors, tuple(layers), "x", (layers[-1].output,))


def _step(kernel: str, layer_of: Graph, index: int, core: CoreClass = "dsp") -> dict[str, int]:
    """What is counted of a layer, had it this kernel."""
    step = make_plan(layer_of, Options(kernels="plain", without=_KEPT), _SHA256).steps[index]
    chosen = replace(step.options, kernels=_SETS.get(core, "dsp"))
    return turns(replace(_with_kernel(step, kernel), options=chosen), core)


def _with_kernel(step: Step, kernel: str) -> Step:
    return replace(step, kernel=KERNELS[kernel])


def test_every_kernel_is_counted() -> None:
    assert set(KERNELS) <= set(COUNTED)


def test_convolution_of_1x1_counts_by_hand() -> None:
    # 8x8x3 -> conv at stride 2 4x4x4 -> depthwise 4x4x4 -> 1x1 4x4x8
    counted = _step("conv2d", _separable(8, 4), 2)
    taps = {f"{name}, 1 wide inside": 128 for name in ("outputs", "tested taps", "taps")}
    assert counted == {"calls": 4, "rows": 4, "pixels": 16, "macs": 512} | taps


def test_depthwise_counts_only_taps_in_the_map() -> None:
    # 3x3 over 4x4 with a border of 1: 2 + 3 + 3 + 2 taps along an axis.
    counted = _step("depthwise", _separable(8, 4), 1)
    assert counted["macs, 3 wide"] == 10 * 10 * 4
    assert counted["tested taps, 3 wide"] == 9 * 16 * 4
    assert counted["calls"] == 4
    assert counted["rows"] == 12


def test_convolution_counts_by_hand() -> None:
    # 8 columns, stride 2, a border of 1: windows at -1, 1, 3, 5 have 2, 3, 3 and 3 taps.
    counted = _step("conv2d", _separable(8, 4), 0)
    assert counted["taps, 3 wide"] == 11 * 11 * 4
    assert counted["macs"] == 11 * 11 * 4 * 3
    assert counted["pixels"] == 16


def test_weight_zero_points_are_counted() -> None:
    graph = every_kernel()
    step = next(
        step
        for step in make_plan(graph, Options(kernels="plain", without=_KEPT), _SHA256).steps
        if step.layer.kind == "dense"
    )
    counted = turns(step, "dsp")
    assert counted["offset macs"] == counted["macs"] == 8 * 4


def test_tiles_of_the_dsp_kernel() -> None:
    # 4 pixels are one tile; 8 outputs are 4 pairs; 4 inputs are 2 words of 3 * 4 + 2 instructions.
    counted = _step("dsp_pointwise", _separable(8, 4), 2)
    assert counted["tiles"] == 4 * 4
    assert counted["words"] == 4 * 4 * 2 * 14
    assert counted["outputs"] == 128
    assert "packed outputs" not in counted  # no more than eight words
    assert _step("dsp_pointwise", _separable(8, 32), 2)["packed outputs"] == 4 * 4 * 64


def test_dsp_depthwise_counts_by_hand() -> None:
    counted = _step("dsp_depthwise", _separable(8, 4), 1)
    assert counted["channels"] == 4 * 4
    assert counted["edge channels"] == 2 * 4  # the first row and the last
    assert counted["blocks"] == 16
    assert counted["macs"] == 16 * 3 * 10


def test_scalar_pointwise_pairs_pixels_where_there_are_registers() -> None:
    graph = _separable(10, 6)  # 5 columns: two pairs and one alone; 12 outputs: three fours
    counted = _step("scalar_pointwise", graph, 2, "armv7m")
    assert counted["pairs"] == 5 * 2 * 3
    assert counted["pair macs"] == 5 * 4 * 12 * 6
    assert counted["singles"] == 5 * 3
    assert "summed" not in counted
    alone = _step("scalar_pointwise", graph, 2, "armv6m")
    assert "pairs" not in alone
    assert alone["single macs"] == 25 * 12 * 6
    assert alone["summed"] == 25 * 6


def _helium(size: int, channels: int) -> list[dict[str, int]]:
    """What is counted of the layers of a network."""
    plan = _plan(_separable(size, channels), load_board("qemu-m55"))
    names = ["mve_conv2d", *["mve_depthwise", "mve_pointwise"] * 2, "mve_mean", "mve_dense", "softmax"]
    assert [step.kernel.name for step in plan.steps if step.kernel is not None] == names
    return [turns(step, "helium") for step in plan.steps]


def test_instructions_that_run_are_counted_through_loops() -> None:
    lines = ("mov r0, #2", "1:", "nop", "2:", "nop", "bne 2b", "2:", "nop", "nop", "bne 2b", "bne 1b", "nop")
    assert executed(lines, {"1": 5, "2": 3}) == 2 + 5 * (2 + 3 * 2 + 3 * 3)
    assert executed((), {}) == 0


def test_helium_windows_in_the_padding_are_copied_by_c() -> None:
    # 8 columns, stride 2, a border of 1: 4 x 4 windows of 27 bytes, the first row and the first column in the border.
    counted = _helium(8, 4)[0]
    assert counted["edge windows"] == 4 + 3
    assert counted["edge pieces"] == 3 * 7
    assert counted["edge bytes"] == 27 * 7
    assert counted["parts"] == counted["calls"] == 4


def test_helium_instructions_grow_with_tiles_channels_and_chunks() -> None:
    # One text for a row: 4 pixels are one tile; a pair more of channels is a turn more, 16 inputs more a chunk.
    few, more = (_helium(8, channels)[2]["instructions"] for channels in (4, 8))
    assert few > 0
    assert more == pytest.approx(2 * few, rel=0.01)
    assert _helium(16, 8)[2]["instructions"] == pytest.approx(2 * 2 * more, rel=0.5)
    streamed = _helium(8, 48)[2]  # three chunks pass by each of 4 tiles
    assert streamed["tiles"] == streamed["parts"] == 4


def test_helium_depthwise_and_averages_count_by_hand() -> None:
    counted = _helium(8, 4)
    depthwise = counted[1]
    assert depthwise["kernel rows"] == 4 * 3
    assert depthwise["missing rows"] == 2  # above the first row and below the last
    assert depthwise["missing bytes"] == 2 * 16
    assert depthwise["left bytes"] == 4 * 4
    mean, dense = counted[5], counted[6]
    assert mean == {"calls": 1, "instructions": 4 * (2 + 5 * 2 * 2), "groups": 4, "outputs": 16}
    assert dense == {"calls": 1, "pixels": 1, "instructions": 2 * (9 + 19), "groups": 2, "outputs": 10}


@pytest.mark.parametrize("name", [DIGITS, STREAMED])
def test_helium_layers_take_what_is_estimated(name: str) -> None:
    board, graph = load_board("qemu-m55"), model(name)
    request = Request(graph=graph, board=board, folder=firmware(board.name, name), emulate=True)
    with open_bench(request, icount_shift=ICOUNT_SHIFT) as bench:
        identity = identify(bench.connection, graph, board)
        found = profile(bench.connection, identity, next(stimuli(graph, [], 1, 0)), 1)
    estimated = estimate(identity.plan, board)
    assert estimated is not None
    assert estimated.instructions == pytest.approx(found.total, rel=0.04)
    for cost, amount in zip(found.layers, estimated.layers, strict=True):
        assert amount.instructions == pytest.approx(cost.count, rel=0.15, abs=100), cost.step.layer.name


def test_what_is_in_its_place_costs_nothing() -> None:
    graph = every_kernel()
    step = make_plan(graph, Options(), _SHA256).steps[0]
    assert turns(Step(0, step.layer, None, step.inputs, step.output, None, 0, 0, step.options), "dsp") == {}


def test_formula_arithmetic() -> None:
    formula = Formula({"macs": 1.5, "calls": 40.0}, cycles=1.2, samples=3, median=0.01, worst=0.02)
    assert formula.instructions({"macs": 100, "calls": 2, "never measured": 7}) == 230.0
    assert formula.instructions({}) == 0.0


def test_estimate_arithmetic() -> None:
    found = Estimate((Amount(100, 120), Amount(50, 70)), Amount(10, 13), 1_000_000, 0.05, "a table")
    assert found.instructions == 160
    assert found.cycles == 203
    assert found.factor == 203 / 160
    assert found.seconds == pytest.approx(203e-6)


def test_an_unknown_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="schema 99; expected 2"):
        parse_costs({"schema": 99})


@pytest.mark.parametrize("name", _BOARDS)
@pytest.mark.parametrize("graph", [every_kernel(), classifier(), _separable(16, 8)], ids=lambda graph: graph.name)
def test_every_board_has_an_estimate_of_every_kernel_it_is_given(name: str, graph: Graph) -> None:
    board = load_board(name)
    own = core_class(board.core)
    sets: list[KernelSet] = ["chosen", "plain"]
    sets += ["armv7m"] if own != "armv6m" else []
    sets += ["dsp"] if own == "helium" else []
    for chosen in sets:
        plan = _plan(graph, board, chosen)
        found = estimate(plan, board)
        assert found is not None, [step.kernel.name for step in plan.steps if step.kernel is not None]
        assert len(found.layers) == len(plan.steps)
        for step, amount in zip(plan.steps, found.layers, strict=True):
            assert (amount.instructions > 0) == (step.kernel is not None), step.layer.name
            assert (amount.cycles is None) == (core_class(board.core) == "helium")
            assert amount.cycles is None or amount.cycles > 0 or step.kernel is None


def test_there_is_none_where_a_kernel_was_never_measured_so() -> None:
    board = load_board("qemu-m0")
    assert estimate(_plan(_separable(16, 8), board, "armv6m"), board) is not None
    assert estimate(_plan(_separable(16, 8), board, "armv7m"), board) is None
    assert estimate(_plan(_separable(16, 8), board, "dsp"), board) is None


def test_there_is_none_for_the_computer_itself() -> None:
    board = load_board("host")
    plan = _plan(_separable(16, 8), board)
    assert core_class(board.core) is None
    assert estimate(plan, board) is None
    assert estimate_values(None) is None
    assert estimate_lines(None) == []


def test_every_error_is_stated() -> None:
    costs = load_costs()
    assert costs.formulas.keys() == costs.errors.keys()
    for core, formulas in costs.formulas.items():
        assert 0 < costs.errors[core] <= 0.10, core
        for name, formula in formulas.items():
            assert formula.samples > 0
            assert 0 <= formula.median <= formula.worst, name
            assert formula.coefficients, name
            assert all(x >= 0 for x in formula.coefficients.values()), name
            assert formula.cycles is None if core == "helium" else 0.5 < (formula.cycles or 0) < 3, name


def test_every_core_has_a_factor_and_its_reason() -> None:
    for name in _BOARDS:
        core = load_board(name).core
        factor = load_costs().cores[core]
        assert factor.times is None if core_class(core) == "helium" else 0.3 < (factor.times or 0) <= 1.0
        assert factor.reason


@pytest.mark.parametrize("name", ["qemu-m0", "qemu-m3", "qemu-m4", "qemu-m55"])
def test_more_of_everything_takes_longer(name: str) -> None:
    board = load_board(name)

    def instructions(size: int, channels: int) -> int:
        found = estimate(_plan(_separable(size, channels), board), board)
        assert found is not None
        return found.instructions

    by_width = [instructions(24, channels) for channels in (4, 8, 12, 16, 24)]
    by_size = [instructions(size, 8) for size in (12, 16, 24, 32)]
    assert by_width == sorted(set(by_width))
    assert by_size == sorted(set(by_size))


def test_values_of_weights_do_not_matter() -> None:
    board = load_board("qemu-m4")
    graph = _separable(16, 8)
    plans = [_plan(graph, board), _plan(_negated(graph), board)]
    first, second = (estimate(plan, board) for plan in plans)
    assert first == second


def _negated(graph: Graph) -> Graph:
    layers = [
        replace(layer, weights=replace(layer.weights, values=np.negative(layer.weights.values)))
        if isinstance(layer, Conv2D | Depthwise | Dense)
        else layer
        for layer in graph.layers
    ]
    return replace(graph, layers=tuple(layers))


def test_it_is_cheap() -> None:
    board = load_board("qemu-m4")
    plan = _plan(_separable(96, 16), board)
    estimate(plan, board)
    begin = time.perf_counter()
    estimate(plan, board)
    assert time.perf_counter() - begin < 0.2


def test_what_plan_says() -> None:
    board = load_board("qemu-m4")
    found = estimate(_plan(_separable(16, 8), board), board)
    assert found is not None
    first, second = estimate_lines(found)
    assert first.startswith("time  about ")
    assert f"{found.instructions:,} instructions x {found.factor:.2f} cycles each" in first
    assert f"within {found.error:.1%}" in first
    assert "at 25 MHz" in first
    assert found.reason in second
    values = estimate_values(found)
    assert values is not None
    assert found.cycles is not None
    assert values["cycles_per_instruction"] == pytest.approx(found.cycles / found.instructions)
    assert (
        sum(layer["instructions"] for layer in values["layers"]) + values["schedule"]["instructions"]
        == (values["instructions"])
    )


def test_what_plan_says_where_nothing_gives_cycles() -> None:
    board = load_board("qemu-m55")
    found = estimate(_plan(_separable(16, 8), board), board)
    assert found is not None
    assert (found.cycles, found.factor, found.seconds) == (None, None, None)
    first, second = estimate_lines(found)
    assert first.startswith(f"work  about {found.instructions:,} instructions (estimate; within ")
    assert second.strip() == f"time is not known: {found.reason}"
    assert "no emulator counts cycles of a Cortex-M55" in second
    values = estimate_values(found)
    assert values is not None
    assert [values[name] for name in ("cycles", "cycles_per_instruction", "seconds")] == [None, None, None]
    assert values["schedule"]["cycles"] is None
    assert all(layer["instructions"] > 0 and layer["cycles"] is None for layer in values["layers"])


def test_a_profile_in_cycles_is_not_compared_where_nothing_gives_them() -> None:
    step = _plan(_separable(8, 4), load_board("qemu-m4")).steps[0]
    found = Estimate((Amount(100, None),), Amount(0, None), 1_000_000, 0.05, "nothing counts them")
    layers = (LayerCost(step, 110),)
    assert estimated_counts(found, Profile("cycles", layers, 111, 1, 1)) is None
    assert estimated_counts(found, Profile("instructions", layers, 111, 0, 1)) == [100, 100]


@pytest.mark.parametrize(("unit", "expected"), [("instructions", [100, 100]), ("cycles", [120, 120])])
def test_a_profile_is_compared_in_its_own_unit(unit: Any, expected: list[int]) -> None:
    step = _plan(_separable(8, 4), load_board("qemu-m4")).steps[0]
    measured = Profile(unit, (LayerCost(step, 110),), 111, 0, 1)
    found = Estimate((Amount(100, 120),), Amount(0, 0), 1_000_000, 0.05, "a table")
    assert estimated_counts(found, measured) == expected
    assert estimated_counts(None, measured) is None
    assert estimated_counts(found, Profile("nanoseconds", measured.layers, 111, 0, 1)) is None
    assert difference(110, 100) == "+10.0%"
    assert difference(0, 100) == ""
