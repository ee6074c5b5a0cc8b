"""The requantisation of a layer in three instructions, and the proof that it is the reference's.

The reference rounds twice, adds the zero point and clamps. The short form, for one channel, is

    x = (accumulator << left) + delta - (displacement if accumulator < 0)
    y = (addend + (x * multiplier >> 32)) >> shift              smmla; the shift is part of the saturation
    stored = min(max(y, 0), 255)                                usat: the output + 128, as planar rows have it

or with ``addend - (128 << shift)`` and ssat the output itself. ``shift`` is an immediate, one for the layer.

Both forms are monotone in the accumulator, so they are equal over a range if for each output q they reach q at the same
accumulator: there are at most 255 such steps, and each is tested at its accumulator and at the one before. The steps
come from a formula; the proof does not trust it but asks the reference at both places, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import INT32_MAX
from tinymbn.layers import Activation

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]

INT32_MIN = -INT32_MAX - 1
OUTPUTS = np.arange(-127, 128, dtype=np.int64)  # those that are a step up from the one before
STORED_ZERO = 128  # how stored bytes are above outputs


@dataclass(frozen=True, eq=False)
class Reference:
    """The requantisation of a layer, as ``tinymbn.fixedpoint`` has it, and the accumulators it meets.

    Attributes:
        multiplier: Q31, in [0, 2**31), (C,).
        shift: in [-31, 30], positive is left, (C,).
        zero_point: of the output.
        activation: the clamp of the output.
        lo: the least accumulator of each channel, (C,).
        hi: the greatest; see ``accumulator_range``.
    """

    multiplier: NDArray[Any]
    shift: NDArray[Any]
    zero_point: int
    activation: Activation
    lo: NDArray[Any]
    hi: NDArray[Any]

    def __post_init__(self) -> None:
        for name in ("multiplier", "shift", "lo", "hi"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.int64))
        shapes = {getattr(self, name).shape for name in ("multiplier", "shift", "lo", "hi")}
        if len(shapes) != 1 or len(shapes.pop()) != 1:
            raise ValueError("multiplier, shift, lo and hi have different lengths")
        if (self.multiplier < 0).any() or (self.multiplier > INT32_MAX).any():
            raise ValueError("a multiplier is not in [0, 2**31)")
        if (self.shift < -31).any() or (self.shift > 30).any():
            raise ValueError("a shift is not in [-31, 30]")
        if (self.lo > self.hi).any():
            raise ValueError("a channel has no accumulators: lo is over hi")

    def at(self, accumulators: Int64s) -> Int64s:
        """The outputs, for accumulators (C, n) that do not overflow, see ``monotone``."""
        return np.clip(self.unclamped(accumulators), self.activation.low, self.activation.high)

    def unclamped(self, accumulators: Int64s) -> Int64s:
        """The outputs before the clamp, which may be any int32."""
        multiplier, shift = self.multiplier[:, None], self.shift[:, None]
        right = np.maximum(-shift, 0)
        high = ((accumulators << np.maximum(shift, 0)) * multiplier + (1 << 30)) >> 31
        rounded: Int64s = (high + ((1 << right) >> 1) - ((high < 0) & (right > 0))) >> right
        return rounded + self.zero_point

    @cached_property
    def monotone(self) -> NDArray[np.bool_]:
        """Whether no int32 of the reference wraps, for any accumulator of the channel, (C,)."""
        ends = np.stack([self.lo, self.hi], axis=1)
        sound = _is_int32(ends)
        # Beyond an int32 the reference is of no interest, but its product must fit 64 bits.
        ends = np.clip(ends, INT32_MIN, INT32_MAX) << np.maximum(self.shift, 0)[:, None]
        sound &= _is_int32(ends)
        ends = np.clip(ends, INT32_MIN, INT32_MAX) >> np.maximum(self.shift, 0)[:, None]
        return np.asarray((sound & _is_int32(self.unclamped(ends))).all(axis=1))

    @cached_property
    def steps(self) -> Int64s:
        """The least accumulator that reaches each output -127, ..., 127, (C, 255); lo if all do, hi + 1 if none does.

        Only for layers that are ``monotone``.
        """
        first, last = self.at(self.lo[:, None]), self.at(self.hi[:, None])
        right = np.maximum(-self.shift, 0)[:, None]
        above_zero = OUTPUTS - self.zero_point
        # The least result of the first rounding that the second one rounds to this output: its ties go away from zero.
        least = (above_zero << right) - ((1 << right) >> 1) + ((above_zero <= 0) & (right > 0))
        # What is clipped is not reached: the first rounding gives an int32.
        products = (np.clip(least, INT32_MIN, INT32_MAX) << 31) - (1 << 30)
        reached = -(-products // np.maximum(self.multiplier, 1)[:, None])
        reached = -(-reached >> np.maximum(self.shift, 0)[:, None])
        return np.where(first >= OUTPUTS, self.lo[:, None], np.where(last < OUTPUTS, self.hi[:, None] + 1, reached))

    @cached_property
    def constant(self) -> NDArray[np.bool_]:
        """Whether a channel has but one output, (C,)."""
        ends = self.at(np.stack([self.lo, self.hi], axis=1))
        return np.asarray(ends[:, 0] == ends[:, 1])

    def of(self, channels: Int64s) -> Reference:
        """The same for some channels."""
        part = replace(
            self,
            multiplier=self.multiplier[channels],
            shift=self.shift[channels],
            lo=self.lo[channels],
            hi=self.hi[channels],
        )
        part.__dict__["steps"] = self.steps[channels]
        return part


@dataclass(frozen=True, eq=False)
class ShortScaling:
    """The short form of a layer; every array is int32, (C,).

    Attributes:
        shift: the right shift of the saturation, 1 to 31.
        left: how far accumulators are shifted to the left first.
        multiplier: of the high product, in [0, 2**31); 0 where the channel is constant.
        addend: of the high product, for stored bytes of the output + 128; ``signed_addend`` for the output itself.
        delta: what is added after the left shift, part of the shifted bias; 0 unless it was allowed.
        displacement: what is subtracted after the left shift where the accumulator is negative. With or without delta
            the sign is the same, so that it may be tested after the shift.
    """

    shift: int
    left: Int32s
    multiplier: Int32s
    addend: Int32s
    delta: Int32s
    displacement: Int32s

    @property
    def signed_addend(self) -> Int32s:
        """The addend for stored bytes that are the output itself."""
        return (self.addend.astype(np.int64) - (STORED_ZERO << self.shift)).astype(np.int32)

    @property
    def plain(self) -> bool:
        """Whether nothing happens at zero."""
        return not self.displacement.any()

    def shifted(self, accumulators: Int64s) -> Int64s:
        """The first operand of the high product, for accumulators (C, n)."""
        x: Int64s = (accumulators << self.left[:, None].astype(np.int64)) + self.delta[:, None]
        return x - np.where(accumulators < 0, self.displacement[:, None], 0)

    def sums(self, accumulators: Int64s) -> Int64s:
        """Addend and high product, for accumulators (C, n)."""
        product: Int64s = self.shifted(accumulators) * self.multiplier[:, None] >> 32
        return product + self.addend[:, None]

    def at(self, accumulators: Int64s) -> Int64s:
        """The outputs, for accumulators (C, n)."""
        stored: Int64s = np.clip(self.sums(accumulators) >> self.shift, 0, 255)
        return stored - STORED_ZERO

    def of(self, channels: Int64s) -> ShortScaling:
        """The same for some channels."""
        arrays = (self.left, self.multiplier, self.addend, self.delta, self.displacement)
        return ShortScaling(self.shift, *(array[channels] for array in arrays))


def proves(scaling: ShortScaling, reference: Reference) -> NDArray[np.bool_]:
    """For which channels the short form equals the reference at every accumulator, and overflows nowhere, (C,)."""
    if not 1 <= scaling.shift <= 31:
        return np.zeros(len(reference.lo), np.bool_)
    ends = np.stack([reference.lo, reference.hi], axis=1)
    # Monotone: a range has its extremes at its ends.
    sound = reference.monotone & (scaling.multiplier >= 0) & (scaling.left >= 0) & (scaling.left <= 31)
    # What wraps does no harm where it is multiplied by 0.
    wraps = ~_is_int32(np.where(sound[:, None], scaling.shifted(ends), 0)).all(axis=1)
    sound &= (scaling.displacement >= 0) & ((scaling.multiplier == 0) | ~wraps)
    sound &= (scaling.displacement == 0) | ((scaling.delta >= 0) & (scaling.delta >> scaling.left == 0))
    if not sound.any():
        return sound
    kept = np.flatnonzero(sound)
    part, short = reference.of(kept), scaling.of(kept)
    sums = short.sums(ends[kept])
    signed = np.stack([short.addend.astype(np.int64), sums[:, 0]], axis=1) - (STORED_ZERO << short.shift)
    proven = _is_int32(sums).all(axis=1) & _is_int32(signed).all(axis=1)
    steps, lo, hi = part.steps, part.lo[:, None], part.hi[:, None]
    at, before = np.minimum(steps, hi), np.maximum(steps - 1, lo)
    for form in (part, short):
        proven &= ((form.at(at) >= OUTPUTS) | (steps > hi)).all(axis=1)
        proven &= ((form.at(before) < OUTPUTS) | (steps <= lo)).all(axis=1)
    sound[kept] = proven
    return sound


def _is_int32(values: Int64s) -> NDArray[np.bool_]:
    return (values >= INT32_MIN) & (values <= INT32_MAX)
