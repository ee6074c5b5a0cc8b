"""Operators that compute each output element from one or two input elements, or a row of them."""

from __future__ import annotations

import numpy as np

from tinymbn import fixedpoint
from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.tflite.file import Operator
from tinymbn.importers.tflite.lowering import Lowering
from tinymbn.importers.tflite.operators.operands import activation, option
from tinymbn.layers import Add, Lookup, Mul, Requantize, Shape, Softmax

_RELUS = {"RELU": "relu", "RELU6": "relu6", "RELU_N1_TO_1": "relu_n1_to_1", "RELU_0_TO_1": "relu_0_to_1"}


def add(low: Lowering, op: Operator) -> None:
    """ADD."""
    file_shape = _broadcast_shape(low, op)
    a, b = low.input(op.inputs[0]), low.input(op.inputs[1])
    name = low.output(op.outputs[0], file_shape)
    scaling = fixedpoint.add_scaling(a.scale, b.scale, low.quant(op.outputs[0]).scale)
    low.layers.append(
        Add(
            name=name,
            inputs=(a.name, b.name),
            output=name,
            activation=activation(low, op),
            **scaling._asdict(),
        )
    )


def mul(low: Lowering, op: Operator) -> None:
    """MUL."""
    file_shape = _broadcast_shape(low, op)
    a, b = low.input(op.inputs[0]), low.input(op.inputs[1])
    name = low.output(op.outputs[0], file_shape)
    scale = fixedpoint.mul_scale(a.scale, b.scale, low.quant(op.outputs[0]).scale)
    multiplier, shift = fixedpoint.multiplier_and_shift(scale)
    low.layers.append(
        Mul(
            name=name,
            inputs=(a.name, b.name),
            output=name,
            multiplier=multiplier,
            shift=shift,
            activation=activation(low, op),
        )
    )


def relu(low: Lowering, op: Operator) -> None:
    """RELU, RELU6, RELU_N1_TO_1 and RELU_0_TO_1 on their own."""
    x = low.input(op.inputs[0])
    name = low.output(op.outputs[0], low.file_shape(op.inputs[0]))
    factor = fixedpoint.relu_scale(x.scale, low.quant(op.outputs[0]).scale)
    multiplier, shift = fixedpoint.multiplier_and_shift(factor)
    clamp = activation(low, op, _RELUS[op.code])
    low.layers.append(Requantize(name, (x.name,), name, multiplier, shift, clamp))


def softmax(low: Lowering, op: Operator) -> None:
    """SOFTMAX."""
    x = low.input(op.inputs[0])
    quant = low.quant(op.outputs[0])
    if abs(quant.scale - 1 / 256) > 0.001 / 256 or quant.zero_point != -128:
        raise ModelError(f"output {quant}; the reference takes scale 1/256 and zero point -128 alone")
    name = low.output(op.outputs[0], low.file_shape(op.inputs[0]))
    scaling = fixedpoint.softmax_scaling(x.scale, option(op, "Beta"))
    low.layers.append(Softmax(name=name, inputs=(x.name,), output=name, **scaling._asdict()))


def lookup(low: Lowering, op: Operator) -> None:
    """LOGISTIC and HARD_SWISH."""
    x = low.input(op.inputs[0])
    quant = low.quant(op.outputs[0])
    name = low.output(op.outputs[0], low.file_shape(op.inputs[0]))
    if op.code == "LOGISTIC":
        function = "logistic"
        table = fixedpoint.logistic_table(x.scale, x.zero_point, quant.scale, quant.zero_point)
    else:
        function = "hard_swish"
        unsigned = low.is_legacy(op.outputs[0])
        table = fixedpoint.hard_swish_table(x.scale, x.zero_point, quant.scale, quant.zero_point, unsigned=unsigned)
    low.layers.append(Lookup(name=name, inputs=(x.name,), output=name, function=function, table=table))


def _broadcast_shape(low: Lowering, op: Operator) -> Shape:
    a, b = low.file_shape(op.inputs[0]), low.file_shape(op.inputs[1])
    if low.tensor(op.inputs[0]).dtype != low.tensor(op.inputs[1]).dtype:
        raise UnsupportedError("operands of two types")
    try:
        return tuple(int(size) for size in np.broadcast_shapes(a, b))
    except ValueError:
        raise ModelError(f"shapes {a} and {b} do not broadcast") from None
