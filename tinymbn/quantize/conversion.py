"""Turns a float graph and the ranges of its tensors into an int8 Graph, by TensorFlow Lite's conventions.

Source: the TensorFlow Lite 8-bit quantization specification,
ai.google.dev/edge/litert/models/quantization_spec.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tinymbn import fixedpoint
from tinymbn.errors import ModelError
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.layers import (
    Activation,
    Add,
    AnyLayer,
    AveragePool,
    Conv2D,
    Dense,
    Depthwise,
    MaxPool,
    Mean,
    Requantize,
    Reshape,
    Softmax,
    Weights,
)
from tinymbn.preprocessing import Preprocessing
from tinymbn.quantize.float_graph import FloatGraph
from tinymbn.quantize.float_layers import (
    AnyFloatLayer,
    BatchNorm,
    FloatAdd,
    FloatConv2D,
    FloatDense,
    FloatDepthwise,
    FloatMean,
    FloatSoftmax,
    FloatWeighted,
    Relu,
)
from tinymbn.quantize.histogram import Range

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

_SOFTMAX_QUANT = Quant(1 / 256, -128)
_GUESS = Preprocessing()

# Below this a tensor is constant for all practical purposes, and a scale made of its range would turn
# rounding noise into signal, or underflow.
_LEAST_SPAN = 1e-6
# A bias may take half of int32's range; the other half is the sum's: 2**30 / (255 * 127) = 33154 inputs.
_BIAS_LIMIT = 2**30
# Accumulator units in one output step of a channel without weights: its bias alone sets what they are worth.
_DEAD_CHANNEL_STEPS = 256


def convert(
    graph: FloatGraph,
    ranges: Mapping[str, Range],
    *,
    means: Mapping[str, NDArray[np.float64]] | None = None,
    labels: Sequence[str] = (),
    preprocessing: Preprocessing = _GUESS,
) -> Graph:
    """The int8 Graph.

    Args:
        graph: as ``fold`` leaves it.
        ranges: of every tensor, by name; each is widened to contain 0.
        means: of each channel of every tensor. With them biases make up for what rounding the weights changes on the
            average (Nagel et al. 2019, Data-free quantization, section 4.2); None: they are rounded as they are.
        labels: of the classes.
        preprocessing: from picture to input.

    Raises:
        ModelError: a batch-norm is left, a range is missing, or two scales are further apart than 32-bit
            integers can express.
    """
    missing = [name for name in graph.shapes if name not in ranges]
    if missing:
        raise ModelError(f'tensor "{missing[0]}": no range; calibrate the same, folded graph')
    quants = {graph.input: quant_of_range(ranges[graph.input])}
    layers = []
    for layer in graph.layers:
        sources = [quants[name] for name in layer.inputs]
        quants[layer.output] = made = _output_quant(layer, sources[0], ranges[layer.output])
        try:
            with np.errstate(over="ignore"):  # an infinite scale is a ValueError of fixedpoint
                mean = None if means is None else means[layer.inputs[0]]
                layers.append(_convert_layer(layer, sources, made, graph.shapes[layer.inputs[0]], mean))
        except ValueError as error:
            raise ModelError(f'layer "{layer.name}": {layer.kind}: {error}') from error
    return Graph(
        name=graph.name,
        tensors={name: Tensor(name, shape, quants[name]) for name, shape in graph.shapes.items()},
        layers=tuple(layers),
        input=graph.input,
        outputs=graph.outputs,
        labels=tuple(labels),
        preprocessing=preprocessing,
    )


def quant_of_range(values: Range) -> Quant:
    """Scale and zero point that spread [low, high], widened to contain 0, over int8; real 0 is exact."""
    low, high = min(values.low, 0.0), max(values.high, 0.0)
    if high - low < _LEAST_SPAN:
        return Quant(1.0, 0)
    scale = float(np.float32((high - low) / 255))
    zero_point = fixedpoint.round_half_away(-128 - low / scale)
    return Quant(scale, min(max(zero_point, -128), 127))


def _output_quant(layer: AnyFloatLayer, source: Quant, values: Range) -> Quant:
    match layer:
        case AveragePool() | MaxPool() | Reshape():
            return source
        case FloatSoftmax():
            return _SOFTMAX_QUANT
        case _:
            return quant_of_range(values)


def _convert_layer(
    layer: AnyFloatLayer,
    sources: list[Quant],
    made: Quant,
    input_shape: tuple[int, ...],
    mean: NDArray[np.float64] | None,
) -> AnyLayer:
    name, inputs, output, source = layer.name, layer.inputs, layer.output, sources[0]
    match layer:
        case FloatConv2D():
            weights, activation = quantize_weights(layer, source, made, mean), _activation(layer.activation, made)
            return Conv2D(name, inputs, output, weights, activation, layer.window)
        case FloatDepthwise():
            weights, activation = quantize_weights(layer, source, made, mean), _activation(layer.activation, made)
            return Depthwise(name, inputs, output, weights, activation, layer.window)
        case FloatDense():
            weights, steps = quantize_dense_weights(layer, source, made, mean)
            return Dense(name, inputs, output, weights, _activation(layer.activation, made), steps)
        case Relu():
            scaling = fixedpoint.multiplier_and_shift(fixedpoint.relu_scale(source.scale, made.scale))
            return Requantize(name, inputs, output, *scaling, _activation(layer.activation, made))
        case FloatAdd():
            sum_scaling = fixedpoint.add_scaling(source.scale, sources[1].scale, made.scale)
            return Add(name, inputs, output, *sum_scaling, _activation(layer.activation, made))
        case FloatMean():
            count = int(np.prod([input_shape[axis] for axis in layer.axes]))
            scaling = fixedpoint.mean_multiplier(source.scale, made.scale, count)
            return Mean(name, inputs, output, layer.axes, layer.keep_dims, *scaling)
        case FloatSoftmax():
            return Softmax(name, inputs, output, *fixedpoint.softmax_scaling(source.scale, 1.0))
        case AveragePool() | MaxPool() | Reshape():
            return layer
        case BatchNorm():
            raise ValueError("it is left in the graph; fold the graph first")
    assert_never(layer)


def _activation(activation: str, made: Quant) -> Activation:
    return Activation(*fixedpoint.activation_range(activation, made.scale, made.zero_point))


def weight_scales(layer: FloatWeighted, source: Quant, made: Quant) -> NDArray[np.float32]:
    """The scale of each output channel's weights, (C_out,), all > 0.

    It is the greatest weight over 127, widened where the bias would not fit int32. A channel without weights
    gets the scale that makes its accumulator a fraction of an output step, so that its bias is exact enough.
    """
    others = tuple(axis for axis in range(layer.weights.ndim) if axis != layer.channel_axis)
    greatest = np.abs(layer.weights).max(axis=others).astype(np.float64)
    for_weights = greatest / 127
    for_bias = np.abs(layer.bias.astype(np.float64)) / (source.scale * _BIAS_LIMIT)
    dead = for_weights < np.finfo(np.float32).tiny
    for_weights[dead] = made.scale / (source.scale * _DEAD_CHANNEL_STEPS)
    scales: NDArray[np.float32] = np.maximum(for_weights, for_bias).astype(np.float32)
    return scales


def quantize_weights(
    layer: FloatWeighted, source: Quant, made: Quant, mean: NDArray[np.float64] | None = None
) -> Weights:
    """A convolution's int8 weights in [-127, 127], int32 biases and requantisation from ``source`` to ``made``.

    ``mean``, of each input channel, corrects the biases, see ``convert``.
    """
    values, bias, factors = _integers(layer, source, made, mean)
    multipliers, shifts = zip(*map(fixedpoint.multiplier_and_shift, factors), strict=True)
    return Weights(values, bias, np.array(multipliers, np.int32), np.array(shifts, np.int8))


def quantize_dense_weights(
    layer: FloatDense, source: Quant, made: Quant, mean: NDArray[np.float64] | None = None
) -> tuple[Weights, NDArray[np.int32] | None]:
    """A dense layer's weights, as ``quantize_weights``, and its steps, as ``fixedpoint.dense_scaling``."""
    values, bias, factors = _integers(layer, source, made, mean)
    limits = fixedpoint.accumulator_limits(values, bias, source.zero_point, 0)
    scaling = fixedpoint.dense_scaling(factors, limits)
    return Weights(values, bias, scaling.multiplier, scaling.shift), scaling.steps


def _integers(
    layer: FloatWeighted, source: Quant, made: Quant, mean: NDArray[np.float64] | None
) -> tuple[NDArray[np.int8], NDArray[np.int32], list[float]]:
    """Weights, biases, and the real factor from accumulator to output of each channel."""
    scales = weight_scales(layer, source, made)
    units = scales.astype(np.float64)
    steps = layer.weights / layer.along_channels(units)
    values = np.clip(fixedpoint.round_array_half_away(steps), -127, 127).astype(np.int8)
    real_bias = layer.bias.astype(np.float64)
    if mean is not None:
        real_bias -= _rounding_effect(layer, values * layer.along_channels(units) - layer.weights, mean)
    bias = np.clip(real_bias / (source.scale * units), -_BIAS_LIMIT, _BIAS_LIMIT)
    factors = fixedpoint.convolution_scales(source.scale, scales, made.scale, single_precision=False)
    return values, fixedpoint.round_array_half_away(bias).astype(np.int32), factors


def _rounding_effect(
    layer: FloatWeighted, errors: NDArray[np.float64], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What errors of the weights add to each output channel on inputs of these means, borders left out; (C_out,)."""
    if isinstance(layer, FloatDepthwise):
        effect: NDArray[np.float64] = errors.sum(axis=(0, 1)) * np.repeat(mean, layer.channels // len(mean))
        return effect
    by_input = errors.sum(axis=(1, 2)) if isinstance(layer, FloatConv2D) else errors
    # A dense layer may read a map of several rows: then its inputs are not the channels whose means are known.
    return by_input @ mean if by_input.shape[1] == len(mean) else np.zeros(len(errors))
