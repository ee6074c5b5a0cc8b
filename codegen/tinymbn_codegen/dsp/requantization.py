"""Finds the numbers of the short requantisation, see ``short_form``, or that there are none.

For accumulators of one sign the reference is a straight line, cut off at whole outputs. So the short form's multiplier
is the reference's own, shifted, or a neighbour, and each step bounds the addend from one side. What fits least is a
channel with many steps: together they leave the line but a hundredth of an accumulator to lie in. A larger shift has
finer addends, and delta is finer still.

At zero the line has a kink: ties go away from zero, which moves the steps of negative accumulators up by ``2**31 /
multiplier``, between one and two accumulators. Behind a ReLU no output lies there. A linear output needs a displacement
of just that size; a whole accumulator, which would cost less, does not fit layers of real models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import INT32_MAX
from tinymbn_codegen.dsp.short_form import (
    INT32_MIN,
    OUTPUTS,
    STORED_ZERO,
    Int64s,
    Reference,
    ShortScaling,
    proves,
)

_NEIGHBOURS = (0, 1, -1, 2, -2, 3, -3, 4, -4, 6, -6, 8, -8)  # of the rounded multiplier: which are tried
_MORE_LEFT = (0, 3, 6)  # left shifts beyond what is needed: delta becomes finer, the multiplier coarser
_SHIFTS = 6  # how many are tried below the largest; smaller ones are coarser
_SAMPLE = 8  # channels that are asked first
_NO_BOUND = np.int64(2**40)


def accumulator_range(
    weights: NDArray[Any], bias_effective: NDArray[Any], low: int, high: int
) -> tuple[Int64s, Int64s]:
    """The least and the greatest accumulator of each channel.

    Args:
        weights: (C, n).
        bias_effective: (C,), the bias and whatever zero points were folded into it.
        low: the least input, as it is multiplied.
        high: the greatest.
    """
    weights, bias = weights.astype(np.int64), bias_effective.astype(np.int64)
    positive, negative = np.maximum(weights, 0).sum(axis=1), np.minimum(weights, 0).sum(axis=1)
    return bias + positive * low + negative * high, bias + positive * high + negative * low


def largest_left(weights: NDArray[Any], bits: int = 16) -> Int64s:
    """How far the weights (C, n) of each channel can be shifted to the left and stay integers of so many bits, (C,)."""
    weights = weights.astype(np.int64)
    return _room(weights.min(axis=1), weights.max(axis=1), bits)


def short_scaling(
    reference: Reference,
    left: NDArray[Any] | int,
    *,
    most_left: NDArray[Any] | int | None = None,
    shifts: Sequence[int] | None = None,
    allow_delta: bool = False,
    allow_displacement: bool = False,
) -> ShortScaling | None:
    """The short form of a layer, proven; None if none was found.

    It has a displacement only if there is none without.

    Args:
        reference: what it must equal.
        left: the left shift of each channel, or of all.
        most_left: where the kernel leaves the left shift open, from ``left`` up to this.
        shifts: the values of ``shift`` to try, in this order; by default the largest, and some below.
        allow_delta: the kernel can add to the shifted accumulator.
        allow_displacement: the kernel can subtract a number of each channel's where the accumulator is negative.
    """
    if not reference.monotone.all():
        return None
    channels = len(reference.lo)
    least = np.broadcast_to(np.asarray(left, np.int64), channels)
    most = least if most_left is None else np.broadcast_to(np.asarray(most_left, np.int64), channels)
    # A constant is multiplied by 0, and may wrap.
    most = np.where(reference.constant, most, np.minimum(most, _room(reference.lo, reference.hi, 32)))
    if (most < least).any():
        return None
    for displaced in (False, True) if allow_displacement else (False,):
        search = _Search(reference, least, most, allow_delta, displaced)
        found = search.run(shifts)
        if found is not None:
            return found
    return None


@dataclass(frozen=True, eq=False)
class _Search:
    """What is looked for: ``short_scaling``, with or without displacements."""

    reference: Reference
    least: Int64s  # left shift, (C,)
    most: Int64s
    allow_delta: bool
    displaced: bool

    def run(self, shifts: Sequence[int] | None) -> ShortScaling | None:
        """The first shift at which every channel is proven."""
        varying = np.flatnonzero(~self.reference.constant)
        largest = self._largest_shift(varying)
        # All channels or none: so those are asked first that failed before, and at the beginning any few.
        first = varying[:: max(1, len(varying) // _SAMPLE)][:_SAMPLE]
        for shift in range(largest, max(largest - _SHIFTS, 0), -1) if shifts is None else shifts:
            if not 1 <= shift <= largest or len(self.of(first).numbers(shift)[1]):
                continue
            found, missing = self.numbers(shift)
            if not len(missing):
                missing = np.flatnonzero(~proves(found, self.reference))
                if not len(missing):
                    return found
            first = np.union1d(first, missing[:_SAMPLE])
        return None

    def of(self, channels: Int64s) -> _Search:
        """The same for some channels."""
        part = self.reference.of(channels)
        return replace(self, reference=part, least=self.least[channels], most=self.most[channels])

    @property
    def _natural_shift(self) -> Int64s:
        """The shift at which the multiplier has 31 bits if there is no left shift."""
        shift: Int64s = 30 - _bits(self.reference.multiplier) - self.reference.shift
        return shift

    def _largest_shift(self, varying: Int64s) -> int:
        """That at which a multiplier needs all its 31 bits, or an output, before it is clamped, all 32."""
        ends = np.stack([self.reference.lo, self.reference.hi], axis=1)
        farthest = _bits(np.abs(self.reference.unclamped(ends)).max(axis=1) + 2 * STORED_ZERO)
        return int(np.minimum(self._natural_shift + self.most, 31 - farthest)[varying].min(initial=23))

    def numbers(self, shift: int) -> tuple[ShortScaling, Int64s]:
        """Numbers for one shift, not yet proven, and the channels for which there are none."""
        constant = self.reference.constant
        needed = np.clip(shift - self._natural_shift, self.least, self.most)
        left, multiplier, addend, delta, displacement = (needed.copy() for _ in range(5))
        pending = np.arange(len(left))
        more_left = _MORE_LEFT if self.allow_delta and (needed < self.most).any() else (0,)
        for more, neighbour in product(more_left, _NEIGHBOURS):
            left[pending] = np.minimum(needed + more, self.most)[pending]
            displacement[pending] = self._displacement(left)[pending]
            tried = np.clip(
                _shifted(self.reference.multiplier, shift + 1 + self.reference.shift - left) + neighbour, 1, INT32_MAX
            )
            multiplier[pending], addend[pending], delta[pending] = np.where(constant, 0, tried)[pending], 0, 0
            part = self.reference if len(pending) == len(left) else self.reference.of(pending)
            trial = _scaling(shift, left, multiplier, addend, delta, displacement).of(pending)
            addend[pending], delta[pending], fits = _addend(part, trial, self.allow_delta)
            pending = pending[~fits]
            if not len(pending):
                break
        return _scaling(shift, left, multiplier, addend, delta, displacement), pending

    def _displacement(self, left: Int64s) -> Int64s:
        """How far the kink at zero moves negative accumulators that are shifted to the left."""
        if not self.displaced:
            return np.zeros_like(left)
        factor = np.maximum(self.reference.multiplier, 1)
        kink = ((1 << (31 + left)) + factor // 2) // factor
        # Without a second rounding there is none.
        return np.where((self.reference.shift < 0) & (self.reference.lo < 0), np.minimum(kink, INT32_MAX), 0)


def _addend(reference: Reference, trial: ShortScaling, allow_delta: bool) -> tuple[Int64s, Int64s, NDArray[np.bool_]]:
    """Addend and delta of each channel, for a trial in which both are 0, and whether they meet every step."""
    steps, lo, hi = reference.steps, reference.lo[:, None], reference.hi[:, None]
    due = (OUTPUTS + STORED_ZERO) << trial.shift
    at, before = np.minimum(steps, hi), np.maximum(steps - 1, lo)
    least = np.where(steps <= hi, due - trial.sums(at), -_NO_BOUND).max(axis=1)
    greatest = np.where(steps > lo, due - 1 - trial.sums(before), _NO_BOUND).min(axis=1)
    # Neither of the two stored forms may overflow.
    ends = trial.sums(np.stack([reference.lo, reference.hi], axis=1))
    least = np.maximum(least, INT32_MIN + (STORED_ZERO << trial.shift) - np.minimum(ends[:, 0], 0))
    greatest = np.minimum(greatest, INT32_MAX - np.maximum(ends[:, 1], 0))
    # A constant is bounded from both sides, for the sake of a number that can be read.
    stored = (reference.at(lo)[:, 0] + STORED_ZERO) << trial.shift
    least = np.where(reference.constant, np.maximum(least, stored), least)
    greatest = np.where(reference.constant, np.minimum(greatest, stored + (1 << trial.shift) - 1), greatest)
    addend, delta, fits = (least + greatest) >> 1, np.zeros_like(least), least <= greatest
    if not allow_delta or fits.all():
        return np.clip(addend, INT32_MIN, INT32_MAX), delta, fits
    # Between two addends: what the shifted accumulator must reach, and must not reach, for each output.
    addend = np.clip(addend, INT32_MIN, INT32_MAX)
    missing = np.clip(due - addend[:, None], INT32_MIN + 1, INT32_MAX) << 32
    reached = -(-missing // np.maximum(trial.multiplier, 1)[:, None])
    least = np.where(steps <= hi, reached - trial.shifted(at), -_NO_BOUND).max(axis=1)
    greatest = np.where(steps > lo, reached - 1 - trial.shifted(before), _NO_BOUND).min(axis=1)
    # The sign of the accumulator must stay where it is tested, see ``ShortScaling.displacement``.
    displaced = trial.displacement != 0
    least = np.where(displaced, np.maximum(least, 0), np.maximum(least, INT32_MIN))
    greatest = np.minimum(greatest, np.where(displaced, (1 << trial.left.astype(np.int64)) - 1, INT32_MAX))
    found = ~fits & (least <= greatest)
    return addend, np.where(found, (least + greatest) >> 1, 0), fits | found


def _shifted(values: Int64s, exponent: Int64s) -> Int64s:
    """``values * 2**exponent``, rounded."""
    down = np.clip(-exponent, 0, 40)
    return ((values << np.clip(exponent, 0, 31)) + ((1 << down) >> 1)) >> down


def _scaling(shift: int, *arrays: Int64s) -> ShortScaling:
    return ShortScaling(shift, *(np.clip(array, INT32_MIN, INT32_MAX).astype(np.int32) for array in arrays))


def _bits(values: Int64s) -> Int64s:
    """``int.bit_length`` of numbers in [0, 2**53)."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def _room(low: Int64s, high: Int64s, bits: int) -> Int64s:
    """How far numbers in [low, high] can be shifted to the left as integers of so many bits, negative if at all."""
    return np.minimum(bits - 1 - _bits(np.maximum(np.maximum(high, -1 - low), 0)), bits - 2)
