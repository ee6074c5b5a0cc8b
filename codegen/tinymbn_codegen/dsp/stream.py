"""What the tiles of a convolution read from flash, in the order in which they read it, and how sums become bytes.

For each two output channels there are two biases, the weights (see ``tile``) and the numbers of the requantisation.
Zero points are in biases and weights already. Which weights and which requantisation are possible depends on the
values; the first that is proven is taken:

* ``short``: three instructions, see ``requantization``. Sums arrive shifted to the left, by 8 for packed weights and by
  whatever the weights have room for if they are wide.
* ``exact``: the reference's two roundings; ``smmulr`` of a doubled sum is the first one. Right shifts alone.
* ``general``: the reference's functions, for all numbers there are.

Packed weights take half the flash, and have three limits: 8 bits each; no -128 of channel B above a negative weight of
channel A; and sums of channel B of 24 bits, since what is left of them is ``256 * B``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tinymbn.layers import Activation, Weights
from tinymbn_codegen.dsp.requantization import accumulator_range, largest_left, short_scaling
from tinymbn_codegen.dsp.short_form import Reference, ShortScaling
from tinymbn_codegen.kernel_code import as_int32

Form = Literal["short", "exact", "general"]

_PACKED_LEFT = 8
# Wide weights save eight instructions a tile, which is worth their flash where a tile or a layer has few words.
_WIDE_WORDS = 8
_WIDE_WORDS_FAST = 16  # where speed matters most
_WIDE_BYTES = 1024
# Outputs below the zero point for which a short form might still be found.
_BELOW_ZERO = 4
# Bits of a right shift up to which no sum of the exact form leaves an int32.
_MOST_RIGHT = 22


@dataclass(frozen=True, eq=False)
class Sums:
    """What tiles add up, and what becomes of it.

    Attributes:
        low: what the low halfword of each word of inputs is multiplied with, int64, (C_out, words).
        high: the same for the high halfword.
        inputs: the least and the greatest halfword of inputs.
        bias: with the input's zero point folded in, int64, (C_out,).
        multiplier: of the requantisation, (C_out,).
        shift: of the requantisation, (C_out,).
        zero_point: of the output.
        activation: of the output.
        stored_zero: what is added to outputs where they are stored: 128 in planes, else 0.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    inputs: tuple[int, int]
    bias: NDArray[np.int64]
    multiplier: NDArray[Any]
    shift: NDArray[Any]
    zero_point: int
    activation: Activation
    stored_zero: int


@dataclass(frozen=True, eq=False)
class Stream:
    """Constants, and what is done with them.

    Attributes:
        values: int32, (pairs of output channels, words).
        wide: the weights are.
        form: of the requantisation.
        shift: the right shift of the short form, else 0.
        delta: the short form adds a number to the sums of channel A.
        tail: words of the requantisation.
    """

    values: NDArray[np.int32]
    wide: bool
    form: Form
    shift: int
    delta: bool
    tail: int


def sums_of(
    low: NDArray[Any],
    high: NDArray[Any],
    weights: Weights,
    *,
    inputs: tuple[int, int],
    input_zero: int,
    zero_point: int,
    activation: Activation,
    stored_zero: int,
) -> Sums:
    """The sums of a layer.

    Args:
        low: weights without their zero point, (C_out, words), as in ``Sums``.
        high: the same.
        weights: of the layer.
        inputs: the least and the greatest halfword.
        input_zero: the halfword that stands for 0.
        zero_point: of the output.
        activation: of the output.
        stored_zero: as in ``Sums``.
    """
    low, high = low.astype(np.int64), high.astype(np.int64)
    bias = weights.bias.astype(np.int64) - input_zero * (low.sum(axis=1) + high.sum(axis=1))
    return Sums(low, high, inputs, bias, weights.multiplier, weights.shift, zero_point, activation, stored_zero)


def make_stream(sums: Sums, *, fast: bool) -> Stream:
    """The constants with the cheapest weights and requantisation that are proven; ``fast``: flash matters less."""
    sums = _with_even_channels(sums)
    weights = np.concatenate([sums.low, sums.high], axis=1)
    least, greatest = accumulator_range(weights, sums.bias, *sums.inputs)
    reference = Reference(sums.multiplier, sums.shift, sums.zero_point, sums.activation, least, greatest)
    few = sums.low.shape[1] <= (_WIDE_WORDS_FAST if fast else _WIDE_WORDS)
    wide = few or not _can_be_packed(sums) or 2 * sums.low.size <= _WIDE_BYTES
    scaling = None
    if _may_be_short(reference):
        left, most = (0, largest_left(weights)) if wide else (_PACKED_LEFT, None)
        scaling = short_scaling(reference, left, most_left=most, allow_delta=True)
    if scaling is not None:
        return _short(sums, scaling, wide=wide)
    wide = wide or not _fits(least[1::2], greatest[1::2], 24)
    if reference.monotone.all():
        right_alone = (sums.shift < 0) & (sums.shift >= -_MOST_RIGHT)
        small = (least >= -(2**30)) & (greatest < 2**30)
        if (reference.constant | (right_alone & small)).all():
            return _exact(sums, reference, wide=wide)
    return _general(sums, wide=wide)


def _may_be_short(reference: Reference) -> bool:
    """Whether looking is worth the time: not for outputs well below zero, where ties are rounded the other way."""
    if not reference.monotone.all():
        return False
    least = reference.at(reference.lo[:, None])[:, 0]
    return not bool(((reference.shift < 0) & (least < reference.zero_point - _BELOW_ZERO)).any())


def _with_even_channels(sums: Sums) -> Sums:
    """With a channel of zeros where their number is odd."""
    if len(sums.bias) % 2 == 0:
        return sums

    def with_zeros(array: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([array, np.zeros_like(array[:1])])

    return replace(
        sums,
        low=with_zeros(sums.low),
        high=with_zeros(sums.high),
        bias=with_zeros(sums.bias),
        multiplier=with_zeros(sums.multiplier),
        shift=with_zeros(sums.shift),
    )


def _can_be_packed(sums: Sums) -> bool:
    return all(
        bool((np.abs(2 * values + 1) <= 255).all() and (values[1::2] * 256 + values[::2] >= -(2**15)).all())
        for values in (sums.low, sums.high)
    )


def _fits(least: NDArray[np.int64], greatest: NDArray[np.int64], bits: int) -> bool:
    return bool((least >= -(1 << bits - 1)).all() and (greatest < 1 << bits - 1).all())


def _short(sums: Sums, scaling: ShortScaling, *, wide: bool) -> Stream:
    addend = scaling.addend if sums.stored_zero else scaling.signed_addend
    delta = scaling.delta.astype(np.int64)
    tail: list[NDArray[Any]] = [scaling.multiplier, addend]
    with_delta = not wide and bool(delta[::2].any())
    if wide:
        head = _wide(sums, scaling.left.astype(np.int64), delta)
    else:
        head = _packed(sums, delta)
        tail += [delta] if with_delta else []
    values = _joined(head, tail)
    # Of channel B the bias has it.
    values = values[:, :-1] if with_delta else values
    return Stream(values, wide, "short", scaling.shift, with_delta, 4 + with_delta)


def _exact(sums: Sums, reference: Reference, *, wide: bool) -> Stream:
    constant = reference.constant
    right = np.where(constant, 0, -sums.shift.astype(np.int64))
    half = np.where(constant, 0, 1 << np.maximum(right - 1, 0))
    centre = np.where(constant, reference.at(reference.lo[:, None])[:, 0], sums.zero_point) + sums.stored_zero
    multiplier = np.where(constant, 0, sums.multiplier)
    head = _wide(sums, np.ones_like(right)) if wide else _packed(sums)
    return Stream(_joined(head, [multiplier, (centre << right) + half, right]), wide, "exact", 0, False, 6)


def _general(sums: Sums, *, wide: bool) -> Stream:
    head = _wide(sums, np.zeros_like(sums.bias)) if wide else _packed(sums)
    return Stream(_joined(head, [sums.multiplier, sums.shift]), wide, "general", 0, False, 4)


def _packed(sums: Sums, delta_b: NDArray[np.int64] | int = 0) -> NDArray[np.int64]:
    """Biases and packed weights, (pairs, words); ``delta_b`` is added to 256 times the sums of channel B."""
    delta = np.broadcast_to(delta_b, sums.bias.shape)[1::2]
    bias = np.stack([sums.bias[::2], 256 * sums.bias[1::2] + sums.bias[::2] + delta], axis=1)
    low, high = (values[1::2] * 256 + values[::2] for values in (sums.low, sums.high))
    return np.concatenate([bias, _word(low, high)], axis=1)


def _wide(sums: Sums, left: NDArray[np.int64], delta: NDArray[np.int64] | int = 0) -> NDArray[np.int64]:
    """Biases and wide weights, all shifted to the left; ``delta`` is added to the shifted biases."""
    bias = (sums.bias << left) + delta
    words = _word(sums.low << left[:, None], sums.high << left[:, None])
    both = np.stack([words[::2], words[1::2]], axis=2).reshape(len(bias) // 2, -1)
    return np.concatenate([bias.reshape(-1, 2), both], axis=1)


def _word(low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
    return (low & 0xFFFF) | (high & 0xFFFF) << 16


def _joined(head: NDArray[np.int64], tail: list[NDArray[Any]]) -> NDArray[np.int32]:
    """The words of each two channels, the tail's numbers of A before those of B, as int32 that wrap."""
    numbers = np.stack([array.astype(np.int64) for array in tail], axis=1).reshape(len(head), -1)
    words = np.concatenate([head, numbers], axis=1)
    return as_int32(words)
