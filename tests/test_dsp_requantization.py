"""The short requantisation equals the reference at every accumulator, and what does not is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.strategies import activations, zero_points
from tinymbn.fixedpoint import requantize, to_output, wrap_int32
from tinymbn.layers import Activation
from tinymbn_codegen.dsp.requantization import accumulator_range, largest_left, short_scaling
from tinymbn_codegen.dsp.short_form import OUTPUTS, Reference, ShortScaling, proves

RELU = Activation(-128, 127)


def reference(
    multiplier: Any, shift: Any, lo: Any, hi: Any, *, zero_point: int = -128, activation: Activation = RELU
) -> Reference:
    """Of one channel, or of as many as there are multipliers."""
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(a, np.int64)) for a in (multiplier, shift, lo, hi)))
    return Reference(arrays[0], arrays[1], zero_point, activation, arrays[2], arrays[3])


def expected(wanted: Reference, channel: int, accumulator: int) -> int:
    """The output by the project's arithmetic, one number at a time."""
    rescaled = requantize(accumulator, int(wanted.multiplier[channel]), int(wanted.shift[channel]))
    return to_output(rescaled, wanted.zero_point, wanted.activation.low, wanted.activation.high)


def on_the_chip(short: ShortScaling, channel: int, accumulator: int, *, signed: bool) -> int:
    """What the instructions do, with registers of 32 bits; delta is part of the shifted bias."""
    x = wrap_int32((accumulator << int(short.left[channel])) + int(short.delta[channel]))
    if x < 0:
        x = wrap_int32(x - int(short.displacement[channel]))
    addend = (short.signed_addend if signed else short.addend)[channel]
    total = int(addend) + ((x * int(short.multiplier[channel])) >> 32)
    assert wrap_int32(total) == total
    if signed:
        return min(max(total >> short.shift, -128), 127)
    return min(max(total >> short.shift, 0), 255) - 128


def places(wanted: Reference, channel: int) -> list[int]:
    """Every accumulator of a small range; of a large one those around each step, ends, zero, and some others."""
    lo, hi = int(wanted.lo[channel]), int(wanted.hi[channel])
    if hi - lo < 2000:
        return list(range(lo, hi + 1))
    found = {lo, hi, *range(-2, 3), *np.linspace(lo, hi, 99).astype(np.int64).tolist()}
    # Steps by bisection, which knows nothing of the formula under test.
    for output in range(expected(wanted, channel, lo) + 1, expected(wanted, channel, hi) + 1):
        below, above = lo, hi
        while above - below > 1:
            middle = (below + above) // 2
            below, above = (below, middle) if expected(wanted, channel, middle) >= output else (middle, above)
        found.update(range(above - 2, above + 3))
    return sorted(place for place in found if lo <= place <= hi)


def check(short: ShortScaling, wanted: Reference) -> None:
    for channel in range(len(wanted.lo)):
        for accumulator in places(wanted, channel):
            right = expected(wanted, channel, accumulator)
            where = f"channel {channel}, accumulator {accumulator}"
            assert on_the_chip(short, channel, accumulator, signed=False) == right, where
            assert on_the_chip(short, channel, accumulator, signed=True) == right, where


def layer(channels: int, seed: int, *, width: int = 100_000) -> Reference:
    """As layers of real models are."""
    generator = np.random.default_rng(seed)
    return reference(
        generator.integers(2**30, 2**31, channels),
        generator.integers(-9, -6, channels),
        -generator.integers(width // 2, width, channels),
        generator.integers(width // 2, width, channels),
    )


# ------------------------------------------------------------------------------------- the reference


@given(
    multiplier=st.integers(0, 2**31 - 1),
    shift=st.integers(-31, 8),
    zero_point=zero_points,
    activation=activations(),
    accumulators=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20),
)
def test_reference_is_that_of_fixedpoint(
    multiplier: int, shift: int, zero_point: int, activation: Activation, accumulators: list[int]
) -> None:
    lo, hi = min(accumulators), max(accumulators)
    wanted = reference(multiplier, shift, lo, hi, zero_point=zero_point, activation=activation)
    left = max(shift, 0)
    wraps = any(wrap_int32(a << left) != a << left for a in (lo, hi))
    if not wraps:
        rescaled = [requantize(a, multiplier, shift) + zero_point for a in (lo, hi)]
        wraps = any(wrap_int32(r) != r for r in rescaled)
    assert wanted.monotone[0] == (not wraps)
    if not wraps:
        got = wanted.at(np.array([accumulators], np.int64))[0].tolist()
        assert got == [expected(wanted, 0, a) for a in accumulators]


@given(
    multiplier=st.integers(0, 2**31 - 1) | st.integers(0, 5),
    shift=st.integers(-31, 5),
    zero_point=zero_points,
    activation=activations(),
    lo=st.integers(-(2**31), 2**31 - 1) | st.integers(-300_000, 0),
    width=st.integers(0, 2**31) | st.integers(0, 300_000),
)
@settings(max_examples=300)
def test_steps_are_where_the_reference_steps(
    multiplier: int, shift: int, zero_point: int, activation: Activation, lo: int, width: int
) -> None:
    hi = min(lo + width, 2**31 - 1)
    wanted = reference(multiplier, shift, lo, hi, zero_point=zero_point, activation=activation)
    assume(bool(wanted.monotone[0]))
    for output, step in zip(OUTPUTS.tolist(), wanted.steps[0].tolist(), strict=True):
        assert lo <= step <= hi + 1
        assert step == hi + 1 or expected(wanted, 0, step) >= output
        assert step == lo or expected(wanted, 0, step - 1) < output


def test_a_reference_must_be_sound() -> None:
    with pytest.raises(ValueError, match="lo is over hi"):
        reference(2**30, -8, 5, 4)
    with pytest.raises(ValueError, match="different lengths"):
        Reference(np.ones(2), np.ones(2), 0, RELU, np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match="a shift"):
        reference(2**30, -32, 0, 4)
    with pytest.raises(ValueError, match="a multiplier"):
        reference(2**31, -8, 0, 4)


# ---------------------------------------------------------------------------------------- what fits


@pytest.mark.parametrize("allow_delta", [False, True])
def test_a_layer_with_relu_fits(allow_delta: bool) -> None:
    wanted = layer(24, 1)
    short = short_scaling(wanted, 8, allow_delta=allow_delta)
    assert short is not None
    assert short.plain
    assert (short.left == 8).all()
    assert proves(short, wanted).all()
    check(short, wanted)


@pytest.mark.parametrize("seed", range(4))
def test_every_accumulator_of_small_ranges(seed: int) -> None:
    generator = np.random.default_rng(seed)
    wanted = reference(
        generator.integers(2**30, 2**31, 8), generator.integers(-3, 0, 8), generator.integers(-900, 0, 8), 900
    )
    short = short_scaling(wanted, 0, most_left=14, allow_delta=True)
    assert short is not None
    check(short, wanted)


@pytest.mark.parametrize("seed", range(4))
def test_a_linear_output_needs_a_displacement(seed: int) -> None:
    wanted = replace(layer(4, seed, width=30_000), zero_point=-3)
    assert short_scaling(wanted, 12, allow_delta=True) is None
    short = short_scaling(wanted, 12, allow_delta=True, allow_displacement=True)
    assert short is not None
    assert not short.plain
    check(short, wanted)


def test_the_left_shift_is_chosen_where_the_kernel_leaves_it_open() -> None:
    wanted = layer(16, 2)
    most = np.full(16, 10)
    short = short_scaling(wanted, 0, most_left=most, shifts=(15,))
    assert short is not None
    # Channels whose factor is smaller by powers of two are shifted less.
    assert len(set(short.left.tolist())) > 1
    assert (short.left <= most).all()
    check(short, wanted)


def test_shifts_are_tried_in_order_and_no_others() -> None:
    wanted = layer(8, 3)
    for shifts in [(13,), (12, 13), (31, 12)]:
        short = short_scaling(wanted, 8, shifts=shifts)
        assert short is not None
        assert short.shift == next(s for s in shifts if s < 20)
    assert short_scaling(wanted, 8, shifts=()) is None
    assert short_scaling(wanted, 8, shifts=(25, 0, 40)) is None


def test_delta_makes_fit_what_else_does_not() -> None:
    """A small factor leaves no addend between two neighbours."""
    fits = [
        [short_scaling(layer(4, seed), 8, shifts=(8,), allow_delta=allowed) for seed in range(8)]
        for allowed in (False, True)
    ]
    assert sum(s is not None for s in fits[1]) > sum(s is not None for s in fits[0])
    for seed, short in enumerate(fits[1]):
        if short is not None:
            check(short, layer(4, seed))


@pytest.mark.parametrize("zero_point", [-128, -5, 0, 127])
@pytest.mark.parametrize("accumulator", [0, 77, -2000, 2**30, -(2**31), 2**31 - 1])
def test_constant_channels(zero_point: int, accumulator: int) -> None:
    """They do not even mind that the left shift wraps; a multiplier of 0 is one of them."""
    wanted = reference(
        [2**30, 0, 2**31 - 1], [-28, 0, -31], [accumulator, -1000, -5], [accumulator, 1000, 5], zero_point=zero_point
    )
    short = short_scaling(wanted, 8)
    assert short is not None
    assert not short.multiplier.any()
    check(short, wanted)


def test_a_clamp_within_the_bytes_fits_where_nothing_is_clamped_there() -> None:
    within = reference(2**30, -8, -20_000, 20_000, zero_point=-128, activation=Activation(-128, 100))
    short = short_scaling(within, 8)
    assert short is not None
    check(short, within)
    assert short_scaling(replace(within, hi=np.array([200_000])), 8, allow_delta=True) is None


def test_no_fit_where_the_reference_wraps() -> None:
    fits = reference(2**30, 8, -(2**20), 2**20)
    short = short_scaling(fits, 10)
    assert short is not None
    check(short, fits)
    for wraps in [
        reference(2**30, 30, 1, 2),
        reference(2**30, 8, -(2**23) - 1, -(2**23)),
        reference(2**31 - 1, 0, 2**31 - 2, 2**31 - 1, zero_point=2),
        reference(2**30, -8, -(2**31) - 1, 5),
        reference(0, 0, 0, 2**31),
    ]:
        assert not wraps.monotone.any()
        assert short_scaling(wraps, 0, most_left=14) is None


def test_no_fit_where_the_left_shift_wraps() -> None:
    assert short_scaling(reference(2**30, -15, -5, 2**23 - 1), 8) is not None
    assert short_scaling(reference(2**30, -15, -5, 2**23), 8) is None


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_whatever_is_found_is_right(data: st.DataObject) -> None:
    channels = data.draw(st.integers(1, 3))

    def draw(numbers: st.SearchStrategy[int]) -> NDArray[np.int64]:
        return np.array(data.draw(st.lists(numbers, min_size=channels, max_size=channels)), np.int64)

    shift = draw(st.integers(-12, -4) | st.integers(-31, 6))
    lo = draw(st.integers(-(2**20), 2**20) | st.integers(-(2**31), 2**31 - 1))
    wanted = reference(
        draw(st.integers(2**30, 2**31 - 1) | st.integers(0, 2**31 - 1)),
        shift,
        lo,
        np.minimum(lo + draw(st.integers(0, 2**21) | st.integers(0, 2**31)), 2**31 - 1),
        zero_point=data.draw(zero_points),
        activation=data.draw(activations()),
    )
    left = data.draw(st.integers(0, 10))
    short = short_scaling(
        wanted,
        left,
        most_left=data.draw(st.none() | st.integers(left, 14)),
        allow_delta=data.draw(st.booleans()),
        allow_displacement=data.draw(st.booleans()),
    )
    if short is not None:
        check(short, wanted)


# ---------------------------------------------------------------------------------------- the proof


@pytest.mark.parametrize("linear", [False, True])
def test_wrong_numbers_are_refused(linear: bool) -> None:
    """Each one by itself, in the channel where it stands and in no other."""
    wanted = layer(3, 5, width=30_000)
    if linear:
        wanted = replace(wanted, zero_point=4)
    short = short_scaling(wanted, 12, allow_delta=True, allow_displacement=linear)
    assert short is not None
    assert proves(short, wanted).all()
    accumulator = (short.multiplier.astype(np.int64) << 12) >> 32  # in units of the addend
    for name, wrong in [
        ("addend", accumulator[1] + 1),
        ("addend", -accumulator[1] - 1),
        ("addend", 2**31 - 1 - short.addend[1]),
        ("addend", -(2**31) - int(short.addend[1])),
        ("multiplier", short.multiplier[1] // 1000),
        ("multiplier", -(short.multiplier[1] // 1000)),
        ("multiplier", -2 * int(short.multiplier[1])),
        ("delta", 1 << 13),
        ("delta", -(1 << 13)),
        ("left", 1),
        ("left", -13),
        ("displacement", 1 << 13 if linear else 2**31 - 1),
        ("displacement", -1 - int(short.displacement[1])),
    ]:
        values = getattr(short, name).copy()
        values[1] = int(values[1]) + int(wrong)
        assert proves(replace(short, **{name: values}), wanted).tolist() == [True, False, True], name
    for shift in (0, 32, short.shift + 1, short.shift - 1):
        assert not proves(replace(short, shift=shift), wanted).any()


def test_a_proof_holds_for_its_range_alone() -> None:
    wanted = reference(2**30 + 12345, -8, -100, 20_000, zero_point=-128)
    short = short_scaling(wanted, 8, shifts=(8,), allow_delta=True)
    assert short is not None
    assert proves(short, wanted).all()
    assert not proves(short, replace(wanted, hi=np.array([2**30]))).any()
    assert not proves(short, replace(wanted, zero_point=-127)).any()
    assert not proves(short, replace(wanted, activation=Activation(-128, -100))).any()


def test_the_proof_does_not_trust_the_steps() -> None:
    wanted = reference(2**30, -8, -20_000, 20_000)
    short = short_scaling(wanted, 8)
    assert short is not None
    for wrong in (1, -1):
        lied = replace(wanted)
        lied.__dict__["steps"] = wanted.steps + wrong * (np.arange(len(OUTPUTS)) == 30)
        assert not proves(short, lied).any()


def test_the_proof_asks_the_reference_itself() -> None:
    """Numbers that are right for other steps than the reference's do not pass with those steps."""
    wanted = reference(2**30, -8, -20_000, 20_000)
    for wrong in (-(2**24), 2**24):
        other = replace(wanted, multiplier=wanted.multiplier + wrong)
        short = short_scaling(other, 8)
        assert short is not None
        lied = replace(wanted)
        lied.__dict__["steps"] = other.steps
        assert not proves(short, lied).any()


@pytest.mark.parametrize(
    ("output", "wrong"),
    [
        (127, {"multiplier": 2**30, "addend": 2**31 - 10}),  # the sum overflows
        (-128, {"addend": -(2**31) + 10}),  # the signed addend does
        (-128, {"multiplier": 2**30, "addend": -(2**31) + (128 << 8) + 10}),  # the signed sum
        (5, {"displacement": 1, "delta": 16}),  # delta changes a sign
        (5, {"displacement": 1, "delta": -1}),
        (5, {"multiplier": -1}),
    ],
)
def test_what_gives_the_right_byte_and_overflows_is_refused(output: int, wrong: dict[str, int]) -> None:
    wanted = reference(0, 0, -1000, 1000, zero_point=output)
    short = short_scaling(wanted, 4, shifts=(8,))
    assert short is not None
    assert proves(short, wanted).all()
    values: dict[str, Any] = {name: np.array([value], np.int32) for name, value in wrong.items()}
    bad = replace(short, **values)
    # With no more than 64 bits in mind nothing is wrong.
    assert (bad.at(np.array([[-1000, 1000]])) == output).all()
    assert not proves(bad, wanted).any()


def test_a_reference_that_wraps_is_refused() -> None:
    wraps = reference(2**31 - 1, 0, 2**31 - 2, 2**31 - 1, zero_point=2)
    constant = short_scaling(reference(0, 0, 0, 1, zero_point=127), 0)
    assert constant is not None
    assert not proves(constant, wraps).any()


def test_a_displacement_must_not_overflow() -> None:
    wanted = reference(2**30 + 99, -12, -(2**19) + 3, 30_000, zero_point=0)
    assert short_scaling(wanted, 12, allow_displacement=True, allow_delta=True) is not None
    assert short_scaling(replace(wanted, lo=wanted.lo - 3), 12, allow_displacement=True, allow_delta=True) is None


@given(
    multiplier=st.integers(2**30, 2**31 - 1),
    shift=st.integers(-5, -1),
    zero_point=zero_points,
    lo=st.integers(-1500, 200),
    errors=st.tuples(st.integers(-300_000, 300_000), st.integers(-1000, 1000), st.integers(0, 10)),
)
@settings(max_examples=100, deadline=None)
def test_the_proof_is_right_about_wrong_numbers(
    multiplier: int, shift: int, zero_point: int, lo: int, errors: tuple[int, int, int]
) -> None:
    """Over a small range it is known what is equal: the proof finds just that."""
    wanted = reference(multiplier, shift, lo, lo + 1500, zero_point=zero_point)
    wide = short_scaling(reference(multiplier, shift, lo, lo + 1500), 12, allow_delta=True)
    assume(wide is not None)
    assert wide is not None
    moved = np.int32((zero_point + 128) << wide.shift)
    short = replace(
        wide,
        multiplier=np.clip(wide.multiplier.astype(np.int64) + errors[0], 0, 2**31 - 1).astype(np.int32),
        addend=wide.addend + moved + np.int32(errors[1]),
        displacement=wide.displacement + np.int32(errors[2] << 10),
    )
    accumulators = np.arange(lo, lo + 1501)[None]
    equal = bool((short.at(accumulators) == wanted.at(accumulators)).all())
    sums = short.sums(accumulators)
    assume(bool((np.abs(sums) < 2**30).all()))
    assume((short.displacement == 0).all() or ((short.delta >= 0) & (short.delta < 1 << 12)).all())
    assert bool(proves(short, wanted)[0]) == equal


# ------------------------------------------------------------------------------------------ helpers


def test_accumulator_range_is_reached_and_not_left() -> None:
    generator = np.random.default_rng(7)
    weights = generator.integers(-127, 128, (5, 3))
    bias = generator.integers(-1000, 1000, 5)
    inputs = np.stack(np.meshgrid(*[[-3, 0, 10]] * 3), axis=-1).reshape(-1, 3)
    sums = inputs @ weights.T + bias
    lo, hi = accumulator_range(weights.astype(np.int8), bias.astype(np.int32), -3, 10)
    assert lo.tolist() == sums.min(axis=0).tolist()
    assert hi.tolist() == sums.max(axis=0).tolist()


def test_largest_left_keeps_weights_within_their_bits() -> None:
    weights = np.array([[127, -127], [1, 0], [-128, 3], [-1, 0], [0, 0], [255, -255]])
    left = largest_left(weights)
    assert left.tolist() == [8, 14, 8, 14, 14, 7]
    shifted = weights << left[:, None]
    assert (shifted >= -(2**15)).all()
    assert (shifted < 2**15).all()
    assert largest_left(weights, bits=8).tolist() == [0, 6, 0, 6, 6, -1]
