"""Which values each channel of each tensor can take, whatever the input: integer interval analysis.

An interval is the least and the greatest value, int64 of shape (2, C), of the C channels of a tensor, its last axis.
Every int8 that the layers can make lies within; that each value within can be made is not said. All arithmetic here is
that of ``fixedpoint``, on the two ends: it is monotone but where an int32 wraps, and there the interval is all that
the activation lets through.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import ADD_LEFT_SHIFT
from tinymbn.graph import Graph, Tensor
from tinymbn.layers import (
    Activation,
    Add,
    AnyLayer,
    AveragePool,
    Concat,
    Conv2D,
    Dense,
    Depthwise,
    Dequantize,
    Lookup,
    MaxPool,
    Mean,
    Mul,
    Pad,
    Quantize,
    Requantize,
    Reshape,
    ResizeNearest,
    Softmax,
    Transpose,
    Window,
)

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

Interval = NDArray[np.int64]
"""Least and greatest value of each channel, (2, C)."""

_INT32 = 2**31  # an int32 is in [-_INT32, _INT32)


def channel_intervals(graph: Graph) -> dict[str, Interval]:
    """The interval of every tensor by name; the input takes any int8."""
    intervals = {graph.input: _everything(graph.input_tensor)}
    for name, values in graph.constants.items():
        pixels = values.reshape(-1, values.shape[-1]).astype(np.int64)
        intervals[name] = np.stack([pixels.min(axis=0), pixels.max(axis=0)])
    for layer in graph.layers:
        intervals[layer.output] = _made_by(layer, graph, intervals)
    return intervals


def accumulators(layer: Conv2D | Depthwise | Dense, source: Tensor, x: Interval) -> Interval:
    """What each output channel's accumulator can be, as a whole number: one beyond int32 wraps.

    Args:
        layer: whose.
        source: what it reads.
        x: the interval of that.
    """
    w = layer.weights
    centred = x - source.zero_point
    weights = w.values.astype(np.int64) - w.zero_point
    if isinstance(layer, Depthwise):
        centred = np.repeat(centred, layer.channels // x.shape[1], axis=1)
    ends = centred[:, None, None, :]
    if not isinstance(layer, Dense):
        inside, outside = window_taps(layer.window, source.shape[0], source.shape[1])
        # Padding adds nothing, as a 0 would: a tap that may meet it may see a 0, one that always does sees no other.
        padded = np.stack([np.minimum(ends[0], 0), np.maximum(ends[1], 0)])
        ends = np.where(outside[:, :, None], padded, ends) * inside[:, :, None]
    low, high = ends
    # A sum of w * x is least and greatest where each x is at an end: half of w * (low + high) -+ |w| * (high - low).
    if isinstance(layer, Depthwise):
        middle = (weights * (low + high)).sum(axis=(0, 1))
        spread = (np.abs(weights) * (high - low)).sum(axis=(0, 1))
    else:
        rows = weights.reshape(layer.channels, -1)
        middle = rows @ (low + high).ravel()
        spread = np.abs(rows, out=rows) @ (high - low).ravel()
    return np.asarray(np.stack([middle - spread, middle + spread]) // 2 + w.bias)


def window_taps(window: Window, height: int, width: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each tap of the kernel, (K_h, K_w), ever reads the map, and whether it ever lies in the padding."""
    outputs = window.output_size(height, width)
    before = window.padding.top, window.padding.left
    inside, outside = [], []
    for size, count, kernel, stride, dilation, pad in zip(
        (height, width), outputs, window.kernel, window.stride, window.dilation, before, strict=True
    ):
        first = np.arange(kernel) * dilation - pad  # where each tap lies for the first output
        last = first + (count - 1) * stride
        entry = first + np.maximum(-(first // stride), 0) * stride  # the first place that is not before the map
        inside.append((entry < size) & (entry <= last))
        outside.append((first < 0) | (last >= size))
    return np.logical_and.outer(*inside), np.logical_or.outer(*outside)


def _everything(tensor: Tensor) -> Interval:
    """No more than that the values are int8."""
    return np.repeat([[-128], [127]], tensor.shape[-1], axis=1)


def _made_by(layer: AnyLayer, graph: Graph, intervals: Mapping[str, Interval]) -> Interval:
    """The interval of the layer's output."""
    made = graph.tensors[layer.output]
    read = [graph.tensors[name] for name in layer.inputs]
    given = [intervals[name] for name in layer.inputs]
    x, channels = given[0], made.shape[-1]
    match layer:
        case Conv2D() | Depthwise():
            w = layer.weights
            sums = accumulators(layer, read[0], x)
            return _rescaled(sums, w.multiplier, w.shift, made.zero_point, layer.activation)
        case Dense():
            return _dense(layer, accumulators(layer, read[0], x), made.zero_point)
        case AveragePool() | MaxPool():
            # An average, rounded, lies between what is averaged.
            return np.clip(x, layer.activation.low, layer.activation.high)
        case Mean():
            count = math.prod(read[0].shape[axis] for axis in layer.axes)
            pixels = x if len(read[0].shape) - 1 not in layer.axes else _union(x)
            sums = np.broadcast_to((pixels - read[0].zero_point) * count, (2, channels))
            return _rescaled(sums, layer.multiplier, layer.shift, made.zero_point, Activation())
        case Add():
            a, b = (
                _requantized((interval - tensor.zero_point) << ADD_LEFT_SHIFT, multiplier, shift)[0]
                for interval, tensor, multiplier, shift in (
                    (given[0], read[0], layer.a_multiplier, layer.a_shift),
                    (given[1], read[1], layer.b_multiplier, layer.b_shift),
                )
            )
            return _rescaled(a + b, layer.output_multiplier, layer.output_shift, made.zero_point, layer.activation)
        case Mul():
            a, b = (interval - tensor.zero_point for interval, tensor in zip(given, read, strict=True))
            corners = np.stack([a[0] * b[0], a[0] * b[1], a[1] * b[0], a[1] * b[1]])
            products = np.stack([corners.min(axis=0), corners.max(axis=0)])
            return _rescaled(products, layer.multiplier, layer.shift, made.zero_point, layer.activation)
        case Requantize():
            centred = x - read[0].zero_point
            return _rescaled(centred, layer.multiplier, layer.shift, made.zero_point, layer.activation)
        case Lookup():
            q = np.arange(-128, 128)
            reached = (q >= x[0][:, None]) & (q <= x[1][:, None])
            table = layer.table.astype(np.int64)
            return np.stack([np.where(reached, table, 127).min(axis=1), np.where(reached, table, -128).max(axis=1)])
        case Pad():
            return _padded(layer, x)
        case Concat():
            if layer.axis == len(made.shape) - 1:
                return np.concatenate(given, axis=1)
            return np.stack([np.min([i[0] for i in given], axis=0), np.max([i[1] for i in given], axis=0)])
        case Reshape():
            return _reshaped(x, channels)
        case Transpose():
            stays = layer.permutation[-1] == len(made.shape) - 1
            return x if stays else np.repeat(_union(x), channels, axis=1)
        case ResizeNearest():
            return x
        case Softmax() | Quantize() | Dequantize():
            return _everything(made)
        case _:
            assert_never(layer)


def _union(x: Interval) -> Interval:
    """One channel that takes what any of the channels takes, (2, 1)."""
    return np.array([[x[0].min()], [x[1].max()]])


def _padded(layer: Pad, x: Interval) -> Interval:
    before, after = layer.pads[-1]
    if any(pair != (0, 0) for pair in layer.pads[:-1]):
        x = np.stack([np.minimum(x[0], layer.value), np.maximum(x[1], layer.value)])
    return np.pad(x, ((0, 0), (before, after)), constant_values=layer.value)


def _reshaped(x: Interval, channels: int) -> Interval:
    """Element i of the bytes is in channel i modulo the last axis, before and after."""
    old = x.shape[1]
    if channels % old == 0:
        return np.tile(x, channels // old)
    if old % channels == 0:
        folded = x.reshape(2, -1, channels)
        return np.stack([folded[0].min(axis=0), folded[1].max(axis=0)])
    return np.repeat(_union(x), channels, axis=1)


def _rescaled(
    sums: Interval,
    multiplier: NDArray[np.int32] | int,
    shift: NDArray[np.int8] | int,
    zero_point: int,
    activation: Activation,
) -> Interval:
    """Accumulators as bytes of the output: ``fixedpoint.requantize`` and ``to_output`` of both ends."""
    rescaled, wraps = _requantized(sums, multiplier, shift)
    rescaled = rescaled + zero_point
    wraps = wraps | ~_is_int32(rescaled)
    return _within(activation, rescaled, wraps)


def _requantized(
    sums: Interval, multiplier: NDArray[np.int32] | int, shift: NDArray[np.int8] | int
) -> tuple[Interval, NDArray[np.bool_]]:
    """``fixedpoint.requantize`` of both ends, and whether an int32 wraps in some channel, whose ends mean nothing."""
    factor, exponent = np.asarray(multiplier, np.int64), np.asarray(shift, np.int64)
    left, right = np.maximum(exponent, 0), np.maximum(-exponent, 0)
    wraps = ~_is_int32(sums)
    shifted: Interval = np.left_shift(np.where(wraps, 0, sums), left)
    wraps |= ~_is_int32(shifted)
    high: Interval = (np.where(wraps, 0, shifted) * factor + 2**30) >> 31
    half = (1 << right) >> 1
    rounded: Interval = np.right_shift(high + half - ((high < 0) & (right > 0)), right)
    return rounded, wraps


def _dense(layer: Dense, sums: Interval, zero_point: int) -> Interval:
    """``fixedpoint.requantize_once``, or ``step_count``, of both ends."""
    wraps = ~_is_int32(sums)
    sums = np.where(wraps, 0, sums)
    magnitude = np.abs(sums)
    if layer.steps is None:
        factor, shift = layer.weights.multiplier.astype(np.int64), layer.weights.shift.astype(np.int64)
        rescaled = (magnitude * factor + (np.int64(1) << (30 - shift))) >> (31 - shift)
    else:
        rescaled = (layer.steps <= magnitude[:, :, None]).sum(axis=2)
        # Nothing checks that they ascend, and a binary search among others finds anything.
        wraps = wraps | (np.diff(layer.steps, axis=1) < 0).any(axis=1)
    return _within(layer.activation, np.where(sums < 0, -rescaled, rescaled) + zero_point, wraps)


def _is_int32(ends: Interval) -> NDArray[np.bool_]:
    """Whether both ends of each channel are, (C,)."""
    return np.asarray((ends[0] >= -_INT32) & (ends[1] < _INT32))


def _within(activation: Activation, ends: Interval, wraps: NDArray[np.bool_]) -> Interval:
    """The ends clamped; of channels that wrap, the clamp's own."""
    clamped = np.clip(ends, activation.low, activation.high)
    return np.where(wraps, [[activation.low], [activation.high]], clamped)
