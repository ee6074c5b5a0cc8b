"""Dead channels go, and no input tells: outputs are the original's, and so is every channel that stays."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.command_line import Run
from tests.firmwares import firmware, model, require_tools, run_verify
from tests.random_graphs import KINDS, describe, graphs
from tests.shared import SHARED, needs_shared
from tinymbn.fixedpoint import DENSE_STEPS
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.interpreter import Interpreter
from tinymbn.layers import (
    Activation,
    Add,
    AnyLayer,
    Concat,
    Conv2D,
    Dense,
    Depthwise,
    Lookup,
    Mean,
    Pad,
    Padding,
    Requantize,
    Reshape,
    Softmax,
    Weights,
    Window,
)
from tinymbn.stimuli import stimuli
from tinymbn_codegen import dead_channels
from tinymbn_codegen.dead_channels import kept_channels, remove_dead_channels
from tinymbn_codegen.intervals import channel_intervals, window_taps
from tinymbn_codegen.options import Options
from tinymbn_codegen.passes import fold_padding, without_edges
from tinymbn_codegen.plan import make_plan

Int8s = NDArray[np.int8]

ONE = Window((1, 1))
RELU = Activation(-3, 127)  # of a tensor whose zero point is -3
QUANT = Quant(0.5, -3)
FACTOR_ONE = (2**30, 1)


def weights(values: Any, bias: Sequence[int]) -> Weights:
    """Scaled by 1."""
    count = len(bias)
    return Weights(
        np.array(values, np.int8),
        np.array(bias, np.int64).astype(np.int32),
        np.full(count, 2**30, np.int32),
        np.full(count, 1, np.int8),
    )


def pointwise(values: Any, bias: Sequence[int], source: str, name: str, activation: Activation = RELU) -> Conv2D:
    rows = np.array(values, np.int8)
    return Conv2D(name, (source,), name, weights(rows[:, None, None, :], bias), activation, ONE)


def chain(
    shape: tuple[int, ...],
    *layers: AnyLayer,
    outputs: Sequence[str] = (),
    constants: Mapping[str, Int8s] = MappingProxyType({}),
) -> Graph:
    """A graph that reads ``x``; every zero point is -3, and the last layer makes the output."""
    tensors = {"x": Tensor("x", shape, QUANT)}
    tensors |= {name: Tensor(name, values.shape, QUANT) for name, values in constants.items()}
    for layer in layers:
        made = layer.output_shape(*(tensors[name].shape for name in layer.inputs))
        tensors[layer.output] = Tensor(layer.output, made, QUANT)
    return Graph("chain", tensors, layers, "x", tuple(outputs) or (layers[-1].output,), constants)


def inputs_of(graph: Graph, seed: int = 0) -> Iterator[Int8s]:
    """Noise, noise of the two extremes, and each of them alone."""
    shape, noise = graph.input_tensor.shape, np.random.default_rng(seed)
    yield noise.integers(-128, 128, shape, dtype=np.int8)
    yield noise.choice(np.array([-128, 127], np.int8), shape)
    yield np.full(shape, -128, np.int8)
    yield np.full(shape, 127, np.int8)


def difference(before: Graph, after: Graph, x: Int8s) -> str | None:
    """The first output of ``before`` that ``after`` makes otherwise."""
    made = [Interpreter(graph).run(x) for graph in (before, after)]
    pair = [outputs if isinstance(outputs, tuple) else (outputs,) for outputs in made]
    for name, a, b in zip(before.outputs, *pair, strict=True):
        if a.tobytes() != b.tobytes():
            return f"output {name}"
    return None


def expect_exact(before: Graph, inputs: Iterator[Int8s] | None = None) -> Graph:
    """The graph after the pass: its outputs are the same, its tensors the channels of the original that are kept."""
    after = remove_dead_channels(before)
    kept = kept_channels(before, channel_intervals(before))
    for x in inputs or inputs_of(before):
        assert difference(before, after, x) is None
        narrow = {layer.output: made for layer, made in Interpreter(after).steps(x)}
        for layer, made in Interpreter(before).steps(x):
            assert np.array_equal(made[..., kept[layer.output]], narrow[layer.output]), layer.name
    assert [layer.name for layer in after.layers] == [layer.name for layer in before.layers]
    assert after.input_tensor == before.input_tensor
    assert after.output_tensors == before.output_tensors
    return after


def channels(graph: Graph) -> list[int]:
    """Of each layer's output."""
    return [graph.tensors[layer.output].shape[-1] for layer in graph.layers]


# ------------------------------------------------------------------------------------------------------- by hand


def by_hand() -> Graph:
    """Of four channels one is clamped to -3 (the zero point), one is 7 - 3 = 4, one is not read; one counts."""
    first = pointwise([[1], [2], [0], [4]], [-1000, 10, 7, 0], "x", "first")
    second = pointwise([[5, 1, -6, 0], [100, 3, 2, 0]], [20, 30], "first", "second", Activation())
    return chain((2, 2, 1), first, second)


def test_constants_move_into_the_bias() -> None:
    after = expect_exact(by_hand())
    first, second = after.layers
    assert isinstance(first, Conv2D)
    assert isinstance(second, Conv2D)
    assert after.tensors["first"].shape == (2, 2, 1)
    assert first.weights.values.tolist() == [[[[2]]]]
    assert first.weights.bias.tolist() == [10]
    assert second.weights.values.ravel().tolist() == [1, 3]
    # The third channel is 4, 7 above the zero point: 20 - 6 * 7 and 30 + 2 * 7.
    assert second.weights.bias.tolist() == [-22, 44]


def test_a_graph_without_dead_channels_is_itself() -> None:
    graph = chain((2, 2, 1), pointwise([[1], [2]], [0, 0], "x", "a"), pointwise([[1, 2]], [0], "a", "b"))
    assert remove_dead_channels(graph) is graph
    after = remove_dead_channels(by_hand())
    assert remove_dead_channels(after) is after


def padded(constant: int, padding: Padding, taps: Sequence[int] = range(9), size: int = 4) -> Graph:
    """A constant channel, whose weights are 1 at ``taps``, and a live one, whose middle counts, under a 3x3 window."""
    first = pointwise([[0], [1]], [constant + 3, 0], "x", "first", Activation())
    values = np.zeros((1, 3, 3, 2), np.int8)
    values.reshape(9, 2)[list(taps), 0] = 1
    values[0, 1, 1, 1] = 1
    conv = Conv2D("conv", ("first",), "conv", weights(values, [5]), Activation(), Window((3, 3), padding=padding))
    return chain((size, size, 1), first, conv)


@pytest.mark.parametrize(
    ("graph", "left", "bias"),
    [
        (padded(2, Padding()), 1, 5 + 9 * 5),  # 2 is 5 above the zero point
        (padded(-3, Padding(1, 1, 1, 1)), 1, 5),  # the zero point is what padding is
        (padded(2, Padding(1, 1, 1, 1)), 2, 5),
        (padded(2, Padding(1, 1, 1, 1), taps=[4]), 1, 5 + 5),  # the middle never meets the padding
        (padded(2, Padding(1, 0, 0, 0), taps=[3, 8]), 1, 5 + 2 * 5),
        (padded(2, Padding(1, 0, 0, 0), taps=[2, 3, 8]), 2, 5),
        (padded(2, Padding(0, 1, 0, 0), taps=[2, 3]), 1, 5 + 2 * 5),
        (padded(2, Padding(0, 1, 0, 0), taps=[6]), 2, 5),
        (padded(2, Padding(0, 0, 1, 0), taps=[1, 6]), 2, 5),
        (padded(2, Padding(0, 0, 0, 1), taps=[1, 6]), 1, 5 + 2 * 5),
        (padded(2, Padding(1, 1, 1, 1), taps=[0, 4, 8], size=1), 1, 5 + 5),  # the others are always in the padding
    ],
)
def test_a_constant_goes_where_padding_does_not_tell(graph: Graph, left: int, bias: int) -> None:
    after = expect_exact(graph)
    conv = after.layers[1]
    assert isinstance(conv, Conv2D)
    assert channels(after) == [left, 1]
    assert conv.weights.bias.tolist() == [bias]


def test_a_bias_that_leaves_int32_wraps_as_accumulators_do() -> None:
    first = pointwise([[0], [1]], [127 + 3, 0], "x", "first", Activation())
    second = pointwise([[127, 1]], [2**31 - 100], "first", "second", Activation())
    last = expect_exact(chain((2, 2, 1), first, second)).layers[-1]
    assert isinstance(last, Conv2D)
    assert last.weights.bias.tolist() == [2**31 - 100 + 130 * 127 - 2**32]


# ------------------------------------------------------------------------------------------- what reads a channel

FIRST = pointwise([[1], [0], [2], [3]], [0, -50, 0, 9], "x", "first")  # the second is -3, the fourth is mostly not read
LAST = pointwise([[1, 2, 3, 0], [4, 5, 6, 0]], [0, 1], "y", "last", Activation())


def depthwise(count: int, window: Window = ONE, bias: int = 0) -> Depthwise:
    values = np.ones((*window.kernel, count), np.int8)
    return Depthwise("y", ("first",), "y", weights(values, [bias] * count), Activation(), window)


def add(*inputs: str) -> Add:
    """Half the sum of what stands above the zero points."""
    return Add("y", inputs, "y", *(2**30, 0), *(2**30, 0), *(2**30, -19))


@pytest.mark.parametrize(
    ("between", "last", "left"),
    [
        ((depthwise(4, Window((3, 3), padding=Padding(1, 1, 1, 1))),), LAST, [2, 2, 2]),
        ((depthwise(4, Window((3, 3), padding=Padding(1, 1, 1, 1)), bias=1),), LAST, [2, 2, 2]),
        ((Requantize("y", ("first",), "y", *FACTOR_ONE),), LAST, [2, 2, 2]),
        ((Lookup("y", ("first",), "y", "logistic", np.arange(-128, 128, dtype=np.int8)),), LAST, [2, 2, 2]),
        ((add("first", "first"),), LAST, [2, 2, 2]),
        ((add("first", "four"),), LAST, [2, 2, 2]),
        ((add("one", "first"),), LAST, [2, 2, 2]),
        # The map has other channels than -3 at a live place, so the sum has.
        ((replace(FIRST, name="other", output="other"), add("other", "first")), LAST, [2, 2, 2, 2]),
        ((Pad("y", ("first",), "y", ((1, 0), (0, 1), (0, 0)), -3),), LAST, [2, 2, 2]),
        ((Pad("y", ("first",), "y", ((1, 0), (0, 1), (0, 0)), -2),), LAST, [3, 3, 2]),
        ((Mean("y", ("first",), "y", (0, 1), True, 2**30, -1),), LAST, [2, 2, 2]),
        ((Concat("y", ("first", "first"), "y", 0),), LAST, [2, 2, 2]),
        ((Softmax("y", ("first",), "y", 2**30, 23, -248),), LAST, [4, 4, 2]),
        ((Mean("m", ("first",), "m", (2,), True, 2**30, 0), Reshape("y", ("first",), "y", (4, 4))), None, [4, 1, 4]),
    ],
)
def test_what_carries_channels_loses_them_too(
    between: tuple[AnyLayer, ...], last: AnyLayer | None, left: list[int]
) -> None:
    four, one = np.array([1, 2, 3, 4], np.int8), np.array([5], np.int8)
    layers = (FIRST, *between, *([last] if last else []))
    read = {name for layer in layers for name in layer.inputs}
    constants = {name: values for name, values in (("four", four), ("one", one)) if name in read}
    after = expect_exact(chain((2, 2, 1), *layers, constants=constants))
    assert channels(after) == left
    if "four" in constants:
        assert after.constants["four"].tolist() == [1, 3]
        assert after.tensors["four"].shape == (2,)


def test_channels_of_several_tensors_and_of_padding() -> None:
    """Twelve channels: 2 of a PAD, 4 of a map, the same 4 once more, 2 of a PAD."""
    concat = Concat("concat", ("first", "first"), "concat", 2)
    pad = Pad("y", ("concat",), "y", ((0, 0), (0, 0), (2, 2)), 9)
    row = [0, 1, *[1, 2, 0, 0], *[0, 5, 6, 0], 3, 0]  # 9 is 12 above the zero point
    after = expect_exact(chain((2, 2, 1), FIRST, concat, pad, pointwise([row], [7], "y", "last")))
    assert channels(after) == [2, 4, 4, 1]
    assert after.layers[2] == replace(pad, pads=((0, 0), (0, 0), (0, 0)))
    last = after.layers[3]
    assert isinstance(last, Conv2D)
    assert last.weights.values.ravel().tolist() == [1, 0, 0, 6]
    assert last.weights.bias.tolist() == [7 + 12 + 3 * 12]


def test_a_dense_layer_behind_a_flattened_map() -> None:
    flat = Reshape("y", ("first",), "y", (16,))
    steps = np.arange(1, 2 * DENSE_STEPS + 1, dtype=np.int32).reshape(2, DENSE_STEPS)
    values = np.arange(32).reshape(2, 16).astype(np.int8)
    values[:, 3::4] = 0
    dense = Dense("last", ("y",), "last", weights(values, [1, 2]), Activation(), steps)
    after = expect_exact(chain((2, 2, 1), FIRST, flat, dense))
    assert channels(after) == [2, 8, 2]
    last = after.layers[2]
    assert isinstance(last, Dense)
    assert last.weights.values.tolist() == values[:, [0, 2, 4, 6, 8, 10, 12, 14]].tolist()


def test_a_dense_layers_steps_go_with_its_channels() -> None:
    steps = np.arange(1, 3 * DENSE_STEPS + 1, dtype=np.int32).reshape(3, DENSE_STEPS)
    dense = Dense("d", ("x",), "d", weights([[1, 2], [0, 0], [3, 4]], [1, -9, 3]), RELU, steps)
    last = Dense("last", ("d",), "last", weights([[1, 1, 1]], [0]), Activation())
    after = expect_exact(chain((2,), dense, last))
    first = after.layers[0]
    assert isinstance(first, Dense)
    assert first.steps is not None
    assert first.steps.tolist() == steps[[0, 2]].tolist()


def test_a_depthwise_layer_of_one_channel_loses_any_of_many_whole_groups() -> None:
    values = np.array([1, 0, 2, 0, 0, 3], np.int8)
    first = Depthwise("d", ("x",), "d", weights(values[None, None], [0, -9, 0, -9, -9, 0]), RELU, ONE)
    after = expect_exact(chain((2, 2, 1), first, pointwise([[1, 2, 3, 4, 5, 6]], [0], "d", "last")))
    assert channels(after) == [3, 1]
    # Of the pairs of three channels the second is dead; half of the last is, which stays.
    after = expect_exact(chain((2, 2, 3), first, pointwise([[1, 0, 3, 4, 5, 6]], [0], "d", "last")))
    assert channels(after) == [6, 1]  # the input stays whole
    middle = replace(first, inputs=("m",))
    mixed = pointwise([[1, 2, 3], [4, 5, 6], [7, 8, 9]], [0, 0, 0], "x", "m")
    dead = [[1, 0, 0, 0, 5, 6]]
    after = expect_exact(chain((2, 2, 3), mixed, middle, pointwise(dead, [0], "d", "last")))
    assert channels(after) == [2, 4, 1]


def test_every_tensor_keeps_a_channel() -> None:
    """All that is read is constant."""
    first = pointwise([[1], [2], [3], [4]], [-9000] * 4, "x", "first")
    after = expect_exact(chain((2, 2, 1), first, depthwise(4), LAST))
    assert channels(after) == [1, 1, 2]


def test_outputs_and_what_leads_there_without_mixing_stay() -> None:
    after = expect_exact(chain((2, 2, 1), FIRST, add("first", "first"), outputs=["y"]))
    assert channels(after) == [4, 4]
    after = expect_exact(chain((2, 2, 1), FIRST, replace(LAST, inputs=("first",)), outputs=["last", "first"]))
    assert channels(after) == [4, 2]


def test_a_constant_channel_that_stays_needs_nothing() -> None:
    """The second output is 9 whatever comes in: what it alone reads goes."""
    first = pointwise([[1], [2]], [0, 0], "x", "first", Activation())
    second = pointwise([[1, 0], [0, 5]], [0, 2000], "first", "second", Activation(-128, 9))
    after = expect_exact(chain((2, 2, 1), first, second))
    assert channels(after) == [1, 2]
    last = after.layers[1]
    assert isinstance(last, Conv2D)
    assert last.weights.values.ravel().tolist() == [1, 0]


def test_one_reader_that_needs_a_channel_keeps_it_for_all() -> None:
    """Through the ADD the second branch is tied to the first, whose fourth channel another layer reads."""
    other = replace(FIRST, name="other", output="other", inputs=("x",))
    reader = pointwise([[0, 0, 0, 1]], [0], "first", "reader")
    after = expect_exact(
        chain((2, 2, 1), FIRST, other, add("first", "other"), LAST, reader, outputs=["last", "reader"])
    )
    assert channels(after) == [3, 3, 3, 2, 1]


# ------------------------------------------------------------------------------------------------- planted faults


FOLDED = dead_channels._folded


def _fold_of_the_other_sign(*arguments: Any) -> Weights:
    folded, bias = FOLDED(*arguments), arguments[0].weights.bias
    return replace(folded, bias=2 * bias - folded.bias)


def _no_fold(*arguments: Any) -> Weights:
    return replace(FOLDED(*arguments), bias=arguments[0].weights.bias)


def _taps_without_padding(window: Window, height: int, width: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    inside, outside = window_taps(window, height, width)
    return inside, np.zeros_like(outside)


def _intervals_without_input(graph: Graph) -> dict[str, NDArray[np.int64]]:
    """Everything is what the input's zero point makes."""
    made = Interpreter(graph).steps(np.full(graph.input_tensor.shape, -3, np.int8))
    found = channel_intervals(graph)
    return found | {layer.output: np.stack([y.reshape(-1, y.shape[-1])[0]] * 2).astype(int) for layer, y in made}


def _everything_kept_but_one(graph: Graph, found: Any) -> dict[str, NDArray[np.bool_]]:
    kept = kept_channels(graph, found)
    kept["first"][:] = np.arange(len(kept["first"])) == 1
    return kept


@pytest.mark.parametrize(
    ("name", "wrong", "graph"),
    [
        ("_folded", _fold_of_the_other_sign, by_hand()),
        ("_folded", _no_fold, by_hand()),
        ("window_taps", _taps_without_padding, padded(2, Padding(1, 1, 1, 1))),
        ("channel_intervals", _intervals_without_input, by_hand()),
        ("kept_channels", _everything_kept_but_one, padded(2, Padding(1, 1, 1, 1))),
    ],
)
def test_a_planted_mistake_is_found(
    name: str, wrong: Callable[..., Any], graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(difference(graph, remove_dead_channels(graph), x) is None for x in inputs_of(graph))
    monkeypatch.setattr(dead_channels, name, wrong)
    after = remove_dead_channels(graph)
    assert after is not graph
    assert any(difference(graph, after, x) is not None for x in inputs_of(graph))


# ------------------------------------------------------------------------------------------------- random graphs


def plant(graph: Graph, seed: int) -> Graph:
    """The graph with channels that are dead in one of many ways, in every layer with weights.

    Mostly a dense layer stands behind each output, so that what makes it may lose channels, too.
    """
    chance = np.random.default_rng(seed)
    if chance.random() < 0.8:
        graph = _mixed_at_the_end(graph, chance)
    share = chance.choice([0.2, 0.5, 0.9])

    def some(count: int) -> NDArray[np.bool_]:
        return np.asarray(chance.random(count) < share)

    def planted(layer: AnyLayer) -> AnyLayer:
        if not isinstance(layer, Conv2D | Depthwise | Dense):
            return layer
        old = layer.weights
        values, bias, multiplier = old.values.copy(), old.bias.copy(), old.multiplier.copy()
        shift, activation = old.shift.copy(), layer.activation
        rows = np.moveaxis(values, layer.channel_axis, 0)  # views: (C_out, ...) and (C_out, C_in, ...)
        count = len(bias)
        how = chance.integers(0, 6)
        dead = some(count)
        if how == 0:  # far below the clamp
            bias[dead], multiplier[dead], shift[dead] = -(2**30), 2**30, -8
        elif how == 1:  # a row without weights
            rows[dead] = old.zero_point
        elif how == 2:
            multiplier[dead] = 0
        elif how == 3:  # a clamp that mostly leaves nothing
            low = int(chance.integers(-128, 128))
            activation = Activation(low, min(127, low + int(chance.integers(0, 3))))
        if not isinstance(layer, Depthwise) and chance.random() < 0.7:  # inputs that are not read
            unread = some(values.shape[-1])
            values[..., unread] = old.zero_point
        if isinstance(layer, Conv2D) and chance.random() < 0.3:  # or not at the edge
            values[:, 0] = old.zero_point
        changed = replace(old, values=values, bias=bias, multiplier=multiplier, shift=shift)
        return replace(layer, weights=changed, activation=activation)

    return replace(graph, layers=tuple(planted(layer) for layer in graph.layers))


def _mixed_at_the_end(graph: Graph, chance: np.random.Generator) -> Graph:
    tensors, layers = dict(graph.tensors), list(graph.layers)
    for name in graph.outputs:
        count, end = int(chance.integers(1, 4)), f"end of {name}"
        values = chance.integers(-128, 128, (count, tensors[name].shape[-1]))
        mixed = weights(values, chance.integers(-999, 999, count).tolist())
        scaled = replace(mixed, shift=chance.integers(-8, -2, count).astype(np.int8))
        layers.append(Dense(end, (name,), end, scaled, Activation()))
        tensors[end] = Tensor(end, layers[-1].output_shape(tensors[name].shape), QUANT)
    return replace(graph, tensors=tensors, layers=tuple(layers), outputs=tuple(f"end of {n}" for n in graph.outputs))


@pytest.mark.parametrize("kind", KINDS)
def test_random_graphs_with_dead_channels_are_exact(kind: str) -> None:
    @given(graphs(kind, most=8), st.integers(0, 2**32 - 1))
    def holds(graph: Graph, seed: int) -> None:
        graph = plant(graph, seed)
        try:
            after = expect_exact(graph, inputs_of(graph, seed))
        except AssertionError as error:
            pytest.fail(f"{error}\n{describe(graph)}")
        assert after.macs <= graph.macs

    holds()


def test_the_random_graphs_have_dead_channels_of_every_kind_of_layer() -> None:
    narrowed: set[str] = set()

    for kind in KINDS:

        @settings(max_examples=10, phases=[Phase.generate])
        @given(graphs(kind, most=3), st.integers(0, 2**32 - 1))
        def collect(graph: Graph, seed: int) -> None:
            graph = plant(graph, seed)
            after = remove_dead_channels(graph).tensors
            before = graph.tensors
            narrowed.update(y.kind for y in graph.layers if after[y.output].shape != before[y.output].shape)

        collect()
    assert narrowed >= {"conv2d", "depthwise", "dense", "average_pool", "max_pool", "mean", "add", "mul", "requantize"}
    assert narrowed >= {"lookup", "pad", "concat", "reshape", "transpose", "resize_nearest"}


# --------------------------------------------------------------------------------------------------- real models

IMAGES = SHARED / "images"


@needs_shared
@pytest.mark.parametrize(
    ("name", "most_macs", "least_macs"),
    [
        ("vww_96_int8", 3_979_000, 3_700_000),  # of 7,489,664
        ("person_detect", 7_080_000, 7_070_000),  # of 7,157,888
        ("ssd_slim_120x160x1_int8", 19_200_000, 19_190_000),
        ("mcunet_vww", 10_940_000, 10_930_000),
        ("mobilenet_v1_0.25_128_quant", 12_870_000, 12_860_000),
    ],
)
def test_real_models_make_the_same_of_pictures_and_noise(name: str, most_macs: int, least_macs: int) -> None:
    graph = model(name)
    pictures = sorted(IMAGES.glob("*.png")) + sorted(IMAGES.glob("*.jpg"))[:2]
    inputs = [stimulus.values for stimulus in stimuli(graph, pictures, 6, 0)]
    before = fold_padding(without_edges(graph))
    after = expect_exact(before, iter(inputs))
    assert least_macs <= after.macs <= most_macs
    assert remove_dead_channels(after) is after


@needs_shared
@pytest.mark.parametrize("name", ["tf2_mobilenet_v2_1.0_224_ptq", "v1_a050_160_random", "v1_a100_224_random"])
def test_large_models_make_the_same_of_noise(name: str) -> None:
    expect_exact(fold_padding(without_edges(model(name))), iter([s.values for s in stimuli(model(name), [], 3, 0)][2:]))


def test_the_model_that_ships_has_none() -> None:
    graph = without_edges(model())
    assert remove_dead_channels(graph) is graph


@needs_shared
def test_the_largest_model_takes_less_than_a_third_of_a_second() -> None:
    graph = fold_padding(without_edges(model("v1_a100_224_random")))
    times = []
    for _ in range(3):
        start = time.process_time()
        remove_dead_channels(graph)
        times.append(time.process_time() - start)
    assert min(times) < 0.3


@needs_shared
def test_the_weights_that_go_to_flash_are_those_that_count() -> None:
    kept = make_plan(model("vww_96_int8"), Options(without=frozenset({"dead_channels"})), "")
    plan = make_plan(model("vww_96_int8"), Options(), "")
    assert kept.graph.parameters > 200_000
    assert plan.graph.parameters < 52_000


# ------------------------------------------------------------------------------------------------------ commands


def test_the_flag_is_the_pass_switched_off(run: Run) -> None:
    texts = []
    for flags in ((), ("--keep-dead-channels",), ("--without", "dead_channels"), ("--without", "dead_channels") * 2):
        assert run("codegen", "--board", "host", "-o", "out", "-q", *flags).code == 0
        texts.append(json.loads(Path("out/plan.json").read_text())["options"])
    on, off = Options().on("host"), Options(without=frozenset({"dead_channels"})).on("host")
    assert texts == [on.text, *[off.text] * 3]


@pytest.mark.parametrize("command", ["plan", "codegen", "verify", "profile", "deploy"])
def test_every_command_that_generates_takes_the_flag(command: str, run: Run) -> None:
    assert "--keep-dead-channels" in run(command, "--help").out


@needs_shared
def test_plan_says_what_is_left(run: Run) -> None:
    file = SHARED / "models" / "vww_96_int8.tflite"
    macs = []
    for flags in ((), ("--keep-dead-channels",)):
        done = run("plan", file, "--board", "stm32f7", "--json", *flags)
        assert done.code == 0
        macs.append(json.loads(done.out)["macs"])
    assert macs[0] < 3_979_000 < macs[1] == 7_489_664


@needs_shared
def test_a_board_without_dead_channels_equals_the_reference() -> None:
    require_tools("host")
    verdict = run_verify("host", firmware("host", "vww_96_int8"), "vww_96_int8", count=3)
    assert verdict.equal
