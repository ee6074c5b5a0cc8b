"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn import fixedpoint
from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.lowering import Lowering, signed, without_batch
from tinymbn.importers.operators.operands import activation, constant, map_shape, window
from tinymbn.importers.tflite_file import Operator
from tinymbn.layers import Conv2D, Dense, Depthwise, Weights


def convolution(low: Lowering, op: Operator) -> None:
    """CONV_2D and DEPTHWISE_CONV_2D."""
    height, width, c_in = map_shape(low, op.inputs[0])
    values = constant(low, op.inputs[1], "weights")
    if values.ndim != 4:
        raise ModelError(f"weights of shape {values.shape}; expected four axes")
    kernel_h, kernel_w = values.shape[1:3]
    kind: type[Conv2D | Depthwise]
    if op.code == "CONV_2D":  # (C_out, K_h, K_w, C_in)
        if values.shape[3] != c_in:
            raise UnsupportedError(f"grouped convolution: {values.shape[3]} channels a filter, {c_in} in the input")
        kind, c_out = Conv2D, values.shape[0]
    else:  # (1, K_h, K_w, C_out)
        if values.shape[0] != 1:
            raise ModelError(f"weights of shape {values.shape}; expected (1, K_h, K_w, C_out)")
        kind, c_out, values = Depthwise, values.shape[3], values[0]
    geometry = window(op, (height, width), (kernel_h, kernel_w))
    x = low.input(op.inputs[0])
    rows, columns = geometry.output_size(height, width)
    name = low.output(op.outputs[0], (1, rows, columns, c_out))
    low.layers.append(
        kind(
            name=name,
            inputs=(x.name,),
            output=name,
            weights=_weights(low, op, values, c_out),
            activation=activation(low, op),
            window=geometry,
        )
    )


def dense(low: Lowering, op: Operator) -> None:
    """FULLY_CONNECTED."""
    if op.options.get("WeightsFormat", 0) != 0:
        raise UnsupportedError("shuffled weights")
    values = constant(low, op.inputs[1], "weights")
    if values.ndim != 2 or values.size == 0:
        raise ModelError(f"weights of shape {values.shape}; expected (C_out, C_in)")
    units, c_in = values.shape
    shape = low.file_shape(op.inputs[0])
    rows, rest = divmod(math.prod(shape), c_in)
    if rest or (op.options.get("KeepNumDims") and shape[-1] != c_in):
        raise ModelError(f"weights {values.shape} do not fit input {shape}")
    file_shape = (*shape[:-1], units) if op.options.get("KeepNumDims") else (rows, units)
    leading = without_batch(file_shape)[:-1]
    x = low.input_as(op.inputs[0], (*leading, c_in))
    name = low.output(op.outputs[0], file_shape)
    low.layers.append(
        Dense(
            name=name,
            inputs=(x.name,),
            output=name,
            weights=_weights(low, op, values, units),
            activation=activation(low, op),
        )
    )


def _weights(low: Lowering, op: Operator, values: NDArray[Any], channels: int) -> Weights:
    """Constants of a convolution or dense layer; ``values`` already in the layer's axes.

    Source: tensorflow/lite/kernels/kernel_util.cc and fully_connected.cc, Prepare.
    """
    x, w, y = op.inputs[0], op.inputs[1], op.outputs[0]
    tensor = low.tensor(w)
    if tensor.dtype != low.tensor(x).dtype:
        raise UnsupportedError(f"{tensor.dtype} weights for {low.tensor(x).dtype} activations")
    scales = np.asarray(tensor.scales)
    if len(scales) not in (1, channels):
        raise ModelError(f"weights have {len(scales)} scales for {channels} output channels")
    zero_points = {int(z) for z in tensor.zero_points}
    legacy, is_dense, per_tensor = low.is_legacy(x), op.code == "FULLY_CONNECTED", len(scales) == 1
    if legacy and not per_tensor:
        raise UnsupportedError("uint8 weights with a scale a channel")
    if not (legacy or (is_dense and per_tensor)) and zero_points != {0}:
        raise UnsupportedError(f"int8 weights with a zero point ({min(zero_points)} to {max(zero_points)})")
    real = fixedpoint.convolution_scales(
        low.quant(x).scale,
        scales,
        low.quant(y).scale,
        single_precision=legacy or (is_dense and per_tensor),
    )
    pairs = [fixedpoint.multiplier_and_shift(factor) for factor in real]
    if per_tensor:
        pairs = pairs * channels
    return Weights(
        values=signed(values),
        bias=_bias(low, op, channels),
        multiplier=np.array([multiplier for multiplier, _ in pairs], np.int32),
        shift=np.array([shift for _, shift in pairs], np.int8),
        zero_point=min(zero_points) - (128 if legacy else 0),
    )


def _bias(low: Lowering, op: Operator, channels: int) -> NDArray[np.int32]:
    if len(op.inputs) < 3 or op.inputs[2] < 0:
        return np.zeros(channels, np.int32)
    values = constant(low, op.inputs[2], "bias")
    if values.dtype != np.int32:
        raise UnsupportedError(f"{low.tensor(op.inputs[2]).dtype} bias; expected int32")
    if values.size != channels:
        raise ModelError(f"{values.size} biases for {channels} output channels")
    return np.array(values.ravel(), np.int32)
