"""QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.graph import Quant
from tinymbn.importers.channels_first.lowering import Value
from tinymbn.importers.onnx.file import Node
from tinymbn.importers.onnx.lowering import Constant, IntegerValue, OnnxLowering, Steps, byte_offset
from tinymbn.importers.onnx.nodes.operands import operand
from tinymbn.importers.weights import Array

# By onnx.TensorProto.DataType: UNDEFINED, UINT8, INT8.
_OUTPUT_TYPES = {0: np.dtype(np.uint8), 2: np.dtype(np.uint8), 3: np.dtype(np.int8)}


def quantize(low: OnnxLowering, node: Node) -> Constant | Value:
    """QuantizeLinear: a tensor of the graph gets its scale."""
    scales, zero_points = _scales(low, node)
    number = node.attributes.get("output_dtype", 0)
    if zero_points is None and number not in _OUTPUT_TYPES:
        raise UnsupportedError(f"output_dtype {number}; expected int8 or uint8")
    dtype = _OUTPUT_TYPES[number] if zero_points is None else zero_points.dtype
    source = low.found.get(node.inputs[0])
    if isinstance(source, Constant):
        return Constant(_quantized(low, node, scales, zero_points, dtype))
    value = low.value(node.inputs[0])
    quant = _quant(scales, zero_points, dtype)
    if low.quants.setdefault(value.tensor, quant) != quant:
        # A Reshape to the shape that it has: what is left of it is the step from one scale to another.
        name = low.invented(node.output) if node.output in low.shapes else node.output
        value = Value(low.rescaled(value.tensor, name), value.indices)
        low.quants[value.tensor] = quant
    return IntegerValue(value.tensor, value.indices, dtype, quant)


def dequantize(low: OnnxLowering, node: Node) -> Constant | Value:
    """DequantizeLinear: constants become real, and keep the integers that they were."""
    scales, zero_points = _scales(low, node)
    source = low.found.get(node.inputs[0])
    if isinstance(source, Constant):
        if source.values.dtype.kind not in "iu":
            raise ModelError(f'tensor "{node.inputs[0]}" is {source.values.dtype}; expected integers')
        zeros = np.zeros((), source.values.dtype) if zero_points is None else zero_points
        steps = Steps(source.values, scales, zeros, _axis(node, source.values.ndim))
        return Constant(steps.real(), steps)
    value = low.any_value(node.inputs[0])
    if not isinstance(value, IntegerValue):
        raise ModelError(f'tensor "{node.inputs[0]}" has real numbers; expected integers')
    if zero_points is not None and zero_points.dtype != value.dtype:
        raise ModelError(f'tensor "{node.inputs[0]}" is {value.dtype}, and its zero point {zero_points.dtype}')
    quant = _quant(scales, zero_points, value.dtype)
    if value.quant is None and value.tensor == low.input:
        low.take_input(quant)
    elif value.quant is None:
        raise UnsupportedError("what no QuantizeLinear makes")
    elif value.quant != quant:
        raise UnsupportedError("a scale or zero point that is not that of its QuantizeLinear")
    return value.real()


def _scales(low: OnnxLowering, node: Node) -> tuple[Array, NDArray[Any] | None]:
    """Scales and zero points of a QuantizeLinear or DequantizeLinear; None: it has none."""
    if node.attributes.get("block_size"):
        raise UnsupportedError("scales by block")
    scales = low.real(operand(node, 1), "scale")
    if not (scales > 0).all():
        raise ModelError(f'tensor "{node.inputs[1]}": a scale is not > 0')
    zero_points = low.constant(node.inputs[2], "zero point").values if operand(node, 2) else None
    if scales.ndim > 1 or (zero_points is not None and zero_points.shape not in (scales.shape, (), (1,))):
        raise UnsupportedError(f"scales of shape {scales.shape}")
    return scales.reshape(()) if scales.size == 1 else scales, zero_points


def _quant(scales: Array, zero_points: NDArray[Any] | None, dtype: np.dtype[Any]) -> Quant:
    """Of an activation, as int8."""
    if scales.ndim or dtype not in (np.int8, np.uint8):
        raise UnsupportedError(f"an activation of type {dtype} with {scales.size} scales; expected int8 or uint8 and 1")
    zero = 0 if zero_points is None else int(zero_points.ravel()[0])
    return Quant(float(scales), zero - byte_offset(dtype))


def _quantized(
    low: OnnxLowering, node: Node, scales: Array, zero_points: NDArray[Any] | None, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Constants as integers, which a file may leave to be computed: rounded half to even, and cut off."""
    if dtype.kind not in "iu":
        raise UnsupportedError(f"to {dtype}")
    values = low.real(node.inputs[0], "weights")
    limits = np.iinfo(dtype)
    zeros = np.zeros((), dtype) if zero_points is None else zero_points
    steps = Steps(values, scales, zeros, _axis(node, values.ndim))
    along, zeros = steps.along(scales), steps.along(zeros)
    rounded = np.rint(values / along) + zeros.astype(np.float64)
    return np.asarray(np.clip(rounded, limits.min, limits.max), dtype)


def _axis(node: Node, rank: int) -> int:
    axis = int(node.attributes.get("axis", 1))
    return axis + rank if axis < 0 else axis
