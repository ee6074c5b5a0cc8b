"""One function an operator of schema.fbs: from its operands and options to layers.

Multipliers, shifts, tables and paddings are decided here, by ``fixedpoint``, and never again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn import fixedpoint
from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.lowering import Lowering, resolve_shape, signed, without_batch
from tinymbn.importers.tflite_file import Operator
from tinymbn.layers import (
    MAX_RANK,
    Activation,
    Add,
    AveragePool,
    Concat,
    Conv2D,
    Dense,
    Depthwise,
    Lookup,
    MaxPool,
    Mean,
    Mul,
    Pad,
    Padding,
    Requantize,
    Reshape,
    ResizeNearest,
    Shape,
    Softmax,
    Transpose,
    Weights,
    Window,
    same_padding,
)

# schema.fbs, enum ActivationFunctionType.
_ACTIVATIONS = {0: "none", 1: "relu", 2: "relu_n1_to_1", 3: "relu6", 4: "tanh", 5: "sign_bit"}
_SAME = 0  # schema.fbs, enum Padding
_MAX_SIZE = 1 << 16  # of a resized map's side


def _option(op: Operator, name: str) -> Any:
    if name not in op.options:
        raise ModelError(f"its options have no {name}")
    return op.options[name]


def _activation(low: Lowering, op: Operator, name: str | None = None) -> Activation:
    """The clamp of the output: a fused activation, or the one named."""
    if name is None:
        name = _ACTIVATIONS.get(op.options.get("FusedActivationFunction", 0), "unknown")
        if name in ("tanh", "sign_bit", "unknown"):
            raise UnsupportedError(f"fused activation {name}")
    quant = low.quant(op.outputs[0])
    return Activation(*fixedpoint.activation_range(name, quant.scale, quant.zero_point))


def _map_shape(low: Lowering, index: int) -> tuple[int, int, int]:
    """(H, W, C) of a batch of one map.

    Raises:
        UnsupportedError: it is something else.
    """
    shape = low.file_shape(index)
    if len(shape) != 4 or shape[0] != 1:
        raise UnsupportedError(f"input of shape {shape}; expected (1, H, W, C)")
    return shape[1], shape[2], shape[3]


def _window(op: Operator, size: tuple[int, int], kernel: tuple[int, int]) -> Window:
    stride = (_option(op, "StrideH"), _option(op, "StrideW"))
    dilation = (op.options.get("DilationHFactor", 1), op.options.get("DilationWFactor", 1))
    if min(*stride, *dilation, *kernel, *size) < 1:
        raise ModelError(f"kernel {kernel}, stride {stride} and dilation {dilation} must be 1 or more")
    padding = Padding()
    if _option(op, "Padding") == _SAME:
        padding = same_padding(size, kernel, stride, dilation)
    return Window(kernel, stride, dilation, padding)


def _constant(low: Lowering, index: int, what: str) -> NDArray[Any]:
    values = low.values(index)
    if low.tensor(index).sparse:
        raise UnsupportedError(f"sparse {what}")
    if values is None:
        raise UnsupportedError(f"{what} not constant")
    return values


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
    values = _constant(low, op.inputs[2], "bias")
    if values.dtype != np.int32:
        raise UnsupportedError(f"{low.tensor(op.inputs[2]).dtype} bias; expected int32")
    if values.size != channels:
        raise ModelError(f"{values.size} biases for {channels} output channels")
    return np.array(values.ravel(), np.int32)


def _conv2d(low: Lowering, op: Operator) -> None:
    height, width, c_in = _map_shape(low, op.inputs[0])
    values = _constant(low, op.inputs[1], "weights")
    if values.ndim != 4:
        raise ModelError(f"weights of shape {values.shape}; expected (C_out, K_h, K_w, C_in)")
    c_out, kernel_h, kernel_w, filter_c = values.shape
    if filter_c != c_in:
        raise UnsupportedError(f"grouped convolution: {filter_c} channels a filter, {c_in} in the input")
    window = _window(op, (height, width), (kernel_h, kernel_w))
    x = low.input(op.inputs[0])
    rows, columns = window.output_size(height, width)
    name = low.output(op.outputs[0], (1, rows, columns, c_out))
    low.layers.append(
        Conv2D(
            name=name,
            inputs=(x.name,),
            output=name,
            weights=_weights(low, op, values, c_out),
            activation=_activation(low, op),
            window=window,
        )
    )


def _depthwise(low: Lowering, op: Operator) -> None:
    height, width, _ = _map_shape(low, op.inputs[0])
    values = _constant(low, op.inputs[1], "weights")
    if values.ndim != 4 or values.shape[0] != 1:
        raise ModelError(f"weights of shape {values.shape}; expected (1, K_h, K_w, C_out)")
    _, kernel_h, kernel_w, c_out = values.shape
    window = _window(op, (height, width), (kernel_h, kernel_w))
    x = low.input(op.inputs[0])
    rows, columns = window.output_size(height, width)
    name = low.output(op.outputs[0], (1, rows, columns, c_out))
    low.layers.append(
        Depthwise(
            name=name,
            inputs=(x.name,),
            output=name,
            weights=_weights(low, op, values[0], c_out),
            activation=_activation(low, op),
            window=window,
        )
    )


def _dense(low: Lowering, op: Operator) -> None:
    if op.options.get("WeightsFormat", 0) != 0:
        raise UnsupportedError("shuffled weights")
    values = _constant(low, op.inputs[1], "weights")
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
            activation=_activation(low, op),
        )
    )


def _pool(low: Lowering, op: Operator) -> None:
    height, width, channels = _map_shape(low, op.inputs[0])
    window = _window(op, (height, width), (_option(op, "FilterHeight"), _option(op, "FilterWidth")))
    x = low.input(op.inputs[0])
    rows, columns = window.output_size(height, width)
    name = low.output(op.outputs[0], (1, rows, columns, channels))
    activation = _activation(low, op)
    if op.code == "MAX_POOL_2D":
        low.layers.append(MaxPool(name=name, inputs=(x.name,), output=name, window=window, activation=activation))
    else:
        low.layers.append(
            AveragePool(
                name=name,
                inputs=(x.name,),
                output=name,
                window=window,
                activation=activation,
                unsigned=low.is_legacy(op.inputs[0]),
            )
        )


def _reduce_max(low: Lowering, op: Operator) -> None:
    """GlobalMaxPooling: one window as large as the map."""
    height, width, channels = _map_shape(low, op.inputs[0])
    axes = {_axis(axis, 4) for axis in low.integers(op.inputs[1], "axes")}
    if axes != {1, 2}:
        raise UnsupportedError(f"over axes {sorted(axes)}; height and width alone are")
    x = low.input(op.inputs[0])
    file_shape: Shape = (1, 1, 1, channels) if op.options.get("KeepDims") else (1, channels)
    written, final = low.output_from(op.outputs[0], file_shape, (1, 1, channels))
    low.layers.append(MaxPool(name=written, inputs=(x.name,), output=written, window=Window((height, width))))
    low.finish(written, final)


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ModelError(f"axis {axis} of a tensor of rank {rank}")
    return axis % rank


def _batches(shape: Shape) -> int:
    """Axes at the front that the graph's shape leaves out."""
    return len(shape) - len(without_batch(shape)) if shape else 0


def _mean(low: Lowering, op: Operator) -> None:
    shape = low.file_shape(op.inputs[0])
    axes = sorted({_axis(axis, len(shape)) for axis in low.integers(op.inputs[1], "axes")})
    keep_dims = bool(op.options.get("KeepDims", False))
    kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
    file_shape = tuple(kept) if keep_dims else tuple(s for axis, s in enumerate(shape) if axis not in axes)
    x = low.input(op.inputs[0])
    count = math.prod(shape[axis] for axis in axes)
    multiplier, shift = fixedpoint.mean_multiplier(x.scale, low.quant(op.outputs[0]).scale, count)
    graph_axes = tuple(axis - _batches(shape) for axis in axes if axis >= _batches(shape))
    if not graph_axes:  # over the batch of 1 alone
        name = low.output(op.outputs[0], file_shape)
        if low.tensors[name].shape != x.shape:
            raise UnsupportedError(f"axes {axes} of a tensor of shape {shape}")
        low.layers.append(Requantize(name=name, inputs=(x.name,), output=name, multiplier=multiplier, shift=shift))
        return
    made: Shape = tuple(1 if axis in graph_axes else size for axis, size in enumerate(x.shape))
    if not keep_dims:
        made = tuple(size for axis, size in enumerate(x.shape) if axis not in graph_axes) or (1,)
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


def _broadcast_shape(low: Lowering, op: Operator) -> Shape:
    a, b = low.file_shape(op.inputs[0]), low.file_shape(op.inputs[1])
    if low.tensor(op.inputs[0]).dtype != low.tensor(op.inputs[1]).dtype:
        raise UnsupportedError("operands of two types")
    try:
        return tuple(int(size) for size in np.broadcast_shapes(a, b))
    except ValueError:
        raise ModelError(f"shapes {a} and {b} do not broadcast") from None


def _add(low: Lowering, op: Operator) -> None:
    file_shape = _broadcast_shape(low, op)
    a, b = low.input(op.inputs[0]), low.input(op.inputs[1])
    name = low.output(op.outputs[0], file_shape)
    scaling = fixedpoint.add_scaling(a.scale, b.scale, low.quant(op.outputs[0]).scale)
    low.layers.append(
        Add(
            name=name,
            inputs=(a.name, b.name),
            output=name,
            activation=_activation(low, op),
            **scaling._asdict(),
        )
    )


def _mul(low: Lowering, op: Operator) -> None:
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
            activation=_activation(low, op),
        )
    )


_RELUS = {"RELU": "relu", "RELU6": "relu6", "RELU_N1_TO_1": "relu_n1_to_1", "RELU_0_TO_1": "relu_0_to_1"}


def _relu(low: Lowering, op: Operator) -> None:
    x = low.input(op.inputs[0])
    name = low.output(op.outputs[0], low.file_shape(op.inputs[0]))
    factor = fixedpoint.relu_scale(x.scale, low.quant(op.outputs[0]).scale)
    multiplier, shift = fixedpoint.multiplier_and_shift(factor)
    activation = _activation(low, op, _RELUS[op.code])
    low.layers.append(Requantize(name, (x.name,), name, multiplier, shift, activation))


def _quantize(low: Lowering, op: Operator) -> None:
    source, target = op.inputs[0], op.outputs[0]
    at_input = source == low.file.inputs[0]
    if at_input and low.tensor(source).dtype == "float32":
        if low.is_legacy(target):
            low.quant(target)
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


def _dequantize(low: Lowering, op: Operator) -> None:
    if op.outputs[0] not in low.file.outputs:
        raise UnsupportedError("its float output goes on inside the model")
    low.dequantize(op.inputs[0], op.outputs[0])


def _softmax(low: Lowering, op: Operator) -> None:
    x = low.input(op.inputs[0])
    quant = low.quant(op.outputs[0])
    if abs(quant.scale - 1 / 256) > 0.001 / 256 or quant.zero_point != -128:
        raise ModelError(f"output {quant}; the reference takes scale 1/256 and zero point -128 alone")
    name = low.output(op.outputs[0], low.file_shape(op.inputs[0]))
    scaling = fixedpoint.softmax_scaling(x.scale, _option(op, "Beta"))
    low.layers.append(Softmax(name=name, inputs=(x.name,), output=name, **scaling._asdict()))


def _lookup(low: Lowering, op: Operator) -> None:
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


def _pad(low: Lowering, op: Operator) -> None:
    shape = low.file_shape(op.inputs[0])
    amounts = low.integers(op.inputs[1], "paddings")
    if len(amounts) != 2 * len(shape):
        raise ModelError(f"{len(amounts)} paddings for input {shape}")
    pads = tuple(zip(amounts[::2], amounts[1::2], strict=True))
    file_shape = tuple(before + size + after for (before, after), size in zip(pads, shape, strict=True))
    batches = _batches(shape)
    if any(pads[axis] != (0, 0) for axis in range(batches)):
        raise UnsupportedError("padding of the batch")
    if min(amounts) < 0:
        raise ModelError(f"padding {min(amounts)}")
    value = low.quant(op.outputs[0]).zero_point
    if op.code == "PADV2":
        constant = _constant(low, op.inputs[2], "value")
        if constant.size != 1 or constant.dtype not in (np.int8, np.uint8):
            raise ModelError(f"value is {constant.dtype} of shape {constant.shape}")
        value = int(signed(constant).ravel()[0])
    x = low.input(op.inputs[0])
    name = low.output(op.outputs[0], file_shape)
    low.layers.append(Pad(name=name, inputs=(x.name,), output=name, pads=pads[batches:], value=value))


def _concat(low: Lowering, op: Operator) -> None:
    if op.options.get("FusedActivationFunction", 0) != 0:
        raise UnsupportedError("fused activation")
    shapes = [low.file_shape(index) for index in op.inputs]
    axis = _axis(_option(op, "Axis"), len(shapes[0]))
    file_shape = (*shapes[0][:axis], sum(s[axis] for s in shapes if len(s) > axis), *shapes[0][axis + 1 :])
    batches = 0 if axis == 0 else min(_batches(shape) for shape in shapes)
    names = []
    for index, shape in zip(op.inputs, shapes, strict=True):
        x = low.input_as(index, shape if axis == 0 else without_batch(shape))
        names.append(_rescaled(low, x.name, index, op.outputs[0]))
    made = tuple(file_shape[batches:])
    if len(made) > MAX_RANK:
        raise UnsupportedError(f"concatenation of rank {len(made)} along the batch")
    written, final = low.output_from(op.outputs[0], file_shape, made)
    low.layers.append(Concat(name=written, inputs=tuple(names), output=written, axis=axis - batches))
    low.finish(written, final)


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


def _reshape(low: Lowering, op: Operator) -> None:
    shape = low.file_shape(op.inputs[0])
    if op.code == "RESHAPE":
        if len(op.inputs) > 1 and op.inputs[1] >= 0:
            wanted = low.integers(op.inputs[1], "shape")
        else:
            wanted = tuple(op.options.get("NewShape", ()))
        file_shape = resolve_shape(math.prod(shape), wanted)
    elif op.code == "SQUEEZE":
        axes = {_axis(axis, len(shape)) for axis in op.options.get("SqueezeDims", ())}
        gone = axes or {axis for axis, size in enumerate(shape) if size == 1}
        if any(shape[axis] != 1 for axis in gone):
            raise ModelError(f"axes {sorted(gone)} of shape {shape} are not all 1")
        file_shape = tuple(size for axis, size in enumerate(shape) if axis not in gone)
    else:
        (axis,) = low.integers(op.inputs[1], "axis")
        axis = _axis(axis, len(shape) + 1)
        file_shape = (*shape[:axis], 1, *shape[axis:])
    x = low.input(op.inputs[0])
    name = low.output(op.outputs[0], file_shape)
    low.layers.append(Reshape(name=name, inputs=(x.name,), output=name, shape=without_batch(file_shape)))


def _transpose(low: Lowering, op: Operator) -> None:
    shape = low.file_shape(op.inputs[0])
    permutation = low.integers(op.inputs[1], "permutation")
    if sorted(permutation) != list(range(len(shape))):
        raise ModelError(f"permutation {permutation} does not fit input {shape}")
    file_shape = tuple(shape[axis] for axis in permutation)
    batches = _batches(shape)
    if permutation[:batches] == tuple(range(batches)):
        permutation = tuple(axis - batches for axis in permutation[batches:])
        source = without_batch(shape)
    elif len(shape) <= MAX_RANK:
        source = shape  # the batch moves: transpose it like any other axis
    else:
        raise UnsupportedError(f"permutation {permutation} of rank {len(shape)} moves the batch")
    x = low.input_as(op.inputs[0], source)
    written, final = low.output_from(op.outputs[0], file_shape, tuple(source[axis] for axis in permutation))
    low.layers.append(Transpose(name=written, inputs=(x.name,), output=written, permutation=permutation))
    low.finish(written, final)


def _resize_nearest(low: Lowering, op: Operator) -> None:
    height, width, channels = _map_shape(low, op.inputs[0])
    size = low.integers(op.inputs[1], "size")
    if len(size) != 2 or not all(1 <= side <= _MAX_SIZE for side in size):
        raise ModelError(f"size {size}; expected two numbers from 1 to {_MAX_SIZE}")
    align, half = bool(_option(op, "AlignCorners")), bool(_option(op, "HalfPixelCenters"))
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
    whole = np.floor(positions)
    if align_corners:
        whole = whole + (positions - whole >= 0.5)
    indices: NDArray[np.int64] = np.clip(whole.astype(np.int64), 0, input_size - 1)
    return indices.astype(np.int32)


OPERATORS: Mapping[str, Callable[[Lowering, Operator], None]] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": _pool,
    "CONCATENATION": _concat,
    "CONV_2D": _conv2d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "DEQUANTIZE": _dequantize,
    "EXPAND_DIMS": _reshape,
    "FULLY_CONNECTED": _dense,
    "HARD_SWISH": _lookup,
    "LOGISTIC": _lookup,
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "MUL": _mul,
    "PAD": _pad,
    "PADV2": _pad,
    "QUANTIZE": _quantize,
    "REDUCE_MAX": _reduce_max,
    "RELU": _relu,
    "RELU6": _relu,
    "RELU_0_TO_1": _relu,
    "RELU_N1_TO_1": _relu,
    "RESHAPE": _reshape,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
    "SOFTMAX": _softmax,
    "SQUEEZE": _reshape,
    "TRANSPOSE": _transpose,
}
"""What tinymbn computes, by the names of schema.fbs."""
