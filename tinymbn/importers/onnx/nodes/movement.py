"""Nodes that compute nothing."""

from __future__ import annotations

from tinymbn.errors import UnsupportedError
from tinymbn.importers.channels_first.lowering import Value
from tinymbn.importers.onnx.constants import FLOATS, MOVEMENTS
from tinymbn.importers.onnx.file import Node
from tinymbn.importers.onnx.lowering import Constant, IntegerValue, OnnxLowering
from tinymbn.importers.onnx.nodes.operands import operand


def nothing(low: OnnxLowering, node: Node) -> Constant | Value:
    """Identity and Dropout."""
    return low.found[node.inputs[0]]


def cast(low: OnnxLowering, node: Node) -> Constant | Value:
    """Cast from one type of real numbers to another, or of an input's integers to real numbers."""
    if node.attributes.get("to") not in FLOATS:
        raise UnsupportedError("to a type that is not float")
    value = low.found[node.inputs[0]]
    if not isinstance(value, IntegerValue):
        return value
    if value.quant is not None:  # steps of a scale, which the graph's tensor has as real numbers
        return low.value(node.inputs[0])
    low.take_input(None)
    return value.real()


def move(low: OnnxLowering, node: Node) -> Value:
    """Reshape, Flatten, Transpose, Squeeze, Unsqueeze."""
    value = low.any_value(node.inputs[0])
    rest = [low.constant(name, "operand").values if name else None for name in node.inputs[1:]]
    return low.move(node, value, MOVEMENTS[node.op](node, value.indices, *rest))


def pad(low: OnnxLowering, node: Node) -> Value:
    """Pad with zeros, which the convolution that follows takes in."""
    value = low.value(node.inputs[0])
    rank = value.indices.ndim
    if node.attributes.get("mode", "constant") != "constant":
        raise UnsupportedError(f"mode {node.attributes['mode']}")
    filled = float(node.attributes.get("value", 0.0))
    if operand(node, 2):
        fill = low.constant(node.inputs[2], "value").values
        filled = float(fill.ravel()[0]) if fill.size else 0.0
    if filled != 0:
        raise UnsupportedError(f"value {filled:g}; expected 0")
    pads = node.attributes.get("pads", node.attributes.get("paddings", ()))
    if operand(node, 1):
        pads = tuple(int(amount) for amount in low.constant(node.inputs[1], "pads").values.ravel())
    axes: tuple[int, ...] = tuple(range(rank))
    if operand(node, 3):
        axes = tuple(int(axis) % rank for axis in low.constant(node.inputs[3], "axes").values.ravel())
    if len(pads) != 2 * len(axes) or min(pads, default=0) < 0:
        raise UnsupportedError(f"pads {pads}; expected {2 * len(axes)} numbers of 0 or more")
    around = [(0, 0)] * rank
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        around[axis] = (before, after)
    return low.padded(value, around)
