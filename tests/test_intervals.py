"""Interval analysis: what a channel takes lies within, and where one input decides, the ends are what it takes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.graphs import weights as small_weights
from tests.random_graphs import KINDS, describe, graphs
from tests.strategies import activations, int8s, multipliers, right_shifts, shifts, weights, windows, zero_points
from tinymbn.fixedpoint import DENSE_STEPS
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.interpreter import Interpreter
from tinymbn.layers import (
    Activation,
    Add,
    AnyLayer,
    AveragePool,
    Conv2D,
    Dense,
    Depthwise,
    Lookup,
    MaxPool,
    Mean,
    Mul,
    Padding,
    Requantize,
    Weights,
    Window,
)
from tinymbn_codegen.intervals import accumulators, channel_intervals, window_taps

EVERY_BYTE = np.arange(-128, 128, dtype=np.int8).reshape(256, 1, 1, 1)
ONE = Window((1, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_layer_makes_lies_within(kind: str) -> None:
    @given(graphs(kind), st.integers(0, 2**32 - 1))
    def holds(graph: Graph, seed: int) -> None:
        intervals = channel_intervals(graph)
        noise, shape = np.random.default_rng(seed), graph.input_tensor.shape
        inputs = [
            noise.integers(-128, 128, shape, dtype=np.int8),
            noise.choice(np.array([-128, 127], np.int8), shape),
            np.full(shape, -128, np.int8),
            np.full(shape, 127, np.int8),
        ]
        for x in inputs:
            for layer, made in Interpreter(graph).steps(x):
                low, high = intervals[layer.output]
                assert low.shape == high.shape == made.shape[-1:]
                assert (low >= -128).all()
                assert (high <= 127).all()
                within = (made >= low).all() and (made <= high).all()
                assert within, f"{layer.name}\n{describe(graph)}"

    holds()


@st.composite
def layers_of_one_byte(draw: st.DrawFn) -> tuple[AnyLayer, Activation, NDArray[np.int8]]:
    """A layer of x (1, 1, 1) and perhaps a constant (3,), its clamp, and the constant."""
    activation, multiplier = draw(activations()), draw(multipliers)
    shift, w = draw(shifts), draw(weights((3, 1, 1, 1), 3))
    noise, most = np.random.default_rng(draw(st.integers(0, 99))), draw(st.integers(1, 40000))
    steps = np.sort(noise.integers(0, most, (3, DENSE_STEPS), np.int32), axis=1)
    a, b, total = (2**30, 0), (draw(multipliers), draw(right_shifts)), (draw(multipliers), draw(right_shifts))
    kinds: list[AnyLayer] = [
        Conv2D("l", ("x",), "y", w, activation, ONE),
        Depthwise("l", ("x",), "y", draw(weights((1, 1, 3), 3)), activation, ONE),
        Dense("l", ("x",), "y", draw(weights((3, 1), 3)), activation),
        Dense("l", ("x",), "y", draw(weights((3, 1), 3)), activation, steps),
        Add("l", ("x", "c"), "y", *a, *b, 2**30, -18, activation),
        Add("l", ("c", "x"), "y", *a, *b, *total, activation),
        Mul("l", ("x", "c"), "y", multiplier, shift, activation),
        Requantize("l", ("x",), "y", multiplier, shift, activation),
        Mean("l", ("x",), "y", (0, 1), True, multiplier, shift),
        Lookup("l", ("x",), "y", "logistic", draw(int8s((256,)))),
        AveragePool("l", ("x",), "y", ONE, activation, draw(st.booleans())),
        MaxPool("l", ("x",), "y", ONE, activation),
    ]
    layer = draw(st.sampled_from(kinds))
    clamp = Activation() if isinstance(layer, Mean | Lookup) else activation
    return layer, clamp, draw(int8s((3,)))


@given(layers_of_one_byte(), st.tuples(zero_points, zero_points, zero_points))
def test_where_one_byte_decides_the_ends_are_reached_or_an_int32_wraps(
    case: tuple[AnyLayer, Activation, NDArray[np.int8]], zeros: tuple[int, int, int]
) -> None:
    layer, clamp, constant = case
    tensors = {"x": Tensor("x", (1, 1, 1), Quant(1.0, zeros[0]))}
    if "c" in layer.inputs:
        tensors["c"] = Tensor("c", (3,), Quant(1.0, zeros[1]))
    shape = layer.output_shape(*(tensors[name].shape for name in layer.inputs))
    tensors["y"] = Tensor("y", shape, Quant(1.0, zeros[2]))
    graph = Graph("one", tensors, (layer,), "x", ("y",), {"c": constant} if "c" in tensors else {})
    made = Interpreter(graph).run(EVERY_BYTE).reshape(256, -1)
    for low, high, values in zip(*channel_intervals(graph)["y"], made.T, strict=True):
        assert (low, high) in ((values.min(), values.max()), (clamp.low, clamp.high))


def test_a_channels_ends_by_hand() -> None:
    """3 * x - 2 * y + 10 at a quarter, for x in [-10, 20] and y in [1, 5], both less their zero point -1."""
    w = small_weights(1, 1, 1, 2, channels=1)
    values = np.array([3, -2], np.int8).reshape(1, 1, 1, 2)
    conv = Conv2D(
        "conv", ("x",), "y", Weights(values, w.bias, w.multiplier, np.array([-1], np.int8)), Activation(), ONE
    )
    source = Tensor("x", (1, 1, 2), Quant(1.0, -1))
    x = np.array([[-10, 1], [20, 5]])
    # 3 * (-10 + 1) - 2 * (5 + 1) + 10 = -29 and 3 * (20 + 1) - 2 * (1 + 1) + 10 = 69
    assert accumulators(conv, source, x).tolist() == [[-29], [69]]


def test_an_interval_that_leaves_int32_is_all_that_the_clamp_lets_through() -> None:
    """A bias at the end of int32: most accumulators are far above the clamp, but those that wrap far below it."""
    w = small_weights(2, 1, 1, 1, channels=2)
    bias = np.array([2**31 - 1, 2**31 - 500], np.int32)  # weights 1 and 2, x - zero in [-125, 130]
    conv = Conv2D("conv", ("x",), "y", Weights(w.values, bias, w.multiplier, w.shift), Activation(-9, 7), ONE)
    tensors = {"x": Tensor("x", (1, 1, 1), Quant(1.0, -3)), "y": Tensor("y", (1, 1, 2), Quant(1.0, 0))}
    graph = Graph("wraps", tensors, (conv,), "x", ("y",))
    assert channel_intervals(graph)["y"].tolist() == [[-9, 7], [7, 7]]
    made = Interpreter(graph).run(EVERY_BYTE)[:, 0, 0]
    assert set(made[:, 0].tolist()) == {-9, 7}
    assert set(made[:, 1].tolist()) == {7}


def test_a_zero_point_that_wraps_an_int32_is_all_that_the_clamp_lets_through() -> None:
    """The greatest accumulator times nearly 1, and 127 more: the reference makes the lowest byte of it."""
    top = np.full(1, 2**31 - 1, np.int32)
    w = Weights(np.zeros((1, 1, 1, 1), np.int8), top, top, np.zeros(1, np.int8))
    conv = Conv2D("conv", ("x",), "y", w, Activation(), ONE)
    tensors = {"x": Tensor("x", (1, 1, 1), Quant(1.0, 0)), "y": Tensor("y", (1, 1, 1), Quant(1.0, 127))}
    graph = Graph("wraps", tensors, (conv,), "x", ("y",))
    assert channel_intervals(graph)["y"].tolist() == [[-128], [127]]
    assert set(Interpreter(graph).run(EVERY_BYTE).ravel().tolist()) == {-128}


@given(windows())
def test_the_taps_are_those_of_all_places_gone_through(case: tuple[tuple[int, int], Window]) -> None:
    (height, width), window = case
    rows, columns = window.output_size(height, width)
    inside, outside = np.zeros((2, *window.kernel), bool)
    for oy, ox, ky, kx in itertools.product(range(rows), range(columns), *map(range, window.kernel)):
        y = oy * window.stride[0] - window.padding.top + ky * window.dilation[0]
        x = ox * window.stride[1] - window.padding.left + kx * window.dilation[1]
        within = 0 <= y < height and 0 <= x < width
        inside[ky, kx] |= within
        outside[ky, kx] |= not within
    found = window_taps(window, height, width)
    assert np.array_equal(found[0], inside)
    assert np.array_equal(found[1], outside)


def test_a_tap_that_is_in_the_padding_alone_counts_for_nothing() -> None:
    """A 3x3 window on one pixel: only its middle ever reads."""
    inside, outside = window_taps(Window((3, 3), padding=Padding(1, 1, 1, 1)), 1, 1)
    assert inside.tolist() == [[False] * 3, [False, True, False], [False] * 3]
    assert outside.tolist() == [[True] * 3, [True, False, True], [True] * 3]
    w = small_weights(1, 3, 3, 1, channels=1)  # 1 to 9: 5 in the middle, and a bias of 10
    conv = Conv2D("conv", ("x",), "y", w, Activation(), Window((3, 3), padding=Padding(1, 1, 1, 1)))
    x = np.array([[-3], [2]])
    assert accumulators(conv, Tensor("x", (1, 1, 1), Quant(1.0, 0)), x).tolist() == [[10 - 15], [10 + 10]]
    # On three pixels in a row the neighbours are 4 and 6, which may be in the padding.
    wide = Tensor("x", (1, 3, 1), Quant(1.0, 0))
    assert accumulators(conv, wide, x).tolist() == [[10 - 45], [10 + 30]]
    always_two = np.array([[2], [2]])
    assert accumulators(conv, wide, always_two).tolist() == [[10 + 10], [10 + 30]]
