"""Equalised channels: the float function to the last bit, what is left alone, and what int8 gains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.quantization import mean_sqnr
from benchmarks.quantization import spread as unlike_channels
from tests.test_quantize import POINT, counted, floats, random_network, random_pictures, real
from tinymbn.architectures import mobilenet_v1
from tinymbn.layers import Conv2D, Depthwise
from tinymbn.quantize import (
    BatchNorm,
    FloatAdd,
    FloatConv2D,
    FloatDense,
    FloatDepthwise,
    FloatGraph,
    FloatInterpreter,
    Method,
    Observed,
    Range,
    calibrate,
    equalize,
    fold,
    observe,
)
from tinymbn.quantize.float_layers import AnyFloatLayer, FloatActivation

Array = NDArray[np.float32]

METHODS: tuple[Method, ...] = ("minmax", "percentile", "mse", "kl")


def spread(seed: int, sigma: float = 1.0) -> FloatGraph:
    """The random network, its channels as different as log-normal factors of batch-norms make them."""
    graph, chance = random_network(seed), np.random.default_rng(seed)
    layers = list(graph.layers)
    for k, layer in enumerate(layers):
        if isinstance(layer, BatchNorm):
            by = np.exp(chance.normal(0, sigma, layer.gamma.size)).astype(np.float32)
            layers[k] = replace(layer, gamma=layer.gamma * by, beta=layer.beta * by)
    return replace(graph, layers=tuple(layers))


def two_layers(
    reader: AnyFloatLayer, activation: FloatActivation = "relu", channels: int = 2, *more: AnyFloatLayer
) -> FloatGraph:
    """A convolution that copies its input to t, which the reader reads."""
    eye = np.eye(channels, dtype=np.float32).reshape(channels, 1, 1, channels)
    first = FloatConv2D("first", ("x",), "t", eye, np.zeros(channels, np.float32), POINT, activation=activation)
    layers = (first, reader, *more)
    return FloatGraph("two", "x", (1, 1, channels), layers, (layers[-1].output,))


def equalized(graph: FloatGraph, *pixels: Array, kept: Range | None = None) -> tuple[FloatGraph, list[float]]:
    """The graph after these pixels, and the factors of tensor t; ``kept`` stands for the range that was chosen."""
    seen = observe(graph, [pixel.reshape(graph.input_shape) for pixel in pixels])
    ranges = {name: kept or observed.histogram.range for name, observed in seen.items()}
    made, factors = equalize(graph, seen, ranges)
    return made, factors["t"].tolist() if "t" in factors else []


DEPTHWISE = FloatDepthwise("d", ("t",), "y", floats(3, 5).reshape(1, 1, 2), floats(7, 11), POINT)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("method", METHODS)
def test_the_function_is_the_same_to_the_last_bit(seed: int, method: Method) -> None:
    pictures = real(random_pictures(seed, 12))
    calibration = calibrate(spread(seed), pictures, input_range=(0, 1), method=method)
    assert sum(map(calibration.scaled_channels, calibration.factors)) > 20
    before, after = FloatInterpreter(fold(spread(seed))), FloatInterpreter(calibration.graph)
    for picture in pictures:
        for (layer, expected), (_, found) in zip(before.steps(picture), after.steps(picture), strict=True):
            assert (expected * calibration.factors.get(layer.output, np.float32(1)) == found).all()


def test_a_depthwise_layer_makes_up_for_the_factors() -> None:
    # 8 and 0.5: the second could be 16 times as large, 10.7 with the headroom, of which 8 is the power of two.
    graph, factors = equalized(two_layers(DEPTHWISE), floats(8, 0.5))
    assert factors == [1, 8]
    first, second = graph.layers
    assert isinstance(first, FloatConv2D)
    assert isinstance(second, FloatDepthwise)
    assert first.weights.reshape(2, 2).tolist() == [[1, 0], [0, 8]]
    assert second.weights.ravel().tolist() == [3, 5 / 8]
    assert second.bias.tolist() == [7, 11]


def test_relu6_cuts_no_channel_below_the_headroom() -> None:
    original = two_layers(DEPTHWISE, "relu6")
    graph, factors = equalized(original, floats(6, 0.5))
    assert factors == [1, 8]
    for x in (floats(9, 0.75), floats(3, 0.1), floats(-1, -1)):
        expected, found = (FloatInterpreter(g).run(x.reshape(1, 1, 2)) for g in (original, graph))
        assert np.array_equal(expected, found)


def test_relu6_keeps_factors_within_6_however_wide_the_range_is() -> None:
    assert equalized(two_layers(DEPTHWISE, "relu6"), floats(6, 0.5), kept=Range(0, 50))[1] == [1, 8]
    assert equalized(two_layers(DEPTHWISE, "relu"), floats(6, 0.5), kept=Range(0, 50))[1] == [4, 16]


def test_negative_values_count_where_nothing_clamps() -> None:
    assert equalized(two_layers(DEPTHWISE, "none"), floats(8, 0.5), floats(-8, -2))[1] == [1, 2]
    assert equalized(two_layers(DEPTHWISE, "none"), floats(8, 0.5), floats(-1, -0.25))[1] == [1, 2]


def test_channels_that_reach_the_range_stay() -> None:
    assert equalized(two_layers(DEPTHWISE), floats(8, 8))[1] == []
    # The chosen range cuts the first channel; the second may reach a part of what is kept.
    assert equalized(two_layers(DEPTHWISE), floats(8, 0.5), kept=Range(0, 2))[1] == [1, 2]


def test_a_channel_that_was_always_zero_stays() -> None:
    assert equalized(two_layers(DEPTHWISE), floats(8, -1))[1] == []
    assert equalized(two_layers(DEPTHWISE), floats(-8, -1))[1] == []  # a tensor of zeros


def test_a_faint_channel_gets_no_more_than_16() -> None:
    assert equalized(two_layers(DEPTHWISE), floats(8, 1e-30))[1] == [1, 16]
    assert equalized(two_layers(DEPTHWISE), floats(8, 1e-45))[1] == [1, 16]


def test_a_factor_makes_no_weight_infinite() -> None:
    graph = two_layers(DEPTHWISE)
    first = graph.layers[0]
    assert isinstance(first, FloatConv2D)
    huge = replace(first, weights=np.array([[1, 0], [0, 1e38]], np.float32).reshape(2, 1, 1, 2))
    graph = replace(graph, layers=(huge, *graph.layers[1:]))
    assert equalized(graph, floats(8, 1e-38))[1] == [1, 2]


def test_a_reader_whose_weights_share_a_scale_gets_the_root() -> None:
    # Both inputs meet the greatest weight of an output: 4 is the root of 16.
    conv = FloatConv2D("c", ("t",), "y", floats(1, -1, 1, 1).reshape(2, 1, 1, 2), floats(0, 0), POINT)
    graph, factors = equalized(two_layers(conv), floats(8, 0.5))
    assert factors == [1, 4]
    reader = graph.layers[1]
    assert isinstance(reader, FloatConv2D)
    assert reader.weights.reshape(2, 2).tolist() == [[1, -0.25], [1, 0.25]]
    # The second meets a quarter of it: the root of 16 / 4.
    dense = FloatDense("c", ("t",), "y", floats(1, 0.25).reshape(1, 2), floats(0))
    assert equalized(two_layers(dense), floats(8, 0.5))[1] == [1, 2]
    # No output reads anything.
    dense = FloatDense("c", ("t",), "y", floats(0, 0).reshape(1, 2), floats(0))
    assert equalized(two_layers(dense), floats(8, 0.5))[1] == []


def test_both_outputs_of_a_channel_make_up_for_it() -> None:
    wide = FloatDepthwise("d", ("t",), "y", counted(1, 1, 4), floats(0, 0, 0, 0), POINT)
    graph, factors = equalized(two_layers(wide), floats(8, 1))
    assert factors == [1, 4]
    reader = graph.layers[1]
    assert isinstance(reader, FloatDepthwise)
    assert reader.weights.ravel().tolist() == [1, 2, 3 / 4, 4 / 4]


def test_what_others_read_is_left_alone() -> None:
    add = FloatAdd("a", ("t", "y"), "z")
    assert equalized(two_layers(DEPTHWISE, "relu", 2, add), floats(8, 0.5))[1] == []
    graph = two_layers(DEPTHWISE)
    assert equalized(replace(graph, outputs=("t", "y")), floats(8, 0.5))[1] == []
    # Nor is what goes into a sum, or comes out of one.
    assert equalized(two_layers(FloatAdd("a", ("t", "x"), "y")), floats(8, 0.5))[1] == []


def test_weights_before_a_depthwise_layer_are_the_same_integers() -> None:
    """Each channel has a weight scale of its own; only biases and rescalings change."""
    pictures = real(random_pictures(0, 12))
    on, off = (
        calibrate(spread(0), pictures, input_range=(0, 1), equalized=equalized).convert() for equalized in (True, False)
    )
    assert on.tensors == off.tensors
    changed = 0
    for ours, theirs in zip(on.layers, off.layers, strict=True):
        if isinstance(ours, Depthwise) or ours.name == "a/expand":
            assert isinstance(ours, Conv2D | Depthwise)
            assert isinstance(theirs, Conv2D | Depthwise)
            assert (ours.weights.values == theirs.weights.values).all()
            changed += int((ours.weights.shift != theirs.weights.shift).sum())
    assert changed > 20


@pytest.mark.parametrize("method", ["mse", "minmax"])
def test_int8_comes_nearer_to_float_where_channels_are_unlike(method: Method) -> None:
    """A part of the table in docs/quantization.md."""
    front = replace(mobilenet_v1(0.25), stages=mobilenet_v1(0.25).stages[:9])
    networks = [unlike_channels(front, "relu6", 1.5, seed) for seed in range(2)]
    assert mean_sqnr(networks, method, equalized=True) > mean_sqnr(networks, method, equalized=False) + 3


def test_observed_is_what_is_seen_of_the_scaled_tensor() -> None:
    pictures = real(random_pictures(0, 5))
    calibration = calibrate(spread(0), pictures, input_range=(0, 1))
    again = observe(calibration.graph, pictures)
    for name, observed in calibration.seen.items():
        assert isinstance(observed, Observed)
        for part in ("mean", "low", "high"):
            np.testing.assert_allclose(getattr(observed, part), getattr(again[name], part), rtol=1e-6)
