"""Turns a float graph and the ranges of its tensors into an int8 Graph, by TensorFlow Lite's conventions.

Source: the TensorFlow Lite 8-bit quantization specification,
ai.google.dev/edge/litert/models/quantization_spec.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymbn import fixedpoint
from tinymbn.errors import ModelError
from tinymbn.graph import MAX_SCALE, MIN_SCALE, Graph, Quant, Tensor
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
    FloatLogistic,
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

PROBABILITY_QUANT = Quant(1 / 256, -128)
"""Of what SOFTMAX and LOGISTIC make, as the specification has it."""

_GUESS = Preprocessing()

# Below this a tensor is zero for all practical purposes: its scale would be under the least that a Graph has.
_LEAST_SPAN = 1000 * MIN_SCALE
# The least that SOFTMAX takes.
_SOFTMAX_SCALE = 2.0 ** (fixedpoint.SOFTMAX_DIFF_INTEGER_BITS - 31)
# A bias may take half of int32's range; the other half is the sum's: 2**30 / (255 * 127) = 33154 inputs.
_BIAS_LIMIT = 2**30
# Accumulator units in one output step of a channel without weights: its bias alone sets what they are worth.
_DEAD_CHANNEL_STEPS = 256


@dataclass(frozen=True, eq=False)
class Integers:
    """A layer's weights and biases as whole numbers.

    Attributes:
        values: int8, in the layer's own axes.
        bias: int32, (C_out,), in units of input scale * weight scale.
        scales: float32, (C_out,), of the weights.
        zero_point: of the weights.
    """

    values: NDArray[np.int8]
    bias: NDArray[np.int32]
    scales: NDArray[np.float32]
    zero_point: int = 0


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
        quants[layer.output] = made = _output_quant(layer, sources, ranges[layer.output])
        try:
            with np.errstate(over="ignore"):  # an infinite scale is a ValueError of fixedpoint
                integers = None
                if isinstance(layer, FloatWeighted):
                    mean = None if means is None else means[layer.inputs[0]]
                    integers = quantize_weights(layer, sources[0], made, mean)
                layers.append(convert_layer(layer, sources, made, graph.shapes[layer.inputs[0]], integers))
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


def quant_of_range(values: Range, finest: float = 0.0, of_zeros: float = 1.0) -> Quant:
    """Scale and zero point that spread [low, high], widened to contain 0, over int8; real 0 is exact.

    Args:
        values: low and high.
        finest: what the scale is never below.
        of_zeros: the scale where all values are 0.
    """
    low, high = min(values.low, 0.0), max(values.high, 0.0)
    if high - low < _LEAST_SPAN:
        return Quant(float(np.float32(max(of_zeros, finest))), 0)
    scale = float(np.float32(max((high - low) / 255, finest)))
    zero_point = fixedpoint.round_half_away(-128 - low / scale)
    return Quant(scale, min(max(zero_point, -128), 127))


def _output_quant(layer: AnyFloatLayer, sources: Sequence[Quant], values: Range) -> Quant:
    match layer:
        case AveragePool() | MaxPool() | Reshape():
            return sources[0]
        case FloatSoftmax() | FloatLogistic():
            return PROBABILITY_QUANT
        case _:
            # Zeros keep the scale of what they are made of: it is that of their surroundings, however small those are.
            coarsest = max(source.scale for source in sources)
            return quant_of_range(values, _finest_scale(layer, coarsest), coarsest)


def _finest_scale(layer: AnyFloatLayer, coarsest: float) -> float:
    """The least scale of an output that a layer's integers can make, or twice that; ``coarsest`` is that of its inputs.

    Only where terms cancel is an output so much smaller than they are. What is left of it then are rounding errors of
    float32, and differences that are far below the steps of the inputs.
    """
    if isinstance(layer, FloatAdd):
        return coarsest / 2**18  # fixedpoint.add_scaling
    if isinstance(layer, FloatWeighted):
        weight, bias = (float(np.abs(values).max()) for values in (layer.weights, layer.bias))
        coarsest = max(coarsest * weight / 127, bias / _BIAS_LIMIT)
    return min(coarsest / 2**29, MAX_SCALE / 2)  # fixedpoint.multiplier_and_shift


def convert_layer(
    layer: AnyFloatLayer,
    sources: Sequence[Quant],
    made: Quant,
    input_shape: tuple[int, ...],
    integers: Integers | None,
) -> AnyLayer:
    """The int8 layer of a float one.

    Args:
        layer: no batch-norm.
        sources: of its inputs.
        made: of its output; a pool and a Reshape keep their source's, Softmax has ``PROBABILITY_QUANT``.
        input_shape: of its first input.
        integers: of a layer with weights.

    Raises:
        ValueError: scales that 32-bit integers cannot express.
    """
    name, inputs, output, source = layer.name, layer.inputs, layer.output, sources[0]
    match layer:
        case FloatConv2D():
            assert integers is not None
            weights, activation = rescaling(integers, source, made), _activation(layer.activation, made)
            return Conv2D(name, inputs, output, weights, activation, layer.window)
        case FloatDepthwise():
            assert integers is not None
            weights, activation = rescaling(integers, source, made), _activation(layer.activation, made)
            return Depthwise(name, inputs, output, weights, activation, layer.window)
        case FloatDense():
            assert integers is not None
            weights, steps = _dense_rescaling(integers, source, made)
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
            # All inputs of a finer scale are so near that their scores are equal.
            return Softmax(name, inputs, output, *fixedpoint.softmax_scaling(max(source.scale, _SOFTMAX_SCALE), 1.0))
        case FloatLogistic():
            table = fixedpoint.logistic_table(source.scale, source.zero_point, made.scale, made.zero_point)
            return Lookup(name, inputs, output, "logistic", table)
        case AveragePool() | MaxPool() | Reshape():
            return layer
        case BatchNorm():
            raise ValueError("it is left in the graph; fold the graph first")
    assert_never(layer)


def _activation(activation: str, made: Quant) -> Activation:
    if activation == "relu6" and made.scale * 255 < 6:  # it cuts nothing that int8 has, and may be 2**31 steps away
        activation = "relu"
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
) -> Integers:
    """A layer's int8 weights in [-127, 127] and int32 biases, for inputs of ``source`` and outputs of ``made``.

    ``mean``, of each input channel, corrects the biases, see ``convert``.
    """
    scales = weight_scales(layer, source, made)
    units = scales.astype(np.float64)
    steps = layer.weights / layer.along_channels(units)
    values = np.clip(fixedpoint.round_array_half_away(steps), -127, 127).astype(np.int8)
    real_bias = layer.bias.astype(np.float64)
    if mean is not None:
        real_bias -= _rounding_effect(layer, values * layer.along_channels(units) - layer.weights, mean)
    bias = np.clip(real_bias / (source.scale * units), -_BIAS_LIMIT, _BIAS_LIMIT)
    return Integers(values, fixedpoint.round_array_half_away(bias).astype(np.int32), scales)


def rescaling(integers: Integers, source: Quant, made: Quant) -> Weights:
    """A convolution's weights, with the requantisation from ``source`` to ``made``."""
    factors = fixedpoint.convolution_scales(source.scale, integers.scales, made.scale, single_precision=False)
    multipliers, shifts = zip(*map(fixedpoint.multiplier_and_shift, factors), strict=True)
    multiplier, shift = np.array(multipliers, np.int32), np.array(shifts, np.int8)
    return Weights(integers.values, integers.bias, multiplier, shift, integers.zero_point)


def _dense_rescaling(integers: Integers, source: Quant, made: Quant) -> tuple[Weights, NDArray[np.int32] | None]:
    """A dense layer's weights, as ``rescaling``, and its steps, as ``fixedpoint.dense_scaling``."""
    values, bias, zero_point = integers.values, integers.bias, integers.zero_point
    factors = fixedpoint.convolution_scales(source.scale, integers.scales, made.scale, single_precision=False)
    limits = fixedpoint.accumulator_limits(values, bias, source.zero_point, zero_point)
    scaling = fixedpoint.dense_scaling(factors, limits)
    return Weights(values, bias, scaling.multiplier, scaling.shift, zero_point), scaling.steps


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
