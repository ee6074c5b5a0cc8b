"""CONV_2D, DEPTHWISE_CONV_2D, with SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND around them, and FULLY_CONNECTED."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn import fixedpoint
from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.tflite.file import Operator
from tinymbn.importers.tflite.lowering import Lowering, signed
from tinymbn.importers.tflite.operators.operands import (
    activation,
    biases,
    constant,
    dense_shapes,
    filters,
    kernel_of,
    map_shape,
    window,
)
from tinymbn.layers import Conv2D, Dense, Depthwise, Padding, Weights, Window

_MAX_UNITS = 1 << 15  # each is proven by itself, see fixedpoint.dense_scaling


def convolution(low: Lowering, op: Operator) -> None:
    """CONV_2D and DEPTHWISE_CONV_2D."""
    if op.inputs[0] in low.space_to_batch:
        low.batched_convolution[op.outputs[0]] = op  # BATCH_TO_SPACE_ND completes it
        return
    kernel = _kernel(low, op)
    height, width, _ = map_shape(low, op.inputs[0])
    _emit(low, op, op.inputs[0], op.outputs[0], window(op, (height, width), kernel))


def space_to_batch(low: Lowering, op: Operator) -> None:
    """SPACE_TO_BATCH_ND, the first third of a dilated convolution as Keras writes it."""
    map_shape(low, op.inputs[0])
    if low.quant(op.inputs[0]) != low.quant(op.outputs[0]):
        raise ModelError("input and output differ in scale or zero point")
    low.space_to_batch[op.outputs[0]] = op


def batch_to_space(low: Lowering, op: Operator) -> None:
    """BATCH_TO_SPACE_ND, the last third: the three are one convolution with the block as its dilation.

    Taking every second row of a map, convolving each half by itself and interleaving the results is to convolve
    the map with a kernel whose rows are two apart. What is padded and cropped around it is its padding.
    """
    inner = low.batched_convolution.get(op.inputs[0])
    if inner is None:
        raise UnsupportedError("not behind a convolution behind SPACE_TO_BATCH_ND")
    outer = low.space_to_batch[inner.inputs[0]]
    block = low.integers(outer.inputs[1], "block")
    pads, crops = low.integers(outer.inputs[2], "paddings"), low.integers(op.inputs[2], "crops")
    if len(block) != 2 or len(pads) != 4 or len(crops) != 4 or low.integers(op.inputs[1], "block") != block:
        raise UnsupportedError(f"block {block}, paddings {pads}, crops {crops}")
    kernel = _kernel(low, inner)
    height, width, _ = map_shape(low, outer.inputs[0])
    plain = window(inner, (height, width), kernel)
    padding = Padding(pads[0] - crops[0], pads[1] - crops[1], pads[2] - crops[2], pads[3] - crops[3])
    valid = plain.padding == Padding() and plain.stride == plain.dilation == (1, 1)
    if not valid or min(padding.top, padding.bottom, padding.left, padding.right) < 0 or crops[0] or crops[2]:
        raise UnsupportedError("around a convolution that is not plain, or cropped by more than was padded")
    if low.quant(inner.outputs[0]) != low.quant(op.outputs[0]):
        raise ModelError("input and output differ in scale or zero point")
    _emit(
        low,
        inner,
        outer.inputs[0],
        op.outputs[0],
        Window(kernel, (1, 1), (block[0], block[1]), padding),
    )


def _kernel(low: Lowering, op: Operator) -> tuple[int, int]:
    return kernel_of(constant(low, op.inputs[1], "weights"))


def _emit(low: Lowering, op: Operator, source: int, target: int, geometry: Window) -> None:
    """A convolution from one file tensor to another; all else is the operator's."""
    height, width, c_in = map_shape(low, source)
    values, c_out = filters(op, constant(low, op.inputs[1], "weights"), c_in)
    kind: type[Conv2D | Depthwise] = Conv2D if op.code == "CONV_2D" else Depthwise
    x = low.input(source)
    rows, columns = geometry.output_size(height, width)
    name = low.output(target, (1, rows, columns, c_out))
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
    values = constant(low, op.inputs[1], "weights")
    wanted, file_shape = dense_shapes(low, op, values.shape)
    units = file_shape[-1]
    if units > _MAX_UNITS:
        raise UnsupportedError(f"{units} units; expected at most {_MAX_UNITS}")
    x = low.input_as(op.inputs[0], wanted)
    name = low.output(op.outputs[0], file_shape)
    bias, values = _bias(low, op, units), signed(values)
    scales, zero_point = _weight_quant(low, op, units)
    source, made = low.quant(op.inputs[0]), low.quant(op.outputs[0])
    factors = fixedpoint.convolution_scales(source.scale, scales, made.scale, single_precision=False)
    scaling = fixedpoint.dense_scaling(
        factors, fixedpoint.accumulator_limits(values, bias, source.zero_point, zero_point)
    )
    low.layers.append(
        Dense(
            name=name,
            inputs=(x.name,),
            output=name,
            weights=Weights(values, bias, scaling.multiplier, scaling.shift, zero_point),
            activation=activation(low, op),
            steps=scaling.steps,
        )
    )


def _weights(low: Lowering, op: Operator, values: NDArray[Any], channels: int) -> Weights:
    """Constants of a convolution; ``values`` already in the layer's axes.

    Source: tensorflow/lite/kernels/kernel_util.cc, PopulateConvolutionQuantizationParams.
    """
    scales, zero_point = _weight_quant(low, op, channels)
    factors = fixedpoint.convolution_scales(
        low.quant(op.inputs[0]).scale,
        scales,
        low.quant(op.outputs[0]).scale,
        single_precision=low.is_legacy(op.inputs[0]),
    )
    pairs = [fixedpoint.multiplier_and_shift(factor) for factor in factors]
    return Weights(
        values=signed(values),
        bias=_bias(low, op, channels),
        multiplier=np.array([multiplier for multiplier, _ in pairs], np.int32),
        shift=np.array([shift for _, shift in pairs], np.int8),
        zero_point=zero_point,
    )


def _weight_quant(low: Lowering, op: Operator, channels: int) -> tuple[NDArray[np.float32], int]:
    """The scale of each output channel's weights, (channels,), and their zero point as int8."""
    x, weights = low.tensor(op.inputs[0]), low.tensor(op.inputs[1])
    if weights.dtype != x.dtype:
        raise UnsupportedError(f"{weights.dtype} weights for {x.dtype} activations")
    if len(weights.scales) not in (1, channels):
        raise ModelError(f"weights have {len(weights.scales)} scales for {channels} output channels")
    zero_points = {int(z) for z in weights.zero_points}
    legacy, per_tensor = low.is_legacy(op.inputs[0]), len(weights.scales) == 1
    if legacy and not per_tensor:
        raise UnsupportedError("uint8 weights with a scale a channel")
    # The reference reads a zero point of legacy weights, and of dense ones of one scale; int8 weights have none.
    if not legacy and not (per_tensor and op.code == "FULLY_CONNECTED") and zero_points != {0}:
        raise UnsupportedError(f"int8 weights with a zero point ({min(zero_points)} to {max(zero_points)})")
    scales = np.broadcast_to(np.asarray(weights.scales, np.float32), (channels,))
    return scales, min(zero_points) - (128 if legacy else 0)


def _bias(low: Lowering, op: Operator, channels: int) -> NDArray[np.int32]:
    if len(op.inputs) < 3 or op.inputs[2] < 0:
        return np.zeros(channels, np.int32)
    values = constant(low, op.inputs[2], "bias")
    if values.dtype != np.int32:
        raise UnsupportedError(f"{low.tensor(op.inputs[2]).dtype} bias; expected int32")
    return np.array(biases(values, channels), np.int32)
