"""What several operators read of their operands and options."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from tinymbn import fixedpoint
from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.tflite.file import Operator
from tinymbn.importers.tflite.lowering import Lowering
from tinymbn.importers.tflite.tensors import FileTensors, resolve_shape, without_batch
from tinymbn.layers import Activation, Padding, Shape, Window, same_padding
from tinymbn.layers.shapes import reduced_shape

# schema.fbs, enum ActivationFunctionType.
_ACTIVATIONS = {0: "none", 1: "relu", 2: "relu_n1_to_1", 3: "relu6", 4: "tanh", 5: "sign_bit"}
_SAME = 0  # schema.fbs, enum Padding


def option(op: Operator, name: str) -> Any:
    """An option that the operator cannot do without."""
    if name not in op.options:
        raise ModelError(f"its options have no {name}")
    return op.options[name]


def activation(low: Lowering, op: Operator, name: str | None = None) -> Activation:
    """The clamp of the output: a fused activation, or the one named."""
    name = fused_activation(op, "none", "relu", "relu6", "relu_n1_to_1") if name is None else name
    quant = low.quant(op.outputs[0])
    return Activation(*fixedpoint.activation_range(name, quant.scale, quant.zero_point))


def fused_activation(op: Operator, *known: str) -> str:
    """The name of an operator's own activation, which has to be one of those."""
    name = _ACTIVATIONS.get(op.options.get("FusedActivationFunction", 0), "unknown")
    if name not in known:
        raise UnsupportedError(f"fused activation {name}")
    return name


def map_shape(low: FileTensors, index: int) -> tuple[int, int, int]:
    """(H, W, C) of a batch of one map.

    Raises:
        UnsupportedError: it is something else.
    """
    shape = low.file_shape(index)
    if len(shape) != 4 or shape[0] != 1:
        raise UnsupportedError(f"input of shape {shape}; expected (1, H, W, C)")
    return shape[1], shape[2], shape[3]


def window(op: Operator, size: tuple[int, int], kernel: tuple[int, int]) -> Window:
    """The window of a convolution or pool over a map of this size, SAME padding made explicit."""
    stride = (option(op, "StrideH"), option(op, "StrideW"))
    dilation = (op.options.get("DilationHFactor", 1), op.options.get("DilationWFactor", 1))
    if min(*stride, *dilation, *kernel, *size) < 1:
        raise ModelError(f"kernel {kernel}, stride {stride} and dilation {dilation} must be 1 or more")
    padding = Padding()
    if option(op, "Padding") == _SAME:
        padding = same_padding(size, kernel, stride, dilation)
    return Window(kernel, stride, dilation, padding)


def constant(low: FileTensors, index: int, what: str) -> NDArray[Any]:
    """The values of a constant operand."""
    values = low.values(index)
    if low.tensor(index).sparse:
        raise UnsupportedError(f"sparse {what}")
    if values is None:
        raise UnsupportedError(f"{what} not constant")
    return values


def kernel_of(values: NDArray[Any]) -> tuple[int, int]:
    """(K_h, K_w) of a convolution's weights, which either order of their axes has in the middle."""
    if values.ndim != 4 or values.size == 0:
        raise ModelError(f"weights of shape {values.shape}; expected four axes")
    return values.shape[1], values.shape[2]


def filters(op: Operator, values: NDArray[Any], c_in: int) -> tuple[NDArray[Any], int]:
    """A convolution's weights as its layer has them, (C_out, K_h, K_w, C_in) or (K_h, K_w, C_out); and C_out."""
    if op.code == "CONV_2D":
        if values.shape[3] != c_in:
            raise UnsupportedError(f"grouped convolution: {values.shape[3]} channels a filter, {c_in} in the input")
        return values, values.shape[0]
    if values.shape[0] != 1:
        raise ModelError(f"weights of shape {values.shape}; expected (1, K_h, K_w, C_out)")
    return values[0], values.shape[3]


def biases(values: NDArray[Any], channels: int) -> NDArray[Any]:
    """The values of a bias, (channels,), whatever shape the file gives them."""
    if values.size != channels:
        raise ModelError(f"{values.size} biases for {channels} output channels")
    return values.ravel()


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    if not -rank <= axis < rank:
        raise ModelError(f"axis {axis} of a tensor of rank {rank}")
    return axis % rank


def batches(shape: Shape) -> int:
    """Axes at the front that the graph's shape leaves out."""
    return len(shape) - len(without_batch(shape)) if shape else 0


def dense_shapes(low: FileTensors, op: Operator, weights: Shape) -> tuple[Shape, Shape]:
    """What a FULLY_CONNECTED with these weights reads its input as, without the batch; and what it makes, with it."""
    if op.options.get("WeightsFormat", 0) != 0:
        raise UnsupportedError("shuffled weights")
    if len(weights) != 2 or 0 in weights:
        raise ModelError(f"weights of shape {weights}; expected (C_out, C_in)")
    units, c_in = weights
    shape = low.file_shape(op.inputs[0])
    rows, rest = divmod(math.prod(shape), c_in)
    if rest or (op.options.get("KeepNumDims") and shape[-1] != c_in):
        raise ModelError(f"weights {weights} do not fit input {shape}")
    made = (*shape[:-1], units) if op.options.get("KeepNumDims") else (rows, units)
    return (*without_batch(made)[:-1], c_in), made


def padded_shape(low: FileTensors, op: Operator) -> tuple[Shape, tuple[tuple[int, int], ...]]:
    """What a PAD or PADV2 makes, with the batch; and what is before and after each axis."""
    shape = low.file_shape(op.inputs[0])
    amounts = low.integers(op.inputs[1], "paddings")
    if len(amounts) != 2 * len(shape):
        raise ModelError(f"{len(amounts)} paddings for input {shape}")
    pads = tuple(zip(amounts[::2], amounts[1::2], strict=True))
    if any(pads[axis] != (0, 0) for axis in range(batches(shape))):
        raise UnsupportedError("padding of the batch")
    if min(amounts) < 0:
        raise ModelError(f"padding {min(amounts)}")
    return tuple(before + size + after for (before, after), size in zip(pads, shape, strict=True)), pads


def mean_shape(low: FileTensors, op: Operator) -> tuple[Shape, list[int]]:
    """What a MEAN makes, with the batch; and the axes that it is over, which the batch counts among."""
    shape = low.file_shape(op.inputs[0])
    axes = sorted({axis_of(axis, len(shape)) for axis in low.integers(op.inputs[1], "axes")})
    return reduced_shape(shape, axes, keep_dims=bool(op.options.get("KeepDims", False))), axes


def reshaped(low: FileTensors, op: Operator) -> Shape:
    """What a RESHAPE, SQUEEZE or EXPAND_DIMS makes, with the batch."""
    shape = low.file_shape(op.inputs[0])
    if op.code == "RESHAPE":
        if len(op.inputs) > 1 and op.inputs[1] >= 0:
            wanted = low.integers(op.inputs[1], "shape")
        else:
            wanted = tuple(op.options.get("NewShape", ()))
        return resolve_shape(math.prod(shape), wanted)
    if op.code == "SQUEEZE":
        axes = {axis_of(axis, len(shape)) for axis in op.options.get("SqueezeDims", ())}
        gone = axes or {axis for axis, size in enumerate(shape) if size == 1}
        if any(shape[axis] != 1 for axis in gone):
            raise ModelError(f"axes {sorted(gone)} of shape {shape} are not all 1")
        return tuple(size for axis, size in enumerate(shape) if axis not in gone)
    (axis,) = low.integers(op.inputs[1], "axis")
    axis = axis_of(axis, len(shape) + 1)
    return (*shape[:axis], 1, *shape[axis:])
