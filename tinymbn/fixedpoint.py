"""The integer arithmetic of TensorFlow Lite's reference kernels: every rounding tinymbn does is here.

Two groups of functions. Those under "at import" turn real scales into integers, once; the integers are
stored in the model. Those under "at run time" work on integers alone, in the subset of Python that Numba
compiles, so that one text serves the interpreter, the tests and the reader. ``docs/arithmetic.md`` derives them.

"int32" below means a Python or 64-bit integer that holds an int32's value.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

INT32_MAX = 2**31 - 1

# Left shift of both operands of ADD before they are scaled, so that 20 fractional bits survive.
# Source: tensorflow/lite/kernels/add.cc, Prepare.
ADD_LEFT_SHIFT = 20
# Integer bits of the scaled difference, and of the sum, in SOFTMAX.
# Source: tensorflow/lite/kernels/internal/reference/softmax.h.
SOFTMAX_DIFF_INTEGER_BITS = 5
SOFTMAX_SUM_INTEGER_BITS = 12
# The sum has 12 integer bits, and each term is at most 1: one more could overflow the reference's int32.
SOFTMAX_MAX_DEPTH = 2**SOFTMAX_SUM_INTEGER_BITS - 1

# ------------------------------------------------------------------------------------------ at import


def round_half_away(x: float) -> int:
    """The nearest integer to x; ties go away from zero, as C's ``round``."""
    whole = math.floor(abs(x))
    nearest = whole + (1 if abs(x) - whole >= 0.5 else 0)
    return nearest if x >= 0 else -nearest


def round_array_half_away(x: NDArray[Any]) -> NDArray[Any]:
    """As ``round_half_away``, for an array of floats of any shape; the type stays."""
    magnitude = np.abs(x)
    whole = np.floor(magnitude)
    rounded: NDArray[Any] = np.copysign(whole + (magnitude - whole >= 0.5), x)
    return rounded


def multiplier_and_shift(scale: float) -> tuple[int, int]:
    """Split a real factor into a Q31 mantissa and a power of two.

    Args:
        scale: the real factor, >= 0, below 2**30.

    Returns:
        ``(multiplier, shift)`` with ``scale ~= multiplier / 2**31 * 2**shift``, multiplier in
        [2**30, 2**31) and shift in [-31, 30], positive meaning left; ``(0, 0)`` below 2**-32.

    Raises:
        ValueError: the factor is negative, not finite, or too large for a 32-bit shift.

    Source: tensorflow/lite/kernels/internal/quantization_util.cc, QuantizeMultiplier.
    """
    if not (math.isfinite(scale) and scale >= 0):
        raise ValueError(f"a rescaling factor of {scale} is not a finite number >= 0")
    mantissa, shift = math.frexp(scale)
    multiplier = round_half_away(mantissa * 2**31)
    if multiplier == 2**31:
        multiplier //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    if shift > 30:
        raise ValueError(f"a rescaling factor of {scale} is over 2**30")
    return multiplier, shift


def activation_range(activation: str, scale: float, zero_point: int) -> tuple[int, int]:
    """The int8 values that a fused activation lets through.

    Args:
        activation: "none", "relu", "relu6", "relu_n1_to_1" or "relu_0_to_1".
        scale: the output tensor's scale; used as float32, as the reference does.
        zero_point: the output tensor's zero point, in [-128, 127].

    Returns:
        ``(low, high)``, both inclusive, within [-128, 127].

    Raises:
        ValueError: the activation is not one of these, leaves no value, or its bound is beyond int32.

    Source: tensorflow/lite/kernels/kernel_util.cc, CalculateActivationRangeQuantized.
    """

    def quantized(real: float) -> int:
        steps = float(np.float32(real) / np.float32(scale))
        if abs(steps) > INT32_MAX:
            raise ValueError(f"{activation} is over 2**31 steps of scale {scale}")
        return zero_point + round_half_away(steps)

    bounds = {
        "none": (None, None),
        "relu": (0.0, None),
        "relu6": (0.0, 6.0),
        "relu_n1_to_1": (-1.0, 1.0),
        "relu_0_to_1": (0.0, 1.0),
    }
    if activation not in bounds:
        raise ValueError(f"activation {activation!r} is not one of {', '.join(bounds)}")
    low, high = bounds[activation]
    limits = (
        -128 if low is None else max(-128, quantized(low)),
        127 if high is None else min(127, quantized(high)),
    )
    if limits[0] > limits[1]:
        raise ValueError(f"{activation} leaves no int8 value at scale {scale}, zero point {zero_point}")
    return limits


def convolution_scales(
    input_scale: float, weight_scales: NDArray[np.float32], output_scale: float, *, single_precision: bool
) -> list[float]:
    """The real factor from accumulator to output, one for each weight scale.

    ``single_precision`` multiplies input and weight scale in float32 first, as the reference does in legacy
    uint8 convolutions.

    Source: tensorflow/lite/kernels/kernel_util.cc, PopulateConvolutionQuantizationParams and
    GetQuantizedConvolutionMultipler.
    """
    if single_precision:
        return [float(np.float32(input_scale) * np.float32(w)) / float(output_scale) for w in weight_scales]
    return [float(input_scale) * float(w) / float(output_scale) for w in weight_scales]


class DenseScaling(NamedTuple):
    """Multipliers (Q31, int32) and shifts (int8) of a dense layer, (C_out,); or the steps that stand for them.

    ``steps`` is None but where no multiplier does, see ``dense_scaling``; then int32 (C_out, DENSE_STEPS).
    """

    multiplier: NDArray[np.int32]
    shift: NDArray[np.int8]
    steps: NDArray[np.int32] | None


# Outputs have 8 bits, so a dense layer's result counts within 255 steps of its zero point.
DENSE_STEPS = 255
_MAX_SEARCHES = 4096  # each takes a tenth of a millisecond; real models need none or a few


def dense_scaling(scales: list[float], largest: NDArray[np.int64]) -> DenseScaling:
    """The integers of a dense layer: what it makes of them is ``round(accumulator * scale)``.

    LiteRT's reference multiplies in float64 here and rounds once. A Q31 multiplier is exact to 2**-32, which
    decides all but the nearest ties the same way. So each is proven: both sides are monotone in the accumulator,
    hence equal everywhere if they step from one output to the next at the same 255 accumulators. Where scales are
    in such simple proportions that float64 rounds exact ties now up, now down, no multiplier does, and the 255
    accumulators themselves are kept.

    Args:
        scales: the real factors, one a channel.
        largest: the greatest magnitude of each channel's accumulator, (C_out,).

    Raises:
        ValueError: a factor is out of range, or neither form can be exact, since the accumulator may overflow.

    Source: tensorflow/lite/kernels/internal/reference/integer_ops/fully_connected.h, the functions that take
    scales.
    """
    natural = [multiplier_and_shift(scale) for scale in scales]
    multiplier = np.array([m for m, _ in natural], np.int64)
    shift = np.array([e for _, e in natural], np.int64)
    limits = np.minimum(largest, 2**31)
    steps = _steps(np.array(scales))
    unproven = np.flatnonzero(~_steps_at(multiplier, shift, steps, limits))
    if len(unproven) > _MAX_SEARCHES:
        raise ValueError(f"{len(unproven)} channels whose factors round at ties; expected at most {_MAX_SEARCHES}")
    for channel in unproven.tolist():
        found = _search_multiplier(int(multiplier[channel]), int(shift[channel]), steps[channel], int(limits[channel]))
        if found is None:
            if limits.max() >= INT32_MAX:
                raise ValueError(f"no multiplier of 31 bits rounds as the factor {scales[channel]} does")
            kept = np.minimum(steps, INT32_MAX).astype(np.int32)
            return DenseScaling(multiplier.astype(np.int32), shift.astype(np.int8), kept)
        multiplier[channel] = found
    return DenseScaling(multiplier.astype(np.int32), shift.astype(np.int8), None)


def _steps(scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least accumulator that float64 multiplication rounds to 1, 2, ..., (len(scales), DENSE_STEPS)."""
    ties = np.arange(1, DENSE_STEPS + 1) - 0.5
    factors = scales[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # a factor of 0 reaches nothing
        steps: NDArray[np.float64] = np.ceil(ties / factors)  # right, or one off
        steps += steps * factors < ties
        steps -= (steps - 1) * factors >= ties
    return np.where(factors > 0, steps, np.inf)


def _steps_at(
    multiplier: NDArray[np.int64], shift: NDArray[np.int64], steps: NDArray[np.float64], limits: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether ``requantize_once`` with each multiplier steps at ``steps`` and not before, up to each limit."""
    half, bits = (1 << (30 - shift))[:, None], (31 - shift)[:, None]

    def rounded(accumulators: NDArray[np.float64]) -> NDArray[np.int64]:
        within = np.minimum(accumulators, limits[:, None]).astype(np.int64)
        values: NDArray[np.int64] = (within * multiplier[:, None] + half) >> bits
        return values

    outputs = np.arange(1, DENSE_STEPS + 1)
    on_time = (rounded(steps) >= outputs) | (steps > limits[:, None])
    return np.asarray((on_time & (rounded(steps - 1) < outputs)).all(axis=1))


def _search_multiplier(multiplier: int, shift: int, steps: NDArray[np.float64], limit: int) -> int | None:
    """The multiplier, or its nearest neighbour, that steps at ``steps`` for accumulators up to ``limit``."""
    # An output q is due at accumulator t and not at t - 1: with v = (2 * q - 1) * half, t * m >= v > (t - 1) * m.
    half = 1 << (30 - shift)
    low, high = 0, INT32_MAX
    for q, step in enumerate(steps.tolist(), 1):
        value = (2 * q - 1) * half
        if step <= limit:
            low = max(low, -(-value // int(step)))
        before = min(step - 1, limit)
        if before > 0:
            high = min(high, (value - 1) // int(before))
        if step > limit:
            break
    return min(max(multiplier, low), high) if low <= high else None


def accumulator_limits(
    weights: NDArray[np.int8], bias: NDArray[np.int32], input_zero: int, weight_zero: int
) -> NDArray[np.int64]:
    """The greatest magnitude of a dense layer's accumulators, (C_out,), for weights (C_out, C_in)."""
    farthest = max(127 - input_zero, input_zero + 128)
    widths = np.abs(weights.astype(np.int64) - weight_zero).sum(axis=1)
    limits: NDArray[np.int64] = widths * farthest + np.abs(bias.astype(np.int64))
    return limits


def mul_scale(a_scale: float, b_scale: float, output_scale: float) -> float:
    """The real factor of MUL, computed in float32 throughout.

    Source: tensorflow/lite/kernels/mul.cc, Prepare.
    """
    return float(np.float32(a_scale) * np.float32(b_scale) / np.float32(output_scale))


def relu_scale(input_scale: float, output_scale: float) -> float:
    """The real factor of a RELU that stands on its own, computed in float32.

    Source: tensorflow/lite/kernels/activations.cc, ReluPrepare.
    """
    return float(np.float32(input_scale) / np.float32(output_scale))


class AddScaling(NamedTuple):
    """Multipliers (Q31) and shifts of both operands of ADD and of their sum."""

    a_multiplier: int
    a_shift: int
    b_multiplier: int
    b_shift: int
    output_multiplier: int
    output_shift: int


def add_scaling(a_scale: float, b_scale: float, output_scale: float) -> AddScaling:
    """The integers of ADD.

    Raises:
        ValueError: the output's scale is so small that the sum would have to be shifted left.

    Source: tensorflow/lite/kernels/add.cc, Prepare.
    """
    twice_max = 2.0 * max(a_scale, b_scale)
    scaling = AddScaling(
        *multiplier_and_shift(a_scale / twice_max),
        *multiplier_and_shift(b_scale / twice_max),
        *multiplier_and_shift(twice_max / (2**ADD_LEFT_SHIFT * output_scale)),
    )
    if scaling.output_shift > 0:
        raise ValueError(f"ADD: output scale {output_scale} is over 2**19 times finer than its operands")
    return scaling


def mean_multiplier(input_scale: float, output_scale: float, count: int) -> tuple[int, int]:
    """Multiplier and shift of MEAN over ``count`` elements: the division is part of the multiplier.

    Source: tensorflow/lite/kernels/internal/reference/reduce.h, QuantizedMeanOrSum.
    """
    multiplier, shift = multiplier_and_shift(float(input_scale) / float(output_scale))
    extra = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << extra) // count, shift - extra


class SoftmaxScaling(NamedTuple):
    """Multiplier (Q31), left shift, and the least difference to the maximum that still counts."""

    multiplier: int
    shift: int
    diff_min: int


def softmax_scaling(input_scale: float, beta: float) -> SoftmaxScaling:
    """The integers of SOFTMAX.

    Raises:
        ValueError: beta times the input's scale is not in (0, inf), or so small that all outputs are equal.

    Source: tensorflow/lite/kernels/internal/quantization_util.cc, PreprocessSoftmaxScaling and
    CalculateInputRadius.
    """
    fraction_bits = 31 - SOFTMAX_DIFF_INTEGER_BITS
    real = float(np.float32(beta)) * float(np.float32(input_scale)) * 2**fraction_bits
    if 2**30 <= real < math.inf:
        # One step below the maximum is exp(-16) or less, so only the maximum counts, whose difference is 0.
        return SoftmaxScaling(2**30, 30, 0)
    multiplier, shift = multiplier_and_shift(real)
    if shift < 0 or multiplier == 0:
        raise ValueError(f"SOFTMAX: input scale {input_scale} times beta {beta} is below 2**-26")
    radius = math.floor((2**SOFTMAX_DIFF_INTEGER_BITS - 1) * 2**fraction_bits / 2**shift)
    return SoftmaxScaling(multiplier, shift, -radius)


def _int8_table(values: list[int]) -> NDArray[np.int8]:
    return np.clip(np.array(values, dtype=np.int64), -128, 127).astype(np.int8)


def logistic_table(input_scale: float, input_zero: int, output_scale: float, output_zero: int) -> NDArray[np.int8]:
    """LOGISTIC of each int8 value, (256,), indexed by ``q + 128``.

    Source: tensorflow/lite/kernels/internal/common.h, LUTPopulate, with activations.cc, SigmoidPrepare.
    The C library's expf is within half a step of the exact value, so the exact value, rounded, stands for it.
    """
    one = np.float32(1)
    inverse_scale = one / np.float32(output_scale)
    values = []
    for q in range(-128, 128):
        real = np.float32(input_scale) * np.float32(q - input_zero)
        with np.errstate(over="ignore"):  # e**89 is beyond float32; the reference's expf gives infinity, too
            exponential = np.float32(math.exp(min(-float(real), 100.0)))
        logistic = one / (one + exponential)
        values.append(round_half_away(float(logistic * inverse_scale)) + output_zero)
    return _int8_table(values)


def concat_table(input_scale: float, input_zero: int, output_scale: float, output_zero: int) -> NDArray[np.int8]:
    """What a legacy CONCATENATION makes of an input of another scale, (256,), indexed by ``q + 128``.

    Zero points are those of the uint8 tensors, 0 to 255.

    Source: tensorflow/lite/kernels/internal/reference/concatenation.h, ConcatenationWithScaling.
    """
    scale = np.float32(input_scale) * (np.float32(1) / np.float32(output_scale))
    bias = np.float32(-input_zero) * scale
    values = []
    for q in range(256):
        rescaled = round_half_away(float(np.float32(q) * scale + bias)) + output_zero
        values.append(min(max(rescaled, 0), 255) - 128)
    return _int8_table(values)


def hard_swish_table(
    input_scale: float, input_zero: int, output_scale: float, output_zero: int, *, unsigned: bool = False
) -> NDArray[np.int8]:
    """HARD_SWISH of each int8 value, (256,), indexed by ``q + 128``.

    ``unsigned`` marks a legacy model: its int16 overflows at another value, for its zero point is 128 higher.

    Raises:
        ValueError: the input's scale is over 128 times the output's, which the reference refuses.

    Source: tensorflow/lite/kernels/internal/reference/hard_swish.h and activations.cc, HardSwishPrepare.
    """
    hires_scale = np.float32(1.0 / 128.0) * np.float32(input_scale)
    output_multiplier, output_shift = multiplier_and_shift(float(hires_scale / np.float32(output_scale)))
    relu_multiplier, relu_shift = multiplier_and_shift(float(hires_scale / np.float32(3.0 / 32768.0)))
    if output_shift > 0:
        raise ValueError(f"HARD_SWISH: input scale {input_scale} is over 128 times output scale {output_scale}")
    output_multiplier = _multiplier16(output_multiplier)
    relu_multiplier = _multiplier16(relu_multiplier)
    values = []
    for q in range(-128, 128):
        hires = (q - input_zero) * 2**7
        scaled = _high_multiply16(hires, output_multiplier)
        # The real value 3 is 2**15 here, so that saturation is the clamp of hard-swish at -3 and 3.
        gate = hires
        if relu_shift > 0:
            gate = _saturate16(gate * 2 ** (relu_shift - 1))
        gate = _high_multiply16(gate, relu_multiplier)
        if relu_shift > 0:
            gate = _saturate16(gate * 2)
        elif relu_shift < 0:
            gate = _shift_right16(gate, -relu_shift)
        gate = (gate + 2**15) >> 1  # from [-1, 1] to [0, 1] in Q15
        product = gate * scaled
        product = product >> 15 if product >= 0 else -(-product >> 15)  # C division: towards zero
        offset = 128 if unsigned else 0
        values.append(_wrap16(_shift_right16(product, -output_shift) + output_zero + offset) - offset)
    return _int8_table(values)


def _multiplier16(multiplier: int) -> int:
    """A Q31 multiplier as Q15. Source: common.h, DownScaleInt32ToInt16Multiplier."""
    return 2**15 - 1 if multiplier >= INT32_MAX - 2**15 else (multiplier + 2**15) >> 16


def _saturate16(x: int) -> int:
    return min(max(x, -(2**15)), 2**15 - 1)


def _wrap16(x: int) -> int:
    return (x + 2**15) % 2**16 - 2**15


def _high_multiply16(a: int, b: int) -> int:
    """Q15 product rounded half up. Source: gemmlowp, SaturatingRoundingDoublingHighMul of int16."""
    return _saturate16((a * b + 2**14) >> 15)


def _shift_right16(x: int, bits: int) -> int:
    """Rounding shift of an int16; its mask is an int16 as well, all ones from 16 bits on.

    Source: gemmlowp/fixedpoint/fixedpoint.h, RoundingDivideByPOT.
    """
    mask = _wrap16(2**bits - 1)
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> bits) + (1 if (x & mask) > threshold else 0)


# ---------------------------------------------------------------------------------------- at run time


def wrap_int32(x: int) -> int:
    """X modulo 2**32 in [-2**31, 2**31): what an int32 holds after an overflow."""
    return ((x + 2147483648) & 0xFFFFFFFF) - 2147483648


def high_multiply(a: int, b: int) -> int:
    """``a * b / 2**31`` rounded to nearest, ties up.

    Args:
        a: int32.
        b: int32; not both may be -2**31.

    Source: gemmlowp/fixedpoint/fixedpoint.h, SaturatingRoundingDoublingHighMul.
    """
    return (a * b + 1073741824) >> 31


def shift_right(x: int, bits: int) -> int:
    """``x / 2**bits`` rounded to nearest, ties away from zero; bits in [0, 31].

    Source: gemmlowp/fixedpoint/fixedpoint.h, RoundingDivideByPOT.
    """
    if bits == 0:
        return x
    return (x + (1 << (bits - 1)) - (1 if x < 0 else 0)) >> bits


def requantize(accumulator: int, multiplier: int, shift: int) -> int:
    """``accumulator * multiplier / 2**31 * 2**shift``, rounded twice, as the reference does.

    Args:
        accumulator: int32.
        multiplier: Q31, in [0, 2**31).
        shift: in [-31, 30], positive is left; a left shift wraps as an int32 does.

    Source: tensorflow/lite/kernels/internal/common.cc, MultiplyByQuantizedMultiplier.
    """
    if shift > 0:
        return high_multiply(wrap_int32(accumulator << shift), multiplier)
    return shift_right(high_multiply(accumulator, multiplier), -shift)


def to_output(rescaled: int, zero_point: int, low: int, high: int) -> int:
    """A requantised value as a byte of the output: its zero point added, clamped to [low, high].

    The sum is an int32 in the reference, and wraps as one: a value of 2**31 - 1 becomes the lowest byte.
    """
    return min(max(wrap_int32(rescaled + zero_point), low), high)


def requantize_once(accumulator: int, multiplier: int, shift: int) -> int:
    """``accumulator * multiplier / 2**31 * 2**shift`` rounded once, ties away from zero: what dense layers do.

    Args: as in ``requantize``; a large result is not wrapped.

    Source: see ``dense_scaling``.
    """
    half = 1 << (30 - shift)
    if accumulator < 0:
        # 0 - x is 64 bits wide where Numba has x as an int32; -x would be 32, and overflow at -2**31.
        return -(((0 - accumulator) * multiplier + half) >> (31 - shift))
    return (accumulator * multiplier + half) >> (31 - shift)


def step_count(accumulator: int, steps: NDArray[np.int32]) -> int:
    """How many of the ascending ``steps`` (DENSE_STEPS,) the accumulator's magnitude reaches, with its sign."""
    magnitude = accumulator if accumulator >= 0 else 0 - accumulator
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        if steps[middle] <= magnitude:
            low = middle + 1
        else:
            high = middle
    return low if accumulator >= 0 else -low


def rounding_average(total: int, count: int) -> int:
    """``total / count`` rounded to nearest, ties away from zero; count > 0.

    Source: tensorflow/lite/kernels/internal/reference/integer_ops/pooling.h, AveragePool.
    """
    if total > 0:
        return (total + count // 2) // count
    return -((-total + count // 2) // count)


def exp_on_negative(x: int) -> int:
    """``exp(x)`` for x <= 0 in Q5.26; the result is Q0.31.

    Source: gemmlowp/fixedpoint/fixedpoint.h, exp_on_negative_values.
    """
    if x == 0:
        return 2147483647
    quarter = 1 << 24
    remainder_in_quarter = (x & (quarter - 1)) - quarter  # in [-1/4, 0)
    result = _exp_on_interval(remainder_in_quarter << 5)
    steps = remainder_in_quarter - x  # a multiple of 1/4
    # exp(-1/4), exp(-1/2), exp(-1), ..., exp(-16) in Q0.31, one a bit.
    if steps & (1 << 24):
        result = high_multiply(result, 1672461947)
    if steps & (1 << 25):
        result = high_multiply(result, 1302514674)
    if steps & (1 << 26):
        result = high_multiply(result, 790015084)
    if steps & (1 << 27):
        result = high_multiply(result, 290630308)
    if steps & (1 << 28):
        result = high_multiply(result, 39332535)
    if steps & (1 << 29):
        result = high_multiply(result, 720401)
    if steps & (1 << 30):
        result = high_multiply(result, 242)
    return result


def _exp_on_interval(a: int) -> int:
    """``exp(a)`` for a in [-1/4, 0), Q0.31: a Taylor polynomial of degree 4 around -1/8."""
    exp_minus_eighth = 1895147668
    third = 715827883
    x = a + (1 << 28)
    x2 = high_multiply(x, x)
    x3 = high_multiply(x2, x)
    x4_over_4 = shift_right(high_multiply(x2, x2), 2)
    higher = shift_right(high_multiply(x4_over_4 + x3, third) + x2, 1)
    return exp_minus_eighth + high_multiply(exp_minus_eighth, x + higher)


def _saturating_double(x: int, bits: int) -> int:
    return min(max(x << bits, -2147483648), 2147483647)


def reciprocal(x: int) -> int:
    """``1 / (1 + x)`` for x in [0, 1), Q0.31, by three Newton steps.

    Source: gemmlowp/fixedpoint/fixedpoint.h, one_over_one_plus_x_for_x_in_0_1.
    """
    total = x + 2147483647
    half = (total + 1) >> 1  # RoundingHalfSum; the sum is never negative
    estimate = 1515870810 + high_multiply(half, -1010580540)  # 48/17 - 32/17 * half, Q2.29
    for _ in range(3):
        error = (1 << 29) - high_multiply(half, estimate)
        estimate = estimate + _saturating_double(high_multiply(estimate, error), 2)
    return _saturating_double(estimate, 1)
