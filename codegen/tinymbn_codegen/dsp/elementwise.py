"""The kernel for the DSP extension that adds two maps of one shape, a row at a time.

The reference scales both operands, rounds each, adds, scales the sum and rounds twice. Yet an output depends on two
bytes, so whatever makes the 65,536 right outputs is exact, and that can be tried. For nearly all layers a line does,

    (A * a + B * b + C) >> SHIFT

of stored bytes, which are values + 128. Ties, which go away from zero, are no obstacle: slopes a little steeper than
the real ones move those of positive sums up and those of negative sums down. Where no line does, the kernel rounds as
often as the reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import ADD_LEFT_SHIFT
from tinymbn.graph import Tensor
from tinymbn.layers import Add, AnyLayer
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout, plane_bytes

_TEMPLATE = "layers/dsp_add.c.j2"
_PARAMETERS = "const int8_t *a, const int8_t *b, int8_t *output"
_STORED_ZERO = 128  # how stored bytes are above values
_WORD_BYTES = 4
_BYTES = np.arange(256, dtype=np.int64)
_LARGEST_SHIFT = 22  # 255 of such steps are an int32
_SHIFTS = 3  # how many are tried; smaller ones are coarser
_NEIGHBOURS = np.array([0, *(sign * n for n in range(1, 17) for sign in (1, -1))])  # of the nearest A and B: tried
_ROUNDS = 100
_NO_BOUND = np.int64(2**40)


@dataclass(frozen=True)
class Line:
    """``(a * A + b * B + c) >> shift`` of stored bytes A and B."""

    a: int
    b: int
    c: int
    shift: int

    def at(self, low: int, high: int) -> NDArray[np.int64]:
        """The stored outputs, clamped, (256, 256)."""
        stored: NDArray[np.int64] = (self.a * _BYTES[:, None] + self.b * _BYTES + self.c) >> self.shift
        return np.clip(stored, low, high)

    @property
    def fits_int32(self) -> bool:
        """Whether nothing overflows: neither the sum nor a part of it."""
        return self.c >= -(2**31) and 255 * (self.a + self.b) + max(self.c, 0) < 2**31


def supports(layer: AnyLayer, a: Tensor, b: Tensor, output: Tensor) -> bool:
    """Whether the kernel computes this layer: a sum of two maps (H, W, C)."""
    return isinstance(layer, Add) and len(output.shape) == 3 and a.shape == b.shape == output.shape


def kernel(layer: AnyLayer, a: Tensor, b: Tensor, output: Tensor, layout: Layout) -> KernelCode:
    """What is needed to write it, for a layer that it supports.

    Args:
        layer: the sum.
        a: the first operand.
        b: the second.
        output: what it makes; a row may lie over that of either operand.
        layout: of all three, nhwc or planar.
    """
    assert isinstance(layer, Add)
    assert layout in ("nhwc", "planar")
    _, width, channels = output.shape
    line = find_line(layer, a.zero_point, b.zero_point, output.zero_point)
    padding = -width % _WORD_BYTES if layout == "planar" else 0
    row_bytes = channels * (plane_bytes(width) if layout == "planar" else width)
    if padding:
        # The last word of a plane is by itself.
        numbers = {"CHANNELS": channels, "WORDS": width // _WORD_BYTES, "MASK": _lanes_mask(width)}
    else:
        numbers = {"WORDS": row_bytes // _WORD_BYTES, "BYTES": row_bytes % _WORD_BYTES}
    if line is None:
        numbers |= _exact_numbers(layer, a, b, output)
    else:
        numbers |= {"A": line.a, "B": line.b, "C": line.c, "SHIFT": line.shift}
    narrow = (layer.activation.low, layer.activation.high) != (-128, 127)
    if narrow:
        numbers |= {"LOW": layer.activation.low + _STORED_ZERO, "HIGH": layer.activation.high + _STORED_ZERO}
    details = {
        "form": "exact" if line is None else "line",
        "a": _operand(layer.a_multiplier, layer.a_shift),
        "b": _operand(layer.b_multiplier, layer.b_shift),
        "saturates": "OUTPUT_ADDEND" in numbers,
        "narrow": narrow,
        "planar": layout == "planar",
        "padded": padding > 0,
        "words": numbers["WORDS"] > 0,
        "bytes": numbers.get("BYTES", 0) > 0,
    }
    return KernelCode(_TEMPLATE, _PARAMETERS, numbers, details, ())


def _operand(multiplier: int, shift: int) -> dict[str, bool]:
    """How an operand is scaled: the one of the larger scale, which is nearly always one, is merely halved."""
    return {"halved": (multiplier, shift) == (2**30, 0), "rounds": shift < 0}


def _exact_numbers(layer: Add, a: Tensor, b: Tensor, output: Tensor) -> dict[str, int]:
    """Of the form that rounds as often as the reference."""
    numbers = {"OUTPUT_MULTIPLIER": layer.output_multiplier, "OUTPUT_RIGHT": -layer.output_shift}
    zero = output.zero_point + _STORED_ZERO
    if 1 <= -layer.output_shift <= _LARGEST_SHIFT:
        # Half a step, and the zero point.
        numbers["OUTPUT_ADDEND"] = (zero << -layer.output_shift) + (1 << (-layer.output_shift - 1))
    else:
        numbers["OUTPUT_ZERO"] = zero
    operands = (("A", a, layer.a_multiplier, layer.a_shift), ("B", b, layer.b_multiplier, layer.b_shift))
    for name, tensor, multiplier, shift in operands:
        numbers[f"{name}_ZERO"] = tensor.zero_point + _STORED_ZERO
        how = _operand(multiplier, shift)
        if how["halved"]:
            numbers["HALVED"] = 1 << (ADD_LEFT_SHIFT - 1)
            continue
        numbers |= {"DOUBLED": 1 << (ADD_LEFT_SHIFT + 1), f"{name}_MULTIPLIER": multiplier}
        if how["rounds"]:
            numbers |= {f"{name}_RIGHT": -shift, f"{name}_HALF": 1 << (-shift - 1)}
    return numbers


def _lanes_mask(width: int) -> int:
    """The bytes of a row's last pixels in their word, as an int32."""
    mask = {1: 0x000000FF, 2: 0x00FF00FF, 3: 0x00FFFFFF}
    return mask[width % _WORD_BYTES]


def find_line(layer: Add, a_zero: int, b_zero: int, output_zero: int) -> Line | None:
    """A line that makes every output of the sum, tried; None if none was found."""
    due = stored_outputs(layer, a_zero, b_zero, output_zero)
    low, high = layer.activation.low + _STORED_ZERO, layer.activation.high + _STORED_ZERO
    real = math.ldexp(layer.output_multiplier, ADD_LEFT_SHIFT + layer.output_shift - 31)
    slopes = [
        math.ldexp(multiplier, shift - 31) * real
        for multiplier, shift in ((layer.a_multiplier, layer.a_shift), (layer.b_multiplier, layer.b_shift))
    ]
    span = 255 * sum(slopes)
    largest = _LARGEST_SHIFT if span < 256 else 31 - math.frexp(span)[1]
    for shift in range(largest, max(largest - _SHIFTS, 0), -1):
        line = _fit(due, low, high, slopes, shift)
        if line is not None and line.fits_int32 and np.array_equal(line.at(low, high), due):
            return line
    return None


def stored_outputs(layer: Add, a_zero: int, b_zero: int, output_zero: int) -> NDArray[np.int64]:
    """What the reference makes of each pair of stored bytes, stored, (256, 256)."""
    a = _requantize((_BYTES - _STORED_ZERO - a_zero) << ADD_LEFT_SHIFT, layer.a_multiplier, layer.a_shift)
    b = _requantize((_BYTES - _STORED_ZERO - b_zero) << ADD_LEFT_SHIFT, layer.b_multiplier, layer.b_shift)
    total = _requantize(a[:, None] + b, layer.output_multiplier, layer.output_shift) + output_zero
    return np.clip(total, layer.activation.low, layer.activation.high) + _STORED_ZERO


def _requantize(x: NDArray[np.int64], multiplier: int, shift: int) -> NDArray[np.int64]:
    """``fixedpoint.requantize`` by shifts to the right; nothing here overflows an int32."""
    high = (x * multiplier + (1 << 30)) >> 31
    half = (1 << -shift) >> 1
    rounded: NDArray[np.int64] = (high + half - ((high < 0) & (half > 0))) >> -shift
    return rounded


def _fit(due: NDArray[np.int64], low: int, high: int, slopes: Sequence[float], shift: int) -> Line | None:
    """The line whose slopes leave its constant the most room, of those near the real ones; cutting planes."""
    a, b = (np.maximum(round(math.ldexp(slope, shift)) + _NEIGHBOURS, 0) for slope in slopes)
    i = j = 0
    # What the constant must reach, and what it must not, by the outputs that have mattered so far.
    reached = np.full((len(a), len(b)), -_NO_BOUND)
    not_reached = np.full((len(a), len(b)), _NO_BOUND)
    for _ in range(_ROUNDS):
        line = a[i] * _BYTES[:, None] + b[j] * _BYTES
        least = np.where(due > low, (due << shift) - line, -_NO_BOUND)
        beyond = np.where(due < high, ((due + 1) << shift) - line, _NO_BOUND)
        if least.max() < beyond.min():
            return Line(int(a[i]), int(b[j]), int(least.max() + beyond.min() - 1) >> 1, shift)
        x, y = divmod(int(least.argmax()), 256)
        reached = np.maximum(reached, (due[x, y] << shift) - a[:, None] * x - b * y)
        x, y = divmod(int(beyond.argmin()), 256)
        not_reached = np.minimum(not_reached, ((due[x, y] + 1) << shift) - a[:, None] * x - b * y)
        room = not_reached - reached
        i, j = divmod(int(room.argmax()), len(b))
        if room[i, j] <= 0:
            return None
    return None
