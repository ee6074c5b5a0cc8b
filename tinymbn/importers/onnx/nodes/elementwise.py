"""Nodes that compute each output element from one or two input elements, or a row of them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.channels_first import layers
from tinymbn.importers.channels_first.lowering import Value
from tinymbn.importers.onnx.file import Node
from tinymbn.importers.onnx.lowering import Constant, OnnxLowering
from tinymbn.importers.onnx.nodes.operands import operand
from tinymbn.importers.scaling import Arithmetic

_ARITHMETIC: Mapping[str, Arithmetic] = {"Add": "add", "Div": "div", "Mul": "mul", "Sub": "sub"}


def batch_norm(low: OnnxLowering, node: Node) -> Value:
    """BatchNormalization."""
    if node.attributes.get("training_mode"):
        raise UnsupportedError("training mode: export the model for inference")
    if len(node.inputs) < 5:
        raise ModelError(f"{len(node.inputs)} inputs; expected 5")
    parameters = [low.real(name, "parameter") for name in node.inputs[1:5]]
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    return layers.batch_norm(low, node, low.value(node.inputs[0]), parameters, epsilon)


def relu(low: OnnxLowering, node: Node) -> Value:
    """Relu."""
    return layers.clamp(low, node, low.value(node.inputs[0]), 0.0, math.inf)


def clip(low: OnnxLowering, node: Node) -> Value:
    """Clip, with bounds as attributes or as inputs."""

    def bound(index: int, name: str, default: float) -> float:
        if not operand(node, index):
            return float(node.attributes.get(name, default))
        values = low.constant(node.inputs[index], name).values
        return float(values.ravel()[0]) if values.size == 1 else math.nan

    least, most = bound(1, "min", -math.inf), bound(2, "max", math.inf)
    return layers.clamp(low, node, low.value(node.inputs[0]), least, most)


def extreme(low: OnnxLowering, node: Node) -> Value:
    """Min and Max with a constant, as some tools write a ReLU6."""
    if len(node.inputs) != 2:
        raise UnsupportedError(f"{len(node.inputs)} inputs; expected 2")
    first_constant = isinstance(low.found.get(node.inputs[0]), Constant)
    x, limit = reversed(node.inputs) if first_constant else node.inputs
    values = low.real(limit, "operand")
    if values.size != 1:
        raise UnsupportedError(f"an operand of shape {values.shape}; expected one number")
    bound = float(values.ravel()[0])
    limits = (bound, math.inf) if node.op == "Max" else (-math.inf, bound)
    return layers.clamp(low, node, low.value(x), *limits)


def arithmetic(low: OnnxLowering, node: Node) -> Value:
    """Add of two tensors; Add, Sub, Mul and Div with a constant."""
    if len(node.inputs) != 2:
        raise ModelError(f"{len(node.inputs)} inputs; expected 2")
    a, b = (low.operand(name) for name in node.inputs)
    return layers.arithmetic(low, node, _ARITHMETIC[node.op], a, b)


def sigmoid(low: OnnxLowering, node: Node) -> Value:
    """Sigmoid."""
    return layers.sigmoid(low, node, low.value(node.inputs[0]))


def softmax(low: OnnxLowering, node: Node) -> Value:
    """Softmax; before opset 13 over all axes from one on."""
    value = low.value(node.inputs[0])
    rank, old = value.indices.ndim, low.file.opset < 13
    axis = node.attributes.get("axis", 1 if old else -1)
    if not -rank <= axis < rank:
        raise ModelError(f"axis {axis} of a tensor of rank {rank}")
    axis %= rank
    several = [other for other in range(rank) if (other >= axis if old else other == axis) and value.shape[other] > 1]
    if len(several) > 1:
        raise UnsupportedError(f"over axes {several} at once")
    return layers.softmax(low, node, value, several[0] if several else axis)
