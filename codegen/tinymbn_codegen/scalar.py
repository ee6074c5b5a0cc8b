"""The kernels for cores without DSP instructions: which layers they take, and what their templates are told.

They are plain C over rows as TensorFlow Lite has them, ``firmware_templates/runtime/tinymbn_scalar.h``. Sums of four
channels, of two pixels where there are registers enough, grow side by side, so that a byte is loaded once for several
products. Weights lie in the order in which they are read. What does not depend on the input is part of the bias: sums
are modulo 2**32, hence exact whatever the numbers are.

Which kernel a layer takes is decided by its shapes, how its sums become bytes by the values of its shifts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import DENSE_STEPS, accumulator_limits
from tinymbn.graph import Tensor
from tinymbn.layers import AnyLayer, Conv2D, Dense, Depthwise, Padding, Shape, Weights, Window
from tinymbn_codegen.kernel_code import KernelCode

ScalarName = Literal["scalar_pointwise", "scalar_conv2d", "scalar_depthwise", "scalar_dense"]

MOST_TAPS = 25
"""Of a convolution's window: each takes a pointer on the stack."""
MOST_DEPTHWISE_TAPS = 7
"""Of a depthwise window, down and across: so many has a row in the header."""
MOST_BLOCKS = 5
"""Of a depthwise layer: each is a piece of code of its own."""

Constant = tuple[str, NDArray[Any], str]
"""An array that a kernel reads: its name in the template, int8 or int32, and what its axes are."""

_CHANNELS = 4  # side by side
_SIGN = 128  # added to weights that are loaded as bytes without a sign


@dataclass(frozen=True)
class Block:
    """Pixels of a row of outputs, in groups that have the same columns of their windows in the map.

    Attributes:
        x: the first pixel.
        end_x: the one behind the last.
        first: the first column in the map, counted from the left edge of a group's first window.
        end: the one behind the last.
    """

    x: int
    end_x: int
    first: int
    end: int


def scalar_kernel(layer: AnyLayer, input: Tensor, output: Tensor) -> ScalarName | None:
    """The kernel that takes a layer, which reads ``input`` first and makes ``output``; None: none does."""
    match layer:
        case Conv2D() if layer.window == Window((1, 1)):
            return "scalar_pointwise"
        case Conv2D() | Depthwise() if _is_convolution(layer, input, output):
            return "scalar_conv2d" if math.prod(layer.window.kernel) <= MOST_TAPS else None
        case Depthwise() if output.shape[1] == layer.window.kernel[1] == 1:
            return None  # no neighbours share anything
        case Depthwise() if max(layer.window.kernel) <= MOST_DEPTHWISE_TAPS:
            blocks = depthwise_blocks(layer.window, input.shape, output.shape)
            return "scalar_depthwise" if len(blocks) <= MOST_BLOCKS else None
        case Dense():
            return "scalar_dense"
    return None


def scalar_code(layer: AnyLayer, input: Tensor, output: Tensor, *, armv6m: bool) -> KernelCode:
    """What the template of the kernel is told that takes this layer."""
    name = scalar_kernel(layer, input, output)
    assert name is not None
    if isinstance(layer, Conv2D | Depthwise):
        parameters = f"const int8_t *const rows[{layer.window.kernel[0]}], int8_t *output"
    else:
        parameters = "const int8_t *input, int8_t *output"
    return KernelCode(
        template=f"layers/{name}.c.j2",
        parameters=parameters,
        numbers=scalar_numbers(layer, input, output, armv6m=armv6m),
        details=scalar_details(layer, input, output),
        constants=scalar_constants(layer, input, output, armv6m=armv6m),
    )


def _is_convolution(layer: Conv2D | Depthwise | Dense, input: Tensor, output: Tensor) -> bool:
    """Whether several output channels read the same input: those of one input channel do as well."""
    return not isinstance(layer, Depthwise) or input.shape[2] == 1 < output.shape[2]


def scalar_numbers(layer: AnyLayer, input: Tensor, output: Tensor, *, armv6m: bool) -> dict[str, int]:
    """Every number of a layer that has a kernel here, under the names of the template.

    Args:
        layer: with a kernel here.
        input: what it reads.
        output: what it makes.
        armv6m: for Cortex-M0 and M0+, which have fewer registers.
    """
    assert isinstance(layer, Conv2D | Depthwise | Dense)
    weights, activation = layer.weights, layer.activation
    biased = _is_biased(layer, input, output, armv6m)
    numbers: dict[str, int]
    match scalar_kernel(layer, input, output):
        case "scalar_pointwise":
            width = input.shape[1]
            numbers = {"WIDTH": width, "PAIRED": 0 if armv6m else width // 2 * 2}
        case "scalar_conv2d":
            assert isinstance(layer, Conv2D | Depthwise)
            numbers = _conv2d_numbers(layer.window, input.shape, output.shape, armv6m)
        case "scalar_depthwise":
            assert isinstance(layer, Depthwise)
            numbers = _depthwise_numbers(layer.window, input.shape, output.shape)
            numbers |= {"INPUT_ZERO": input.zero_point}
        case _:
            numbers = {"ROWS": math.prod(input.shape[:-1])}
    numbers |= {"C_IN": input.shape[-1], "C_OUT": output.shape[-1]}
    numbers |= {"WEIGHT_ZERO": weights.zero_point + _SIGN * biased}
    if _is_convolution(layer, input, output):
        numbers |= {"BIASED": int(biased)}
    numbers |= {"OUTPUT_ZERO": output.zero_point, "LOW": activation.low, "HIGH": activation.high}
    if isinstance(layer, Dense):
        return numbers | ({"STEPS": DENSE_STEPS} if layer.steps is not None else {})
    return numbers | {"RIGHT": _right(layer, input), "RELU": int(activation.low >= output.zero_point)}


def scalar_details(layer: AnyLayer, input: Tensor, output: Tensor) -> dict[str, Any]:
    """What the template is told besides numbers."""
    if isinstance(layer, Dense):
        return {"steps": layer.steps is not None}
    assert isinstance(layer, Conv2D | Depthwise)
    if scalar_kernel(layer, input, output) == "scalar_depthwise":
        return {"blocks": depthwise_blocks(layer.window, input.shape, output.shape)}
    return {"padded": _is_padded(layer)}


def scalar_constants(layer: AnyLayer, input: Tensor, output: Tensor, *, armv6m: bool) -> tuple[Constant, ...]:
    """What a layer that has a kernel here reads from flash."""
    assert isinstance(layer, Conv2D | Depthwise | Dense)
    kernel = scalar_kernel(layer, input, output)
    weights = layer.weights
    rows = _rows(layer)
    if kernel == "scalar_depthwise":
        stored, axes = np.ascontiguousarray(rows), "(C_OUT, KERNEL_H, KERNEL_W)"
    else:
        biased = _is_biased(layer, input, output, armv6m)
        stored = _side_by_side(rows ^ np.int8(-_SIGN) if biased else rows)
        axes = _side_by_side_axes(layer.channels, "KERNEL_H, KERNEL_W, C_IN" if kernel == "scalar_conv2d" else "C_IN")
    found: list[Constant] = [("weights", stored, axes)]
    found.append(("bias", _folded_bias(weights, rows, input.zero_point), "(C_OUT)"))
    if isinstance(layer, Dense) and layer.steps is not None:
        return (*found, ("steps", layer.steps, "(C_OUT, STEPS)"))
    shift = weights.shift
    if not isinstance(layer, Dense) and (right := _right(layer, input)):
        shift = np.where(weights.multiplier == 0, 0, -shift - right).astype(np.int8)
    found.append(("multiplier", weights.multiplier, "(C_OUT), Q31"))
    found.append(("shift", shift, "(C_OUT)"))
    if kernel == "scalar_conv2d" and _is_padded(layer):
        assert isinstance(layer, Conv2D | Depthwise)
        numbers = _conv2d_numbers(layer.window, input.shape, output.shape, armv6m)
        size = numbers["PIECE"] + (numbers["NEXT"] if numbers["PIXELS"] == 2 else 0)
        found.append(("zeros", np.full(size, input.zero_point, np.int8), "of the padding"))
    return tuple(found)


def depthwise_blocks(window: Window, shape: Shape, output: Shape) -> tuple[Block, ...]:
    """A row of outputs in groups of equal size; where they do not fill it, the last begins within the one before."""
    width, size = output[1], _depthwise_pixels(output)
    starts = [*range(0, width - size + 1, size)]
    if starts[-1] + size < width:
        starts.append(width - size)
    columns = (size - 1) * window.stride[1] + window.extent[1]
    blocks: list[Block] = []
    for x in starts:
        left = x * window.stride[1] - window.padding.left
        first = min(max(-left, 0), columns)
        end = max(min(shape[1] - left, columns), first)
        if blocks and (x, first, end) == (blocks[-1].end_x, blocks[-1].first, blocks[-1].end):
            blocks[-1] = replace(blocks[-1], end_x=x + size)
        else:
            blocks.append(Block(x, x + size, first, end))
    return tuple(blocks)


def _depthwise_pixels(output: Shape) -> int:
    return min(output[1], 2)


def _depthwise_numbers(window: Window, shape: Shape, output: Shape) -> dict[str, int]:
    """The numbers of a depthwise window; bit k of PADDED is set where its row k may lie in the padding."""
    padded = 0
    for k in range(window.kernel[0]):
        first = k * window.dilation[0] - window.padding.top
        last = first + (output[0] - 1) * window.stride[0]
        padded |= (first < 0 or last >= shape[0]) << k
    return _window_numbers(window) | {
        "PER_INPUT": output[2] // shape[2],
        "PADDED": padded,
        "PIXELS": _depthwise_pixels(output),
    }


def _conv2d_numbers(window: Window, shape: Shape, output: Shape, armv6m: bool) -> dict[str, int]:
    """The numbers of a window; from INSIDE to INSIDE_END are the pixels whose windows lie between the row's ends."""
    stride, left = window.stride[1], window.padding.left
    inside = min(-(-left // stride), output[1])
    inside_end = max(inside, min((shape[1] + left - window.extent[1]) // stride + 1, output[1]))
    piece = window.kernel[1] if window.dilation[1] == 1 else 1
    return (
        {"IN_W": shape[1], "OUT_W": output[1]}
        | _window_numbers(window)
        | {
            "INSIDE": inside,
            "INSIDE_END": inside_end,
            "PIXELS": 1 if armv6m or inside_end - inside < 2 else 2,
            "NEXT": stride * shape[2],
            "PIECE": piece * shape[2],
            "PIECE_W": piece,
            "PIECES": math.prod(window.kernel) // piece,
        }
    )


def _window_numbers(window: Window) -> dict[str, int]:
    numbers = {"KERNEL_H": window.kernel[0], "KERNEL_W": window.kernel[1], "STRIDE_W": window.stride[1]}
    return numbers | {"DILATION_W": window.dilation[1], "PAD_LEFT": window.padding.left}


def _is_padded(layer: Conv2D | Depthwise | Dense) -> bool:
    return not isinstance(layer, Dense) and layer.window.padding != Padding()


def _is_biased(layer: Conv2D | Depthwise | Dense, input: Tensor, output: Tensor, armv6m: bool) -> bool:
    """Whether weights lie in flash without a sign: it pays where the sum of the input serves several channels."""
    return armv6m and _is_convolution(layer, input, output) and layer.channels >= _CHANNELS


def _rows(layer: Conv2D | Depthwise | Dense) -> NDArray[np.int8]:
    """Weights (C_OUT, taps)."""
    return np.moveaxis(layer.weights.values, layer.channel_axis, 0).reshape(layer.channels, -1)


def _right(layer: Conv2D | Depthwise, input: Tensor) -> int:
    """By how many bits all channels are shifted right at least, 1 or 2; 0: not all are, or 32 bits may not hold it."""
    weights = layer.weights
    shifted = -weights.shift[weights.multiplier > 0]  # a factor of 0 is 0 with any shift
    least = int(shifted.min(initial=2))
    if least == 1:
        # The sum's upper half, and twice a zero point; of two bits and more the half is smaller by itself.
        limits = accumulator_limits(_rows(layer), weights.bias, input.zero_point, weights.zero_point)
        return int(limits.max() < 2**31 - 2**9)
    return 2 if least == 2 else 0


def _folded_bias(weights: Weights, rows: NDArray[np.int8], input_zero: int) -> NDArray[np.int32]:
    """Where an accumulator starts if inputs count as they are, modulo 2**32."""
    total = (rows.astype(np.int64) - weights.zero_point).sum(axis=1)
    folded: NDArray[np.int64] = weights.bias - input_zero * total
    return folded.astype(np.uint32).astype(np.int32)


def _side_by_side(rows: NDArray[np.int8]) -> NDArray[np.int8]:
    """Weights (C_OUT, taps), those of four channels next to each other, then the channels left over."""
    whole = len(rows) // _CHANNELS * _CHANNELS
    blocks = rows[:whole].reshape(-1, _CHANNELS, rows.shape[1]).transpose(0, 2, 1)
    return np.concatenate([blocks.ravel(), rows[whole:].ravel()])


def _side_by_side_axes(channels: int, inner: str) -> str:
    blocks, rest = divmod(channels, _CHANNELS)
    parts = [f"({blocks}, {inner}, {_CHANNELS})"] if blocks else []
    return " and ".join([*parts, f"({rest}, {inner})"] if rest else parts)
