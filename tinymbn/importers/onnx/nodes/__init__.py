"""One function a kind of ONNX node: from its operands and attributes to layers of a float network.

The modules have the names of those in ``tinymbn.layers``.

Source: the ONNX operator specification, github.com/onnx/onnx, docs/Operators.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tinymbn.importers.channels_first.lowering import Value
from tinymbn.importers.onnx.file import Node
from tinymbn.importers.onnx.lowering import Constant, OnnxLowering
from tinymbn.importers.onnx.nodes import convolution, edges, elementwise, movement, pooling

Lowered = Callable[[OnnxLowering, Node], Constant | Value]

NODES: Mapping[str, Lowered] = {
    "Add": elementwise.arithmetic,
    "AveragePool": pooling.average_pool,
    "BatchNormalization": elementwise.batch_norm,
    "Cast": movement.cast,
    "Clip": elementwise.clip,
    "Conv": convolution.convolution,
    "Div": elementwise.arithmetic,
    "Dropout": movement.nothing,
    "Flatten": movement.move,
    "Gemm": convolution.gemm,
    "GlobalAveragePool": pooling.global_average_pool,
    "GlobalMaxPool": pooling.global_max_pool,
    "Identity": movement.nothing,
    "MatMul": convolution.matmul,
    "Max": elementwise.extreme,
    "MaxPool": pooling.max_pool,
    "Min": elementwise.extreme,
    "Mul": elementwise.arithmetic,
    "Pad": movement.pad,
    "ReduceMean": pooling.reduce_mean,
    "Relu": elementwise.relu,
    "Reshape": movement.move,
    "Sigmoid": elementwise.sigmoid,
    "Softmax": elementwise.softmax,
    "Squeeze": movement.move,
    "Sub": elementwise.arithmetic,
    "Transpose": movement.move,
    "Unsqueeze": movement.move,
}
"""What tinymbn makes layers of, by ONNX's names."""

QUANTIZED_NODES: Mapping[str, Lowered] = {
    "DequantizeLinear": edges.dequantize,
    "QuantizeLinear": edges.quantize,
    "com.microsoft.DequantizeLinear": edges.dequantize,
    "com.microsoft.QuantizeLinear": edges.quantize,
}
"""What a quantised model has beside them."""
