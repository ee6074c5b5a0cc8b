"""Pools and means."""

from __future__ import annotations

import math

import numpy as np

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.onnx.constants import axes_of
from tinymbn.importers.onnx.file import Node
from tinymbn.importers.onnx.lowering import Lowering, Value, channels_last
from tinymbn.importers.onnx.nodes.movement import nothing
from tinymbn.importers.onnx.nodes.operands import map_order, operand, pair, window_of
from tinymbn.layers import AveragePool, MaxPool, Padding, Window
from tinymbn.quantize import FloatDepthwise, FloatMean


def average_pool(low: Lowering, node: Node) -> None:
    """AveragePool; one that counts the padding is a depthwise convolution."""
    tensor, window, counted = _pooled(low, node)
    if not counted:
        low.make(AveragePool(node.name, (tensor,), node.outputs[0], window), channels_last(4))
        return
    channels = low.shapes[tensor][2]
    weights = np.full((*window.kernel, channels), 1 / math.prod(window.kernel), np.float32)
    bias = np.zeros(channels, np.float32)
    low.make(FloatDepthwise(node.name, (tensor,), node.outputs[0], weights, bias, window), channels_last(4))


def max_pool(low: Lowering, node: Node) -> None:
    """MaxPool."""
    if len([name for name in node.outputs if name]) > 1:
        raise UnsupportedError("the indices of the maxima")
    tensor, window, _ = _pooled(low, node)
    low.make(MaxPool(node.name, (tensor,), node.outputs[0], window), channels_last(4))


def global_max_pool(low: Lowering, node: Node) -> None:
    """GlobalMaxPool: one window as large as the map."""
    value = low.value(node.inputs[0])
    tensor = low.read(value, map_order(value))
    window = Window((value.shape[2], value.shape[3]))
    low.make(MaxPool(node.name, (tensor,), node.outputs[0], window), channels_last(4))


def _pooled(low: Lowering, node: Node) -> tuple[str, Window, bool]:
    """The map that a pool reads, its window, and whether its average has to count the padding."""
    value = low.value(node.inputs[0])
    tensor = low.read(value, map_order(value))
    window, (rows, columns) = _pooling_window(node, (value.shape[2], value.shape[3]))
    p = window.padding
    counted = bool(node.attributes.get("count_include_pad")) and p != Padding()
    if counted and (rows or columns):
        raise UnsupportedError("count_include_pad with ceil_mode")
    padding = Padding(p.top, p.bottom + rows, p.left, p.right + columns)
    height, width = value.shape[2] + p.top + p.bottom, value.shape[3] + p.left + p.right
    if window.kernel[0] > height + rows or window.kernel[1] > width + columns:
        raise ModelError(f"a kernel of {window.kernel} does not fit input {value.shape} with padding {padding}")
    low.require_room(height * width * value.shape[1])
    return tensor, Window(window.kernel, window.stride, (1, 1), padding), counted


def _pooling_window(node: Node, size: tuple[int, int]) -> tuple[Window, tuple[int, int]]:
    """A pool's window, and the rows and columns that rounding up adds after its padding."""
    if "kernel_shape" not in node.attributes:
        raise ModelError("no kernel_shape")
    window = window_of(node, size, pair(node, "kernel_shape", (1, 1)))
    if window.dilation != (1, 1):
        raise UnsupportedError(f"dilations {window.dilation}")
    if not node.attributes.get("ceil_mode"):
        return window, (0, 0)
    p, extra = window.padding, []
    before_after = ((p.top, p.bottom), (p.left, p.right))
    for length, kernel, stride, (before, after) in zip(size, window.kernel, window.stride, before_after, strict=True):
        steps = -(-(length + before + after - kernel) // stride)
        if steps * stride >= length + before:  # a window has to begin before the padding after the map
            steps -= 1
        extra.append(max(0, steps * stride + kernel - (length + before + after)))
    return window, (extra[0], extra[1])


def global_average_pool(low: Lowering, node: Node) -> None:
    """GlobalAveragePool."""
    value = low.value(node.inputs[0])
    map_order(value)
    _mean(low, node, value, (2, 3), keep=True)


def reduce_mean(low: Lowering, node: Node) -> None:
    """ReduceMean."""
    value = low.value(node.inputs[0])
    name = operand(node, 1)
    axes = axes_of(node, low.constant(name, "axes").values if name else None, value.indices.ndim)
    if not axes:
        if node.attributes.get("noop_with_empty_axes"):
            nothing(low, node)
            return
        axes = tuple(range(1, value.indices.ndim))
    if axes[0] == 0:
        raise UnsupportedError(f"axes {axes}; the batch is none of them")
    _mean(low, node, value, axes, keep=bool(node.attributes.get("keepdims", 1)))


def _mean(low: Lowering, node: Node, value: Value, axes: tuple[int, ...], *, keep: bool) -> None:
    order = low.order_of(value)
    tensor = low.read(value, order)
    ours = tuple(sorted(order.index(axis) - 1 for axis in axes))
    shape = low.add(FloatMean(node.name, (tensor,), node.outputs[0], ours))
    left = [axis for axis in order if axis not in axes]  # the output's axes, the batch in front
    made = np.arange(math.prod(shape), dtype=np.int32).reshape([value.shape[axis] for axis in left])
    made = made.transpose(np.argsort(left))
    low.set(node.outputs[0], Value(node.outputs[0], np.expand_dims(made, axes) if keep else made))
