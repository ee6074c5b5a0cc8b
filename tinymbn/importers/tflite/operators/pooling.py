"""AVERAGE_POOL_2D, MAX_POOL_2D, REDUCE_MAX and MEAN."""

from __future__ import annotations

import math

from tinymbn import fixedpoint
from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.tflite.file import Operator
from tinymbn.importers.tflite.lowering import Lowering
from tinymbn.importers.tflite.operators.operands import (
    activation,
    axis_of,
    batches,
    map_shape,
    mean_shape,
    option,
    window,
)
from tinymbn.layers import AveragePool, MaxPool, Mean, Requantize, Shape, Window
from tinymbn.layers.shapes import reduced_shape


def pool(low: Lowering, op: Operator) -> None:
    """AVERAGE_POOL_2D and MAX_POOL_2D."""
    height, width, channels = map_shape(low, op.inputs[0])
    geometry = window(op, (height, width), (option(op, "FilterHeight"), option(op, "FilterWidth")))
    x = low.input(op.inputs[0])
    rows, columns = geometry.output_size(height, width)
    name = low.output(op.outputs[0], (1, rows, columns, channels))
    clamp = activation(low, op)
    if op.code == "MAX_POOL_2D":
        low.layers.append(MaxPool(name=name, inputs=(x.name,), output=name, window=geometry, activation=clamp))
    else:
        low.layers.append(
            AveragePool(
                name=name,
                inputs=(x.name,),
                output=name,
                window=geometry,
                activation=clamp,
                unsigned=low.is_legacy(op.inputs[0]),
            )
        )


def reduce_max(low: Lowering, op: Operator) -> None:
    """GlobalMaxPooling: one window as large as the map."""
    height, width, channels = map_shape(low, op.inputs[0])
    axes = {axis_of(axis, 4) for axis in low.integers(op.inputs[1], "axes")}
    if low.quant(op.inputs[0]) != low.quant(op.outputs[0]):
        raise ModelError("input and output differ in scale or zero point")
    if axes != {1, 2}:
        raise UnsupportedError(f"over axes {sorted(axes)}; height and width alone are")
    x = low.input(op.inputs[0])
    file_shape: Shape = (1, 1, 1, channels) if op.options.get("KeepDims") else (1, channels)
    written, final = low.output_from(op.outputs[0], file_shape, (1, 1, channels))
    low.layers.append(MaxPool(name=written, inputs=(x.name,), output=written, window=Window((height, width))))
    low.finish(written, final)


def mean(low: Lowering, op: Operator) -> None:
    """MEAN."""
    shape = low.file_shape(op.inputs[0])
    file_shape, axes = mean_shape(low, op)
    keep_dims = bool(op.options.get("KeepDims", False))
    x = low.input(op.inputs[0])
    count = math.prod(shape[axis] for axis in axes)
    multiplier, shift = fixedpoint.mean_multiplier(x.scale, low.quant(op.outputs[0]).scale, count)
    graph_axes = tuple(axis - batches(shape) for axis in axes if axis >= batches(shape))
    if not graph_axes:  # over the batch of 1 alone
        name = low.output(op.outputs[0], file_shape)
        if low.tensors[name].shape != x.shape:
            raise UnsupportedError(f"axes {axes} of a tensor of shape {shape}")
        low.layers.append(Requantize(name=name, inputs=(x.name,), output=name, multiplier=multiplier, shift=shift))
        return
    made = reduced_shape(x.shape, graph_axes, keep_dims=keep_dims) or (1,)
    written, final = low.output_from(op.outputs[0], file_shape, made)
    low.layers.append(
        Mean(
            name=written,
            inputs=(x.name,),
            output=written,
            axes=graph_axes,
            keep_dims=keep_dims,
            multiplier=multiplier,
            shift=shift,
        )
    )
    low.finish(written, final)
