"""Slow definitions of every kernel in plain integers, from TensorFlow Lite's sources, not from tinymbn.

Python integers have no width, so each place where the reference's int32 or int16 could overflow says so.
Arrays are NumPy's for their indexing alone. Shapes leave out the batch: ``(H, W, C)``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int8s = NDArray[np.int8]
Pair = tuple[int, int]
Clamp = tuple[int, int]  # least and greatest output

INT32_MAX = 2**31 - 1


def wrap(x: int, bits: int = 32) -> int:
    """What a two's complement integer of this width holds after x was assigned to it."""
    return (x + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


def saturate(x: int, bits: int) -> int:
    return max(-(1 << bits - 1), min((1 << bits - 1) - 1, x))


def clamp(x: int, limits: Clamp) -> int:
    return max(limits[0], min(limits[1], x))


# ---------------------------------------------------------------------------------------- fixed point


def high_multiply(a: int, b: int, bits: int = 32) -> int:
    """gemmlowp SaturatingRoundingDoublingHighMul: a * b / 2**(bits - 1) to nearest, ties up."""
    return saturate(math.floor(Fraction(a * b, 2 ** (bits - 1)) + Fraction(1, 2)), bits)


def shift_right(x: int, exponent: int) -> int:
    """gemmlowp RoundingDivideByPOT: x / 2**exponent to nearest, ties away from zero."""
    magnitude = math.floor(Fraction(abs(x), 2**exponent) + Fraction(1, 2))
    return magnitude if x >= 0 else -magnitude


def requantize(x: int, multiplier: int, shift: int) -> int:
    """MultiplyByQuantizedMultiplier, double rounding: the left shift wraps, the right shift rounds again."""
    left, right = max(shift, 0), max(-shift, 0)
    return shift_right(high_multiply(wrap(x * 2**left), multiplier), right)


def round_half_away(x: Fraction) -> int:
    """C's round."""
    magnitude = math.floor(abs(x) + Fraction(1, 2))
    return magnitude if x >= 0 else -magnitude


def quantize_multiplier(scale: float) -> tuple[int, int]:
    """QuantizeMultiplier: the Q31 mantissa in [2**30, 2**31) and exponent nearest to a double."""
    if scale == 0:
        return 0, 0
    exact, shift = Fraction(scale), 0
    while exact >= 1:
        exact, shift = exact / 2, shift + 1
    while exact < Fraction(1, 2):
        exact, shift = exact * 2, shift - 1
    mantissa = round_half_away(exact * 2**31)
    if mantissa == 2**31:
        mantissa, shift = 2**30, shift + 1
    return (mantissa, shift) if shift >= -31 else (0, 0)


# --------------------------------------------------------------------------------------------- layers


def _positions(size: int, kernel: int, stride: int, dilation: int, pads: Pair) -> list[list[Pair]]:
    """For each output along one axis: the (tap, input index) pairs inside the input."""
    extent = (kernel - 1) * dilation + 1
    outputs = (size + pads[0] + pads[1] - extent) // stride + 1
    taps = [[(k, o * stride - pads[0] + k * dilation) for k in range(kernel)] for o in range(outputs)]
    return [[(k, i) for k, i in pairs if 0 <= i < size] for pairs in taps]


def _windows(
    shape: Sequence[int], kernel: Pair, stride: Pair, dilation: Pair, pads: Sequence[Pair]
) -> tuple[list[list[Pair]], list[list[Pair]]]:
    rows, columns = (_positions(shape[axis], kernel[axis], stride[axis], dilation[axis], pads[axis]) for axis in (0, 1))
    return rows, columns


def conv2d(
    x: Int8s,
    weights: Int8s,
    bias: Sequence[int],
    *,
    stride: Pair,
    dilation: Pair,
    pads: Sequence[Pair],
    input_zero: int,
    weight_zero: int,
    output_zero: int,
    multiplier: Sequence[int],
    shift: Sequence[int],
    limits: Clamp,
) -> Int8s:
    """Weights (C_out, K_h, K_w, C_in); pads are ((top, bottom), (left, right))."""
    channels, kernel_h, kernel_w, _ = weights.shape
    rows, columns = _windows(x.shape, (kernel_h, kernel_w), stride, dilation, pads)
    inputs, values = x.astype(np.int64) - input_zero, weights.astype(np.int64) - weight_zero
    out = np.empty((len(rows), len(columns), channels), np.int8)
    for oy, ox, c in np.ndindex(out.shape):
        total = sum(int(inputs[iy, ix] @ values[c, ky, kx]) for ky, iy in rows[oy] for kx, ix in columns[ox])
        result = requantize(wrap(total + int(bias[c])), int(multiplier[c]), int(shift[c]))
        out[oy, ox, c] = clamp(wrap(result + output_zero), limits)
    return out


def depthwise(x: Int8s, weights: Int8s, bias: Sequence[int], **options: Any) -> Int8s:
    """Weights (K_h, K_w, C_out): for each output channel a convolution of one channel."""
    channels = weights.shape[2]
    per_input = channels // x.shape[2]
    planes = []
    for c in range(channels):
        source = c // per_input
        own = {**options, "multiplier": [options["multiplier"][c]], "shift": [options["shift"][c]]}
        kernel = weights[None, :, :, c, None]
        planes.append(conv2d(x[:, :, source, None], kernel, [bias[c]], **own))
    return np.concatenate(planes, axis=2)


def dense(
    x: Int8s,
    weights: Int8s,
    bias: Sequence[int],
    *,
    input_zero: int,
    weight_zero: int,
    output_zero: int,
    rescale: Callable[[int, int], int],
    limits: Clamp,
) -> Int8s:
    """Weights (C_out, C_in), over the last axis; ``rescale(c, accumulator)`` is of output channel c."""
    inputs, values = x.astype(np.int64) - input_zero, weights.astype(np.int64) - weight_zero
    out = np.empty((*x.shape[:-1], weights.shape[0]), np.int8)
    for index in np.ndindex(out.shape):
        row, c = index[:-1], index[-1]
        accumulator = wrap(int(inputs[row] @ values[c]) + int(bias[c]))
        out[index] = clamp(rescale(c, accumulator) + output_zero, limits)
    return out


def requantize_once(x: int, multiplier: int, shift: int) -> int:
    """x * multiplier / 2**31 * 2**shift, rounded once, ties away from zero."""
    return round_half_away(Fraction(x * multiplier) * Fraction(2) ** (shift - 31))


def requantize_in_float64(x: int, scale: float) -> int:
    """What LiteRT's FULLY_CONNECTED does: C's round of a product of doubles."""
    return round_half_away(Fraction(float(x) * scale))


def _pool(
    x: Int8s,
    reduce: Callable[[list[int]], int],
    kernel: Pair,
    stride: Pair,
    pads: Sequence[Pair],
    limits: Clamp,
) -> Int8s:
    rows, columns = _windows(x.shape, kernel, stride, (1, 1), pads)
    out = np.empty((len(rows), len(columns), x.shape[2]), np.int8)
    for oy, ox, c in np.ndindex(out.shape):
        inside = [int(x[iy, ix, c]) for _, iy in rows[oy] for _, ix in columns[ox]]
        out[oy, ox, c] = clamp(reduce(inside), limits)
    return out


def average_pool(x: Int8s, *, kernel: Pair, stride: Pair, pads: Sequence[Pair], limits: Clamp, unsigned: bool) -> Int8s:
    """The mean of what lies inside; ``unsigned`` rounds the value plus 128, as uint8 models do."""
    offset = 128 if unsigned else 0

    def average(values: list[int]) -> int:
        return round_half_away(Fraction(sum(values) + offset * len(values), len(values))) - offset

    return _pool(x, average, kernel, stride, pads, limits)


def max_pool(x: Int8s, *, kernel: Pair, stride: Pair, pads: Sequence[Pair], limits: Clamp) -> Int8s:
    return _pool(x, max, kernel, stride, pads, limits)


def mean(
    x: Int8s,
    *,
    axes: Sequence[int],
    keep_dims: bool,
    input_zero: int,
    output_zero: int,
    multiplier: int,
    shift: int,
) -> Int8s:
    """Multiplier and shift are those of ``mean_multiplier``: the division by the count is in them."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    count = math.prod(x.shape[axis] for axis in axes)
    out = np.empty([x.shape[axis] for axis in kept], np.int8)
    for index in np.ndindex(out.shape):
        selection: list[int | slice] = [slice(None)] * x.ndim
        for axis, i in zip(kept, index, strict=True):
            selection[axis] = i
        total = sum(int(value) for value in x[tuple(selection)].flat) - count * input_zero
        out[index] = saturate(requantize(wrap(total), multiplier, shift) + output_zero, 8)
    if keep_dims:
        return out.reshape([1 if axis in axes else size for axis, size in enumerate(x.shape)])
    return out.reshape(out.shape or (1,))


def mean_multiplier(scale: float, count: int) -> tuple[int, int]:
    """QuantizedMeanOrSum: the multiplier of input scale / output scale, divided by the count."""
    multiplier, shift = quantize_multiplier(scale)
    extra = 0
    while extra < min(32, 31 + shift) and 2 ** (extra + 1) <= count:
        extra += 1
    return multiplier * 2**extra // count, shift - extra


def _elementwise(a: Int8s, b: Int8s, function: Callable[[int, int], int]) -> Int8s:
    pairs = np.broadcast(a, b)
    return np.array([function(int(i), int(j)) for i, j in pairs], np.int8).reshape(pairs.shape)


def add(
    a: Int8s,
    b: Int8s,
    *,
    zeros: tuple[int, int, int],
    multipliers: tuple[int, int, int],
    shifts: tuple[int, int, int],
    limits: Clamp,
) -> Int8s:
    """Zero points, multipliers and shifts of a, b and the output."""

    def one(i: int, j: int) -> int:
        scaled_a = requantize((i - zeros[0]) * 2**20, multipliers[0], shifts[0])
        scaled_b = requantize((j - zeros[1]) * 2**20, multipliers[1], shifts[1])
        total = wrap(scaled_a + scaled_b)
        return clamp(requantize(total, multipliers[2], shifts[2]) + zeros[2], limits)

    return _elementwise(a, b, one)


def mul(a: Int8s, b: Int8s, *, zeros: tuple[int, int, int], multiplier: int, shift: int, limits: Clamp) -> Int8s:
    def one(i: int, j: int) -> int:
        product = requantize((i - zeros[0]) * (j - zeros[1]), multiplier, shift)
        return clamp(wrap(product + zeros[2]), limits)

    return _elementwise(a, b, one)


def rescale(x: Int8s, *, input_zero: int, output_zero: int, multiplier: int, shift: int, limits: Clamp) -> Int8s:
    """QUANTIZE from int8 to int8, and RELU, RELU6 and RELU_N1_TO_1 on their own."""
    values = [clamp(wrap(requantize(int(q) - input_zero, multiplier, shift) + output_zero), limits) for q in x.flat]
    return np.array(values, np.int8).reshape(x.shape)


def quantize(x: NDArray[np.float32], scale: float, zero_point: int) -> Int8s:
    """Float32 to int8; the quotient is a float32."""
    values = []
    for real in x.flat:
        quotient = np.float32(real) / np.float32(scale)
        values.append(saturate(round_half_away(Fraction(float(quotient))) + zero_point, 8))
    return np.array(values, np.int8).reshape(x.shape)


def dequantize(x: Int8s, scale: float, zero_point: int) -> NDArray[np.float32]:
    """Int8 to float32: the exact product, rounded once."""
    values = [float(Fraction(float(np.float32(scale))) * (int(q) - zero_point)) for q in x.flat]
    return np.array(values, np.float32).reshape(x.shape)


# ---------------------------------------------------------------------------------- functions of a value


def softmax(x: Int8s, *, multiplier: int, shift: int, diff_min: int) -> Int8s:
    """Over the last axis, with gemmlowp's fixed-point exponential and reciprocal."""
    rows = x.reshape(-1, x.shape[-1])
    return np.array([_softmax_row(row.tolist(), multiplier, shift, diff_min) for row in rows], np.int8).reshape(x.shape)


def _softmax_row(row: list[int], multiplier: int, shift: int, diff_min: int) -> list[int]:
    differences = [q - max(row) for q in row]
    exponentials = [
        exp_on_negative(high_multiply(wrap(d * 2**shift), multiplier)) if d >= diff_min else None for d in differences
    ]
    # Each exponential goes from Q0.31 to Q12.19 before it is summed.
    total = sum(shift_right(e, 12) for e in exponentials if e is not None)
    headroom = 32 - total.bit_length()
    over_unit = 12 - headroom
    reciprocal = one_over_one_plus(wrap((total * 2**headroom) - 2**31))
    return [
        -128 if e is None else saturate(shift_right(high_multiply(reciprocal, e), over_unit + 23) - 128, 8)
        for e in exponentials
    ]


def softmax_parameters(scale: float, beta: float) -> tuple[int, int, int]:
    """PreprocessSoftmaxScaling, CalculateInputRadius, 5 integer bits: multiplier, shift, least difference."""
    real = min(float(np.float32(beta)) * float(np.float32(scale)) * 2**26, 2.0**31 - 1)
    multiplier, shift = quantize_multiplier(real)
    return multiplier, shift, -math.floor(Fraction(31 * 2**26, 2**shift))


def exp_on_negative(x: int) -> int:
    """exp(x / 2**26) in Q0.31, x <= 0: a polynomial within [-1/4, 0), a factor for each power of two."""
    if x == 0:
        return INT32_MAX
    quarter = 2**24
    part = x % quarter - quarter
    result = _exp_polynomial(saturate(part * 2**5, 32))
    quarters = (part - x) // quarter
    for bit in range(7):
        if quarters >> bit & 1:
            result = high_multiply(result, _q31_of_exp(Fraction(-(2**bit), 4)))
    return result


def _q31_of_exp(x: Fraction) -> int:
    return round_half_away(Fraction(math.exp(x)) * 2**31)


def _exp_polynomial(a: int) -> int:
    """exp(a / 2**31), that in [-1/4, 0): exp(-1/8) * (1 + x + x**2/2 + x**3/6 + x**4/24), x = a + 1/8."""
    centre, third = _q31_of_exp(Fraction(-1, 8)), round_half_away(Fraction(2**31, 3))
    x = a + 2**28
    square = high_multiply(x, x)
    cube = high_multiply(square, x)
    fourth = shift_right(high_multiply(square, square), 2)
    tail = shift_right(high_multiply(fourth + cube, third) + square, 1)
    return centre + high_multiply(centre, x + tail)


def one_over_one_plus(x: int) -> int:
    """2**31 / (1 + x / 2**31) for x >= 0: three Newton steps on a number with two integer bits."""
    half = round_half_away(Fraction(x + INT32_MAX, 2))
    estimate = round_half_away(Fraction(48 * 2**29, 17)) + high_multiply(
        half, round_half_away(Fraction(-32 * 2**29, 17))
    )
    for _ in range(3):
        error = 2**29 - high_multiply(half, estimate)
        estimate += saturate(high_multiply(estimate, error) * 4, 32)
    return saturate(estimate * 2, 32)


def logistic(scale: float, zero_point: int, output_scale: float, output_zero: int) -> list[int]:
    """The table of LOGISTIC for q = -128 .. 127, float32 at every step."""
    table = []
    inverse = np.float32(1) / np.float32(output_scale)
    with np.errstate(over="ignore"):
        for q in range(-128, 128):
            real = np.float32(scale) * np.float32(q - zero_point)
            # A correctly rounded expf; NumPy's own float32 exp may be off by an ulp.
            exponential = np.float32(np.exp(np.float64(-real)))
            value = np.float32(1) / (np.float32(1) + exponential)
            table.append(saturate(round_half_away(Fraction(float(value * inverse))) + output_zero, 8))
    return table


def hard_swish(scale: float, zero_point: int, output_scale: float, output_zero: int) -> list[int]:
    """The table of HARD_SWISH for q = -128 .. 127, 16-bit integers as the reference's."""
    fine = np.float32(1 / 128) * np.float32(scale)
    output_multiplier, output_shift = quantize_multiplier(float(fine / np.float32(output_scale)))
    gate_multiplier, gate_shift = quantize_multiplier(float(fine / np.float32(3 / 32768)))

    def to_16_bits(multiplier: int) -> int:
        return min(round_half_away(Fraction(multiplier, 2**16)), 2**15 - 1)

    table = []
    for q in range(-128, 128):
        value = (q - zero_point) * 128
        gate = saturate(value * 2 ** (gate_shift - 1), 16) if gate_shift > 0 else value
        gate = high_multiply(gate, to_16_bits(gate_multiplier), 16)
        if gate_shift > 0:
            gate = saturate(gate * 2, 16)
        elif gate_shift < 0:
            gate = shift_right(gate, -gate_shift)
        gate = (gate + 2**15) // 2
        product = gate * high_multiply(value, to_16_bits(output_multiplier), 16)
        truncated = abs(product) // 2**15 * (1 if product >= 0 else -1)
        table.append(saturate(shift_right(truncated, -output_shift) + output_zero, 8))
    return table


def lookup(x: Int8s, table: Sequence[int]) -> Int8s:
    return np.array([table[int(q) + 128] for q in x.flat], np.int8).reshape(x.shape)


# ------------------------------------------------------------------------------------------ moving data


def pad(x: Int8s, pads: Sequence[Pair], value: int) -> Int8s:
    shape = [before + size + after for size, (before, after) in zip(x.shape, pads, strict=True)]
    out = np.empty(shape, np.int8)
    for index in np.ndindex(out.shape):
        source = tuple(i - before for i, (before, _) in zip(index, pads, strict=True))
        inside = all(0 <= i < size for i, size in zip(source, x.shape, strict=True))
        out[index] = x[source] if inside else value
    return out


def concat(inputs: Iterable[Int8s], axis: int) -> Int8s:
    slices = [np.moveaxis(x, axis, 0) for x in inputs]
    return np.moveaxis(np.array(list(itertools.chain(*slices)), np.int8), 0, axis)


def transpose(x: Int8s, permutation: Sequence[int]) -> Int8s:
    out = np.empty([x.shape[axis] for axis in permutation], np.int8)
    for index in np.ndindex(out.shape):
        source = [0] * x.ndim
        for axis, i in zip(permutation, index, strict=True):
            source[axis] = i
        out[index] = x[tuple(source)]
    return out


def resize_nearest(x: Int8s, rows: Sequence[int], columns: Sequence[int]) -> Int8s:
    return np.array([[x[row, column] for column in columns] for row in rows], np.int8)


def nearest(size: int, outputs: int, *, align_corners: bool, half_pixel_centers: bool) -> list[int]:
    """GetNearestNeighbor for each output: float32 throughout."""
    if align_corners and outputs > 1:
        scale = np.float32(size - 1) / np.float32(outputs - 1)
    else:
        scale = np.float32(size) / np.float32(outputs)
    indices = []
    for o in range(outputs):
        position = (np.float32(o) + np.float32(0.5 if half_pixel_centers else 0)) * scale
        exact = Fraction(float(position))
        index = min(round_half_away(exact) if align_corners else math.floor(exact), size - 1)
        indices.append(max(0, index) if half_pixel_centers else index)
    return indices
