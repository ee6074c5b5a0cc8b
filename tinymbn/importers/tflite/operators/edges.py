"""QUANTIZE and DEQUANTIZE."""

from __future__ import annotations

from tinymbn import fixedpoint
from tinymbn.errors import UnsupportedError
from tinymbn.importers.tflite.file import Operator
from tinymbn.importers.tflite.lowering import Lowering
from tinymbn.layers import Requantize


def quantize(low: Lowering, op: Operator) -> None:
    """QUANTIZE: at the input of the graph an edge, inside it a requantisation."""
    source, target = op.inputs[0], op.outputs[0]
    at_input = source == low.file.inputs[0]
    if at_input and low.tensor(source).dtype == "float32":
        low.quantize_input(target)
        return
    if low.quant(source) == low.quant(target) and low.is_legacy(source) != low.is_legacy(target):
        if at_input and low.is_legacy(source):
            low.quantize_input(target)
            return
        if low.is_legacy(target) and target in low.file.outputs:
            low.alias(target, source)
            return
    x = low.input(source)
    name = low.output(target, low.file_shape(source))
    factor = float(x.scale) / low.quant(target).scale
    multiplier, shift = fixedpoint.multiplier_and_shift(factor)
    low.layers.append(Requantize(name=name, inputs=(x.name,), output=name, multiplier=multiplier, shift=shift))


def dequantize(low: Lowering, op: Operator) -> None:
    """DEQUANTIZE, to an output of the graph."""
    if op.outputs[0] not in low.file.outputs:
        if not any(op.outputs[0] in other.inputs for other in low.file.operators):
            return  # nothing reads it
        raise UnsupportedError("its float output goes on inside the model")
    low.dequantize(op.inputs[0], op.outputs[0])
