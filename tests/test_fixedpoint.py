"""The integer arithmetic against exact fractions, written from the definitions and not from the module."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests import oracle
from tests.strategies import zero_points
from tinymbn import fixedpoint

int32s = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([-(2**31), -1, 0, 1, 2**31 - 1])
multipliers = st.integers(0, 2**31 - 1) | st.sampled_from([2**30, 2**31 - 1])
scales = st.floats(2**-20, 2**8, width=32)


@given(int32s, multipliers)
def test_high_multiply_rounds_ties_up(a: int, b: int) -> None:
    assert fixedpoint.high_multiply(a, b) == math.floor(Fraction(a * b, 2**31) + Fraction(1, 2))


@given(int32s, st.integers(0, 31))
def test_shift_right_rounds_ties_away_from_zero(x: int, bits: int) -> None:
    magnitude = math.floor(Fraction(abs(x), 2**bits) + Fraction(1, 2))
    assert fixedpoint.shift_right(x, bits) == (magnitude if x >= 0 else -magnitude)


@given(st.integers(-(2**62), 2**62))
def test_wrap_int32_is_what_a_cast_gives(x: int) -> None:
    assert fixedpoint.wrap_int32(x) == int(np.array(x, np.int64).astype(np.int32))


@given(int32s, multipliers, st.integers(-31, 30))
def test_requantize_equals_the_oracle(x: int, multiplier: int, shift: int) -> None:
    assert fixedpoint.requantize(x, multiplier, shift) == oracle.requantize(x, multiplier, shift)


def test_requantize_rounds_twice() -> None:
    # 305 / 4 is 76.25; its half is 152.5 -> 153, and the half of that 76.5 -> 77.
    assert fixedpoint.requantize(305, 2**30, -1) == 77
    # -305 / 4: -152.5 -> -152, then -76.
    assert fixedpoint.requantize(-305, 2**30, -1) == -76


@given(st.integers(-(2**20), 2**20), st.integers(1, 2**12))
def test_rounding_average_rounds_ties_away_from_zero(total: int, count: int) -> None:
    assert fixedpoint.rounding_average(total, count) == oracle.round_half_away(Fraction(total, count))


@given(st.floats(-1e6, 1e6) | st.integers(-1000, 1000).map(lambda n: n / 2))
@example(0.49999999999999994)  # adding a half in float64 gives 1
def test_round_half_away_is_exact(x: float) -> None:
    assert fixedpoint.round_half_away(x) == oracle.round_half_away(Fraction(x))


@given(st.floats(2.0**-32, 2.0**29))
def test_multiplier_and_shift_come_back_as_the_factor(scale: float) -> None:
    multiplier, shift = fixedpoint.multiplier_and_shift(scale)
    assert 2**30 <= multiplier < 2**31
    exact = Fraction(scale)
    assert abs(Fraction(multiplier) * Fraction(2) ** (shift - 31) - exact) <= exact / 2**31
    assert (multiplier, shift) == oracle.quantize_multiplier(scale)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (0.0, (0, 0)),
        (1.0, (2**30, 1)),
        (0.75, (3 * 2**29, 0)),
        (1.0 - 2.0**-33, (2**30, 1)),  # its mantissa rounds up to 2**31
        (2.0**-32, (2**30, -31)),
        (2.0**-33, (0, 0)),
    ],
)
def test_multiplier_and_shift_at_the_edges(scale: float, expected: tuple[int, int]) -> None:
    assert fixedpoint.multiplier_and_shift(scale) == expected


@pytest.mark.parametrize("scale", [-1.0, math.nan, math.inf, 2.0**31])
def test_a_factor_that_no_shift_holds_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="rescaling factor"):
        fixedpoint.multiplier_and_shift(scale)


@given(st.integers(-(2**31), 0))
def test_exp_on_negative_is_near_the_real_exponential(x: int) -> None:
    result = fixedpoint.exp_on_negative(x)
    assert result == oracle.exp_on_negative(x)
    # A polynomial of degree 4 over an interval of 1/4: its first missing term is (1/8)**5 / 120, or 2**-22.
    assert math.isclose(result / 2**31, math.exp(x / 2**26), rel_tol=0, abs_tol=2**-21)


@given(st.integers(0, 2**31 - 1))
def test_reciprocal_is_near_the_real_one(x: int) -> None:
    result = fixedpoint.reciprocal(x)
    assert result == oracle.one_over_one_plus(x)
    assert math.isclose(result / 2**31, 1 / (1 + x / 2**31), rel_tol=0, abs_tol=2**-27)


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "expected"),
    [
        ("none", 0.1, 5, (-128, 127)),
        ("relu", 0.1, -10, (-10, 127)),
        ("relu6", 0.5, -10, (-10, 2)),
        ("relu6", 0.01, -128, (-128, 127)),
        ("relu_n1_to_1", 0.25, 3, (-1, 7)),
        ("relu_n1_to_1", 0.4, 0, (-3, 3)),  # 1 / 0.4 is a tie in float32: 2.5 -> 3
    ],
)
def test_activation_range_by_hand(activation: str, scale: float, zero_point: int, expected: tuple[int, int]) -> None:
    assert fixedpoint.activation_range(activation, scale, zero_point) == expected


@given(st.sampled_from(["relu", "relu6", "relu_n1_to_1"]), scales, zero_points)
def test_activation_range_is_the_rounded_bounds(activation: str, scale: float, zero_point: int) -> None:
    bounds = {"relu": (0.0, np.inf), "relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0)}[activation]
    low, high = (
        zero_point + oracle.round_half_away(Fraction(float(np.float32(bound) / np.float32(scale))))
        if np.isfinite(bound)
        else 127
        for bound in bounds
    )
    assert fixedpoint.activation_range(activation, scale, zero_point) == (max(-128, low), min(127, high))


@given(scales, scales, st.integers(1, 5000))
def test_mean_multiplier_equals_the_oracle(a: float, b: float, count: int) -> None:
    assert fixedpoint.mean_multiplier(a, b, count) == oracle.mean_multiplier(a / b, count)


@given(st.floats(2**-20, 4.0, width=32), st.floats(0.125, 2.0, width=32))
def test_softmax_scaling_equals_the_oracle(scale: float, beta: float) -> None:
    assert tuple(fixedpoint.softmax_scaling(scale, beta)) == oracle.softmax_parameters(scale, beta)


@given(st.floats(2**-12, 1.0, width=32), zero_points)
@example(0.90625, 0)  # exp(88.8) is beyond float32
def test_logistic_table_equals_the_oracle(scale: float, zero_point: int) -> None:
    table = fixedpoint.logistic_table(scale, zero_point, 1 / 256, -128)
    assert table.tolist() == oracle.logistic(scale, zero_point, 1 / 256, -128)


def test_logistic_table_by_hand() -> None:
    # One half at zero, 1 / (1 + e) = 0.26894 = 68.85/256 one step of 1.0 below it, and 187.15/256 one above.
    table = fixedpoint.logistic_table(1.0, 10, 1 / 256, -128)
    assert table[10 + 128 - 1 : 10 + 128 + 2].tolist() == [69 - 128, 0, 187 - 128]


@given(st.floats(2**-10, 0.25, width=32), zero_points, st.floats(2**-8, 0.25, width=32), zero_points)
def test_hard_swish_table_equals_the_oracle(
    scale: float, zero_point: int, output_scale: float, output_zero: int
) -> None:
    table = fixedpoint.hard_swish_table(scale, zero_point, output_scale, output_zero)
    assert table.tolist() == oracle.hard_swish(scale, zero_point, output_scale, output_zero)


def test_hard_swish_table_is_zero_to_one_around_three() -> None:
    # Of -3, 0 and 3 (48 steps each way) it makes 0, 0 and 3; of 6 it makes 6. A step is 1/16 on both sides.
    table = fixedpoint.hard_swish_table(1 / 16, 0, 1 / 16, 0)
    assert table[[128 - 48, 128, 128 + 48, 128 + 96]].tolist() == [0, 0, 48, 96]


# Any scale, or ratios of small whole numbers, where the products are ties that float64 may miss.
dense_factors = st.floats(2**-24, 8.0) | st.builds(
    lambda a, b, c: float(np.float32(a)) * float(np.float32(b)) / float(np.float32(c)),
    st.integers(1, 12) | st.sampled_from([0.1, 0.3, 0.7]),
    st.integers(1, 12) | st.sampled_from([0.1, 0.3, 0.7]),
    st.integers(1, 5000),
)


@given(dense_factors, st.integers(1, 2**30) | st.integers(1, 2**22), st.data())
def test_dense_scaling_rounds_as_float64_does(factor: float, largest: int, data: st.DataObject) -> None:
    scaling = fixedpoint.dense_scaling([factor], np.array([largest]))
    # Where the output changes: around (q - 1/2) / factor.
    near = [
        math.floor((q - 0.5) / factor) + offset
        for q in data.draw(st.lists(st.integers(1, 255), min_size=1, max_size=20))
        for offset in (-1, 0, 1, 2)
    ]
    for magnitude in (*near, data.draw(st.integers(0, largest)), largest):
        if not 0 <= magnitude <= largest:
            continue
        for x in (magnitude, -magnitude):
            expected = oracle.clamp(oracle.requantize_in_float64(x, factor), (-255, 255))
            if scaling.steps is None:
                made = fixedpoint.requantize_once(x, int(scaling.multiplier[0]), int(scaling.shift[0]))
            else:
                made = fixedpoint.step_count(x, scaling.steps[0])
            assert oracle.clamp(made, (-255, 255)) == expected


@given(int32s, multipliers, st.integers(-31, 30))
def test_requantize_once_equals_the_oracle(x: int, multiplier: int, shift: int) -> None:
    assert fixedpoint.requantize_once(x, multiplier, shift) == oracle.requantize_once(x, multiplier, shift)
