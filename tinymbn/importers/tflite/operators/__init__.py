"""One function an operator of schema.fbs: from its operands and options to layers.

Multipliers, shifts, tables and paddings are decided here, by ``fixedpoint``, and never again. The modules have the
names of those in ``tinymbn.layers``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tinymbn.importers.tflite.file import Operator
from tinymbn.importers.tflite.lowering import Lowering
from tinymbn.importers.tflite.operators import convolution, edges, elementwise, movement, pooling

OPERATORS: Mapping[str, Callable[[Lowering, Operator], None]] = {
    "ADD": elementwise.add,
    "AVERAGE_POOL_2D": pooling.pool,
    "BATCH_TO_SPACE_ND": convolution.batch_to_space,
    "CONCATENATION": movement.concat,
    "CONV_2D": convolution.convolution,
    "DEPTHWISE_CONV_2D": convolution.convolution,
    "DEQUANTIZE": edges.dequantize,
    "EXPAND_DIMS": movement.reshape,
    "FULLY_CONNECTED": convolution.dense,
    "HARD_SWISH": elementwise.lookup,
    "LOGISTIC": elementwise.lookup,
    "MAX_POOL_2D": pooling.pool,
    "MEAN": pooling.mean,
    "MUL": elementwise.mul,
    "PAD": movement.pad,
    "PADV2": movement.pad,
    "QUANTIZE": edges.quantize,
    "REDUCE_MAX": pooling.reduce_max,
    "RELU": elementwise.relu,
    "RELU6": elementwise.relu,
    "RELU_0_TO_1": elementwise.relu,
    "RELU_N1_TO_1": elementwise.relu,
    "RESHAPE": movement.reshape,
    "RESIZE_NEAREST_NEIGHBOR": movement.resize_nearest,
    "SOFTMAX": elementwise.softmax,
    "SPACE_TO_BATCH_ND": convolution.space_to_batch,
    "SQUEEZE": movement.reshape,
    "TILE": movement.tile,
    "TRANSPOSE": movement.transpose,
}
"""What tinymbn computes, by the names of schema.fbs."""
