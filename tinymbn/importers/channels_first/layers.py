"""One function a kind of layer, whatever the file calls it: from values and weights, in the file's axes, to a value.

Source: the ONNX operator specification, github.com/onnx/onnx, docs/Operators.md; where PyTorch differs from it, its
importer says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.channels_first.lowering import Lowering, Node, Value, channels_last, has_batch
from tinymbn.importers.scaling import Arithmetic, factor_and_offset, scaled
from tinymbn.importers.weights import Array, conv2d_weights, depthwise_weights
from tinymbn.layers import AveragePool, MaxPool, Padding, Window
from tinymbn.quantize import (
    BatchNorm,
    FloatAdd,
    FloatConv2D,
    FloatDense,
    FloatDepthwise,
    FloatLogistic,
    FloatMean,
    FloatSoftmax,
    Relu,
)

_NO_LIMIT = 3e38  # what tools write as the bound of a clamp that has none, the greatest float32 or infinity

# ---------------------------------------------------------------------------------- layers with weights


def convolution(
    low: Lowering, node: Node, value: Value, weights: Array, bias: Array | None, groups: int, window: Window
) -> Value:
    """A convolution of one group, or of one a channel; weights (C_out, C_in / groups, K_h, K_w)."""
    value.require_map()
    channels = value.shape[1]
    if groups not in (1, channels):
        raise UnsupportedError(f"{str(groups)[:40]} groups of {channels} channels; expected 1, or one a channel")
    if weights.shape[1] * groups != channels:
        raise ModelError(f"weights {weights.shape} do not fit input {value.shape} in {groups} groups")
    tensor, around = low.read_padded(value)
    kind = FloatConv2D if groups == 1 else FloatDepthwise
    values, offsets = convolution_arrangement(groups)(weights), _bias(bias, len(weights))
    layer = kind(node.name, (tensor,), node.output, values, offsets, _widened(window, around))
    return low.make(layer, channels_last(4))


def kernel_of(weights: Array) -> tuple[int, int]:
    """The height and width of a convolution's kernel."""
    if weights.ndim != 4 or weights.size == 0:
        raise UnsupportedError(f"weights of shape {weights.shape}; expected four axes")
    return weights.shape[2], weights.shape[3]


def convolution_arrangement(groups: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """From a convolution's weights in the file to those of the layer."""
    return conv2d_weights if groups == 1 else depthwise_weights


def _widened(window: Window, around: Padding) -> Window:
    """The window with more padding, in which it may not lie whole."""
    padding = window.padding + around
    if max(padding.top, padding.bottom) >= window.extent[0] or max(padding.left, padding.right) >= window.extent[1]:
        raise UnsupportedError(f"a window of {window.extent} fits into its {padding}")
    return replace(window, padding=padding)


def dense(low: Lowering, node: Node, value: Value, weights: Array, bias: Array | None) -> Value:
    """A dense layer over the last axis; weights (C_out, C_in)."""
    if weights.ndim != 2:
        raise UnsupportedError(f"weights of shape {weights.shape}; expected two axes")
    if weights.size == 0 or weights.shape[1:] != value.shape[-1:]:
        raise ModelError(f"weights of shape {weights.shape} do not fit input {value.shape}")
    straight = tuple(range(value.indices.ndim))
    arranged = dense_arrangement(low, value)(weights)
    whole = value.shape[-1] == value.indices.size
    tensor = low.reshaped(value.tensor, value.shape[-1:]) if whole else low.read(value, straight)
    layer = FloatDense(node.name, (tensor,), node.output, arranged, _bias(bias, len(weights)))
    return low.make(layer, straight, (*value.shape[:-1], len(weights)))


def dense_arrangement(low: Lowering, value: Value) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """From weights (C_out, C_in) in the file to those of the layer: for a map that was flattened, moved about."""
    if value.shape[-1] != value.indices.size or low.is_in_order(value.indices):
        return np.ascontiguousarray
    value.require_no_padding()
    places = value.indices.ravel()

    def moved(values: NDArray[Any]) -> NDArray[Any]:
        made = np.empty(values.shape, values.dtype)
        made[:, places] = values
        return made

    return moved


def _bias(bias: Array | None, channels: int) -> Array:
    if bias is None:
        return np.zeros(channels, np.float32)
    try:
        return np.array(np.broadcast_to(bias.ravel(), (channels,)))
    except ValueError:
        raise ModelError(f"bias of shape {bias.shape} for {channels} output channels") from None


# ---------------------------------------------------------------------------------- pools and means


def average_pool(
    low: Lowering, node: Node, value: Value, window: Window, *, counts_padding: bool, rounds_up: bool
) -> Value:
    """An average; where zeros count, as they do not in TensorFlow Lite's, it is a depthwise convolution."""
    pooled, own = _pool_window(value, window, rounds_up=rounds_up), window.padding != Padding()
    tensor, around = low.read_padded(value)
    zeros = around != Padding()
    if not zeros and not (counts_padding and own):
        return low.make(AveragePool(node.name, (tensor,), node.output, pooled), channels_last(4))
    if pooled != window or (own and not counts_padding):
        raise UnsupportedError("zeros of which some count and others do not")
    channels = low.shapes[tensor][2]
    weights = np.full((*window.kernel, channels), 1 / math.prod(window.kernel), np.float32)
    layer = FloatDepthwise(
        node.name, (tensor,), node.output, weights, np.zeros(channels, np.float32), _widened(window, around)
    )
    return low.make(layer, channels_last(4))


def max_pool(low: Lowering, node: Node, value: Value, window: Window, *, rounds_up: bool = False) -> Value:
    """A maximum."""
    pooled = _pool_window(value, window, rounds_up=rounds_up)
    return low.make(MaxPool(node.name, (low.read_map(value),), node.output, pooled), channels_last(4))


def _pool_window(value: Value, window: Window, *, rounds_up: bool) -> Window:
    """With rounding up, padding goes on for as many rows and columns as the last window takes."""
    value.require_map()
    if window.dilation != (1, 1):
        raise UnsupportedError("dilation; expected none")
    p, ends = window.padding, []
    sides = ((p.top, p.bottom), (p.left, p.right))
    for size, kernel, stride, (before, after) in zip(value.shape[2:], window.kernel, window.stride, sides, strict=True):
        padded = size + before + after
        steps = -(-(padded - kernel) // stride)
        if steps * stride >= size + before:  # a window has to begin before the padding after the map
            steps -= 1
        ends.append(after + (max(0, steps * stride + kernel - padded) if rounds_up else 0))
    return replace(window, padding=Padding(p.top, ends[0], p.left, ends[1]))


def mean(low: Lowering, node: Node, value: Value, axes: Collection[int], *, keep: bool) -> Value:
    """A mean over axes, counted from the front."""
    batch, order = has_batch(value.shape), low.order_of(value)
    if batch and 0 in axes:
        raise UnsupportedError(f"axes {tuple(axes)}; the batch is none of them")
    ours = tuple(sorted(order.index(axis) - batch for axis in axes))
    low.add(FloatMean(node.name, (low.read(value, order),), node.output, ours))
    left = [axis for axis in range(value.indices.ndim) if axis not in axes]
    shape = tuple(value.shape[axis] for axis in left)
    made = low.in_order(node.output, shape, [left.index(axis) for axis in order if axis in left])
    return made.moved(np.expand_dims(made.indices, tuple(axes))) if keep else made


# ---------------------------------------------------------------------------------- channels and elements


def batch_norm(low: Lowering, node: Node, value: Value, parameters: Sequence[Array], epsilon: float) -> Value:
    """Gamma, beta, mean and variance, of each channel (N, C, ...)."""
    if value.indices.ndim < 2:
        raise UnsupportedError(f"input of shape {value.shape}")
    along = (-1, *(1,) * (value.indices.ndim - 2))
    value, arrays = low.by_channel(value, *(values.reshape(along) for values in parameters))
    gamma, beta, mean, variance = arrays
    layer = BatchNorm(node.name, (value.tensor,), node.output, gamma, beta, mean, variance, epsilon)
    return low.make_alike(layer, value)


def arithmetic(
    low: Lowering, node: Node, operation: Arithmetic, a: Value | NDArray[Any], b: Value | NDArray[Any]
) -> Value:
    """The sum of two values; or what is made of a value and a constant, which is part of a batch-norm."""
    if isinstance(a, Value) and isinstance(b, Value):
        if operation != "add":
            raise UnsupportedError("of two tensors; expected a constant")
        return _add(low, node, a, b)
    if isinstance(a, Value) and not isinstance(b, Value):
        value, constants = a, factor_and_offset(operation, b, first=False)
    elif isinstance(b, Value) and not isinstance(a, Value):
        value, constants = b, factor_and_offset(operation, a, first=True)
    else:
        raise UnsupportedError("of two constants; expected a tensor")
    value, (factor, offset) = low.by_channel(_of_rank(value, constants[0].ndim), *constants)
    return low.make_alike(scaled(node.name, value.tensor, node.output, factor, offset), value)


def _add(low: Lowering, node: Node, a: Value, b: Value) -> Value:
    rank = max(a.indices.ndim, b.indices.ndim)
    a, b = _of_rank(a, rank), _of_rank(b, rank)
    if a.shape == b.shape and np.array_equal(a.indices, b.indices) and a.indices.min() >= 0:
        tensors = (a.tensor, low.reshaped(b.tensor, low.shapes[a.tensor]))
        return low.make_alike(FloatAdd(node.name, tensors, node.output), a)
    order = low.order_of(a, b)
    try:
        file_shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise ModelError(f"shapes {a.shape} and {b.shape} do not broadcast") from None
    return low.make(FloatAdd(node.name, (low.read(a, order), low.read(b, order)), node.output), order, file_shape)


def _of_rank(value: Value, rank: int) -> Value:
    """With as many axes at least; new ones of 1 come first."""
    return value.moved(value.indices.reshape((1,) * (rank - value.indices.ndim) + value.shape))


def clamp(low: Lowering, node: Node, value: Value, least: float, most: float) -> Value:
    """A ReLU or ReLU6; what a ReLU before it has already cut off is not asked for again."""
    before = low.maker(value.tensor)
    if isinstance(before, Relu):
        least = 0.0 if least < 0 else least
        most = 6.0 if before.activation == "relu6" and most > 6 else most
        if value.tensor not in low.quants:
            value = replace(value, tensor=before.inputs[0])
    if least <= -_NO_LIMIT and most >= _NO_LIMIT:
        return value
    if least != 0 or not (most == 6 or most >= _NO_LIMIT):
        raise UnsupportedError(f"from {least:g} to {most:g}; expected 0 to 6, or 0 and above")
    return low.make_alike(Relu(node.name, (value.tensor,), node.output, "relu6" if most == 6 else "relu"), value)


def sigmoid(low: Lowering, node: Node, value: Value) -> Value:
    """A sigmoid; of zeros that are only padding it would make halves."""
    value.require_no_padding()
    return low.make_alike(FloatLogistic(node.name, (value.tensor,), node.output), value)


def softmax(low: Lowering, node: Node, value: Value, axis: int) -> Value:
    """A softmax over an axis, which has to be the last one of the graph's tensor."""
    order = (*(other for other in range(value.indices.ndim) if other != axis), axis)
    value.require_no_padding()
    if not low.is_in_order(value.indices.transpose(order)):
        raise UnsupportedError(f"over axis {axis} of {value.shape}; expected channels")
    return low.make(FloatSoftmax(node.name, (low.read(value, order),), node.output), order, value.shape)
