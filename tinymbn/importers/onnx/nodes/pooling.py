"""Pools and means."""

from __future__ import annotations

from dataclasses import replace

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.channels_first import layers
from tinymbn.importers.channels_first.lowering import Value
from tinymbn.importers.onnx.constants import axes_of
from tinymbn.importers.onnx.file import Node
from tinymbn.importers.onnx.lowering import IntegerValue, OnnxLowering
from tinymbn.importers.onnx.nodes.operands import operand, pair, window_of
from tinymbn.layers import Window


def average_pool(low: OnnxLowering, node: Node) -> Value:
    """AveragePool."""
    value, counts = low.value(node.inputs[0]), bool(node.attributes.get("count_include_pad"))
    return layers.average_pool(
        low, node, value, _window(node, value), counts_padding=counts, rounds_up=_rounds_up(node)
    )


def max_pool(low: OnnxLowering, node: Node) -> Value:
    """MaxPool."""
    if len([name for name in node.outputs if name]) > 1:
        raise UnsupportedError("the indices of the maxima")
    value = low.any_value(node.inputs[0])
    made = layers.max_pool(low, node, value, _window(node, value), rounds_up=_rounds_up(node))
    if not isinstance(value, IntegerValue):
        return made
    if value.quant is not None:
        low.quants[made.tensor] = value.quant
    return replace(value, tensor=made.tensor, indices=made.indices)


def _window(node: Node, value: Value) -> Window:
    if "kernel_shape" not in node.attributes:
        raise ModelError("no kernel_shape")
    return window_of(node, value, pair(node, "kernel_shape", (1, 1)))


def _rounds_up(node: Node) -> bool:
    return bool(node.attributes.get("ceil_mode"))


def global_max_pool(low: OnnxLowering, node: Node) -> Value:
    """GlobalMaxPool: one window as large as the map."""
    value = low.value(node.inputs[0])
    value.require_map()
    return layers.max_pool(low, node, value, Window((value.shape[2], value.shape[3])))


def global_average_pool(low: OnnxLowering, node: Node) -> Value:
    """GlobalAveragePool."""
    value = low.value(node.inputs[0])
    value.require_map()
    return layers.mean(low, node, value, (2, 3), keep=True)


def reduce_mean(low: OnnxLowering, node: Node) -> Value:
    """ReduceMean."""
    value, name = low.value(node.inputs[0]), operand(node, 1)
    axes = axes_of(node, low.constant(name, "axes").values if name else None, value.indices.ndim)
    if not axes and node.attributes.get("noop_with_empty_axes"):
        return value
    keep = bool(node.attributes.get("keepdims", 1))
    return layers.mean(low, node, value, axes or tuple(range(1, value.indices.ndim)), keep=keep)
