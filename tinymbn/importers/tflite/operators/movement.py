"""Operators that move bytes; only a legacy CONCATENATION computes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymbn import fixedpoint
from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.tflite.file import Operator
from tinymbn.importers.tflite.lowering import Lowering, signed
from tinymbn.importers.tflite.operators.operands import (
    axis_of,
    batches,
    constant,
    map_shape,
    option,
    padded_shape,
    reshaped,
)
from tinymbn.importers.tflite.tensors import without_batch
from tinymbn.layers import MAX_RANK, Concat, Lookup, Pad, Reshape, ResizeNearest, Transpose

_MAX_SIZE = 1 << 16  # of a resized map's side
_MAX_COPIES = 64


def pad(low: Lowering, op: Operator) -> None:
    """PAD and PADV2."""
    file_shape, pads = padded_shape(low, op)
    value = low.quant(op.outputs[0]).zero_point
    if op.code == "PADV2":
        fill = constant(low, op.inputs[2], "value")
        if fill.size != 1 or fill.dtype not in (np.int8, np.uint8):
            raise ModelError(f"value is {fill.dtype} of shape {fill.shape}")
        value = int(signed(fill).ravel()[0])
    x = low.input(op.inputs[0])
    name = low.output(op.outputs[0], file_shape)
    low.layers.append(Pad(name=name, inputs=(x.name,), output=name, pads=pads[batches(file_shape) :], value=value))


def concat(low: Lowering, op: Operator) -> None:
    """CONCATENATION."""
    if op.options.get("FusedActivationFunction", 0) != 0:
        raise UnsupportedError("fused activation")
    shapes = [low.file_shape(index) for index in op.inputs]
    axis = axis_of(option(op, "Axis"), len(shapes[0]))
    file_shape = (*shapes[0][:axis], sum(s[axis] for s in shapes if len(s) > axis), *shapes[0][axis + 1 :])
    leading = 0 if axis == 0 else min(batches(shape) for shape in shapes)
    names = []
    for index, shape in zip(op.inputs, shapes, strict=True):
        x = low.input_as(index, shape if axis == 0 else without_batch(shape))
        names.append(_rescaled(low, x.name, index, op.outputs[0]))
    made = tuple(file_shape[leading:])
    written, final = low.output_from(op.outputs[0], file_shape, made)
    low.layers.append(Concat(name=written, inputs=tuple(names), output=written, axis=axis - leading))
    low.finish(written, final)


def tile(low: Lowering, op: Operator) -> None:
    """TILE, as Keras writes nearest-neighbour upsampling: a concatenation of the tensor with itself."""
    shape, multiples = low.file_shape(op.inputs[0]), low.integers(op.inputs[1], "multiples")
    repeated = [axis for axis, count in enumerate(multiples) if count != 1]
    if len(multiples) != len(shape) or min(multiples, default=0) < 1:
        raise ModelError(f"multiples {multiples} of input {shape}")
    if max(multiples) > _MAX_COPIES:
        raise UnsupportedError(f"{max(multiples)} copies; expected at most {_MAX_COPIES}")
    if len(repeated) > 1 or (repeated and repeated[0] < batches(shape)):
        raise UnsupportedError(f"multiples {multiples}; one axis after the batch is")
    axis = repeated[0] if repeated else batches(shape)
    x = low.input(op.inputs[0])
    file_shape = tuple(size * count for size, count in zip(shape, multiples, strict=True))
    name = low.output(op.outputs[0], file_shape)
    low.layers.append(Concat(name=name, inputs=(x.name,) * multiples[axis], output=name, axis=axis - batches(shape)))


def _rescaled(low: Lowering, name: str, source: int, target: int) -> str:
    """A concatenation's input in the output's scale; the reference does so for legacy models alone."""
    a, b = low.quant(source), low.quant(target)
    if a == b:
        return name
    if not low.is_legacy(source):
        raise ModelError(f'"{low.tensor(source).name}" has {a}, the output {b}; expected one quantisation')
    table = fixedpoint.concat_table(a.scale, a.zero_point + 128, b.scale, b.zero_point + 128)
    output = low.scratch(name, low.tensors[name].shape, b)
    low.layers.append(Lookup(name=output, inputs=(name,), output=output, function="rescale", table=table))
    return output


def reshape(low: Lowering, op: Operator) -> None:
    """RESHAPE, SQUEEZE and EXPAND_DIMS."""
    file_shape = reshaped(low, op)
    x = low.input(op.inputs[0])
    name = low.output(op.outputs[0], file_shape)
    low.layers.append(Reshape(name=name, inputs=(x.name,), output=name, shape=without_batch(file_shape)))


def transpose(low: Lowering, op: Operator) -> None:
    """TRANSPOSE."""
    shape = low.file_shape(op.inputs[0])
    permutation = low.integers(op.inputs[1], "permutation")
    if sorted(permutation) != list(range(len(shape))):
        raise ModelError(f"permutation {permutation} does not fit input {shape}")
    file_shape = tuple(shape[axis] for axis in permutation)
    leading = batches(shape)
    if permutation[:leading] == tuple(range(leading)):
        permutation = tuple(axis - leading for axis in permutation[leading:])
        source = without_batch(shape)
    elif len(shape) <= MAX_RANK:
        source = shape  # the batch moves: transpose it like any other axis
    else:
        raise UnsupportedError(f"permutation {permutation} of rank {len(shape)} moves the batch")
    x = low.input_as(op.inputs[0], source)
    written, final = low.output_from(op.outputs[0], file_shape, tuple(source[axis] for axis in permutation))
    low.layers.append(Transpose(name=written, inputs=(x.name,), output=written, permutation=permutation))
    low.finish(written, final)


def resize_nearest(low: Lowering, op: Operator) -> None:
    """RESIZE_NEAREST_NEIGHBOR."""
    height, width, channels = map_shape(low, op.inputs[0])
    size = low.integers(op.inputs[1], "size")
    if len(size) != 2 or not all(1 <= side <= _MAX_SIZE for side in size):
        raise ModelError(f"size {size}; expected two numbers from 1 to {_MAX_SIZE}")
    align, half = bool(option(op, "AlignCorners")), bool(option(op, "HalfPixelCenters"))
    x = low.input(op.inputs[0])
    name = low.output(op.outputs[0], (1, *size, channels))
    low.layers.append(
        ResizeNearest(
            name=name,
            inputs=(x.name,),
            output=name,
            rows=nearest_indices(height, size[0], align_corners=align, half_pixel_centers=half),
            columns=nearest_indices(width, size[1], align_corners=align, half_pixel_centers=half),
        )
    )


def nearest_indices(
    input_size: int, output_size: int, *, align_corners: bool, half_pixel_centers: bool
) -> NDArray[np.int32]:
    """The input row (or column) of each output row, (output_size,), computed in float32.

    Source: tensorflow/lite/kernels/internal/reference/resize_nearest_neighbor.h, GetNearestNeighbor.
    """
    if align_corners and output_size > 1:
        scale = np.float32(input_size - 1) / np.float32(output_size - 1)
    else:
        scale = np.float32(input_size) / np.float32(output_size)
    offset = np.float32(0.5) if half_pixel_centers else np.float32(0)
    positions = (np.arange(output_size, dtype=np.float32) + offset) * scale
    whole = fixedpoint.round_array_half_away(positions) if align_corners else np.floor(positions)
    indices: NDArray[np.int64] = np.clip(whole.astype(np.int64), 0, input_size - 1)
    return indices.astype(np.int32)
