"""Nodes that compute each output element from one or two input elements, or a row of them."""

from __future__ import annotations

import math

import numpy as np

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.onnx.file import Node
from tinymbn.importers.onnx.lowering import Constant, Lowering, Value
from tinymbn.importers.onnx.nodes.operands import operand
from tinymbn.quantize import BatchNorm, FloatAdd, FloatLogistic, FloatSoftmax, Relu
from tinymbn.quantize.float_layers import FloatActivation

_NO_LIMIT = 3e38  # what tools write as the bound of a Clip that has none, the greatest float32 or infinity


def batch_norm(low: Lowering, node: Node) -> None:
    """BatchNormalization."""
    if node.attributes.get("training_mode"):
        raise UnsupportedError("training mode: export the model for inference")
    if len(node.inputs) < 5:
        raise ModelError(f"{len(node.inputs)} inputs; expected 5")
    value = low.value(node.inputs[0])
    if value.indices.ndim < 2:
        raise UnsupportedError(f"input of shape {value.shape}")
    along = (-1, *(1,) * (value.indices.ndim - 2))
    constants = [low.real(name, "parameter").reshape(along) for name in node.inputs[1:5]]
    value, (scale, offset, mean, variance) = low.by_channel(value, *constants)
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    layer = BatchNorm(node.name, (value.tensor,), node.outputs[0], scale, offset, mean, variance, epsilon)
    low.make_alike(layer, value)


def relu(low: Lowering, node: Node) -> None:
    """Relu."""
    _clamp(low, node, low.value(node.inputs[0]), 0.0, math.inf)


def clip(low: Lowering, node: Node) -> None:
    """Clip, with bounds as attributes or as inputs."""

    def bound(index: int, name: str, default: float) -> float:
        if not operand(node, index):
            return float(node.attributes.get(name, default))
        values = low.constant(node.inputs[index], name).values
        return float(values.ravel()[0]) if values.size == 1 else math.nan

    _clamp(low, node, low.value(node.inputs[0]), bound(1, "min", -math.inf), bound(2, "max", math.inf))


def extreme(low: Lowering, node: Node) -> None:
    """Min and Max with a constant, as some tools write a ReLU6."""
    if len(node.inputs) != 2:
        raise UnsupportedError(f"{len(node.inputs)} inputs; expected 2")
    first_constant = isinstance(low.found.get(node.inputs[0]), Constant)
    x, limit = reversed(node.inputs) if first_constant else node.inputs
    values = low.real(limit, "operand")
    if values.size != 1:
        raise UnsupportedError(f"an operand of shape {values.shape}; expected one number")
    bound = float(values.ravel()[0])
    _clamp(low, node, low.value(x), *((bound, math.inf) if node.op == "Max" else (-math.inf, bound)))


def _clamp(low: Lowering, node: Node, value: Value, least: float, most: float) -> None:
    """A ReLU or ReLU6; what a ReLU before it has already cut off is not asked for again."""
    before = low.maker(value.tensor)
    if isinstance(before, Relu):
        least = 0.0 if least < 0 else least
        most = 6.0 if before.activation == "relu6" and most > 6 else most
        if value.tensor not in low.quants:
            value = Value(before.inputs[0], value.indices)
    if least <= -_NO_LIMIT and most >= _NO_LIMIT:
        low.set(node.outputs[0], value)
        return
    if least != 0 or not (most == 6 or most >= _NO_LIMIT):
        raise UnsupportedError(f"from {least:g} to {most:g}; expected 0 to 6, or 0 and above")
    activation: FloatActivation = "relu6" if most == 6 else "relu"
    low.make_alike(Relu(node.name, (value.tensor,), node.outputs[0], activation), value)


def arithmetic(low: Lowering, node: Node) -> None:
    """Add of two tensors; Add, Sub, Mul and Div with a constant, which are parts of a batch-norm."""
    if len(node.inputs) != 2:
        raise ModelError(f"{len(node.inputs)} inputs; expected 2")
    constant = [isinstance(low.found.get(name), Constant) for name in node.inputs]
    if not any(constant):
        if node.op != "Add":
            raise UnsupportedError("of two tensors; expected a constant")
        _add(low, node)
        return
    first = constant[0]
    values = low.real(node.inputs[0 if first else 1], "operand")
    value = low.value(node.inputs[1 if first else 0])
    one, zero = np.ones((), np.float32), np.zeros((), np.float32)
    factor, offset = one, values
    if node.op == "Sub":
        factor, offset = (-one, values) if first else (one, -values)
    elif node.op in ("Mul", "Div"):
        factor, offset = values, zero
    if node.op == "Div":
        if first or not values.all():
            raise UnsupportedError("a division by what is not constant, or is 0")
        factor = np.asarray(1 / values.astype(np.float64), np.float32)
    low.scale_and_shift(node.name, value, node.outputs[0], factor, offset)


def _add(low: Lowering, node: Node) -> None:
    a, b = (low.value(name) for name in node.inputs)
    rank = max(a.indices.ndim, b.indices.ndim)
    a, b = (Value(x.tensor, x.indices.reshape((1,) * (rank - x.indices.ndim) + x.shape)) for x in (a, b))
    if a.shape == b.shape and np.array_equal(a.indices, b.indices) and a.indices.min() >= 0:
        tensors = (a.tensor, low.reshaped(b.tensor, low.shapes[a.tensor]))
        low.make_alike(FloatAdd(node.name, tensors, node.outputs[0]), a)
        return
    order = low.order_of(a, b)
    try:
        file_shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise ModelError(f"shapes {a.shape} and {b.shape} do not broadcast") from None
    low.make(FloatAdd(node.name, (low.read(a, order), low.read(b, order)), node.outputs[0]), order, file_shape)


def sigmoid(low: Lowering, node: Node) -> None:
    """Sigmoid."""
    value = low.value(node.inputs[0])
    if value.indices.min() < 0:  # of zeros it makes halves
        raise UnsupportedError("it reads padding, which only a convolution may")
    low.make_alike(FloatLogistic(node.name, (value.tensor,), node.outputs[0]), value)


def softmax(low: Lowering, node: Node) -> None:
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
    last = several[0] if several else axis
    if last == 0:  # a tensor without a batch
        value = Value(value.tensor, value.indices[None])
        tensor = low.read(value, tuple(range(rank + 1)))
        shape = low.add(FloatSoftmax(node.name, (tensor,), node.outputs[0]))
        low.set(node.outputs[0], Value(node.outputs[0], value.indices.reshape(shape)))
        return
    order = (*(other for other in range(rank) if other != last), last)
    low.make(FloatSoftmax(node.name, (low.read(value, order),), node.outputs[0]), order)
