"""From sums to bytes, four lanes at a time: which form a layer takes, and the proof that it is the reference's.

The reference multiplies (``vqrdmulh``, for all signs), shifts to the right with ties away from zero, adds the zero
point and clamps. ``vrshl`` rounds ties up, which differs below zero alone: there the lanes lose one before the shift.
Behind a ReLU no tie below zero is seen. Whether one is, is found out per channel: both forms are monotone, so they are
equal if they are at each accumulator where the reference's output steps up, and at the one before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tinymbn.graph import Tensor
from tinymbn.layers import Activation, Conv2D, Depthwise
from tinymbn_codegen.dsp.requantization import accumulator_range
from tinymbn_codegen.dsp.short_form import Reference

Form = Literal["plain", "ties", "general"]
"""Ties are seen nowhere; every channel shifts to the right, and loses one below zero; each channel as it says."""

_WORDS = 3  # of a channel, unless the form is general
_MOST_STEP = 127  # of a byte that is subtracted


@dataclass(frozen=True, eq=False)
class Requantization:
    """Of a layer.

    Attributes:
        form: see Form.
        parameters: words of each channel, (C, n): bias, multiplier, shift to the right as a negative number, and in the
            general form shift to the left, 1 where ties below zero are to be moved.
        zero_point: of the output.
        activation: of the output.
    """

    form: Form
    parameters: NDArray[np.int64]
    zero_point: int
    activation: Activation

    @property
    def words(self) -> int:
        """Parameters of a channel."""
        return int(self.parameters.shape[1])


def can_be_scaled(layer: Conv2D | Depthwise, weights: NDArray[np.int64], input: Tensor, output: Tensor) -> bool:
    """Whether no sum of a layer leaves int32 anywhere, of weights without their zero point, (C, n)."""
    reference, _ = _reference_of(layer, weights, input, output)
    return bool(reference.monotone.all())


def scaling_of(layer: Conv2D | Depthwise, weights: NDArray[np.int64], input: Tensor, output: Tensor) -> Requantization:
    """The cheapest form that is proven, of a layer that can be scaled."""
    return requantization_of(*_reference_of(layer, weights, input, output))


def _reference_of(
    layer: Conv2D | Depthwise, weights: NDArray[np.int64], input: Tensor, output: Tensor
) -> tuple[Reference, NDArray[np.int64]]:
    """What a layer's outputs are to be, and its biases with the zero point of the input in them.

    The input is multiplied as it is, padding included.
    """
    own = layer.weights
    bias = own.bias.astype(np.int64) - input.zero_point * weights.sum(axis=1)
    least, greatest = accumulator_range(weights, bias, -128, 127)
    return Reference(own.multiplier, own.shift, output.zero_point, layer.activation, least, greatest), bias


def requantization_of(reference: Reference, bias: NDArray[np.int64]) -> Requantization:
    """The cheapest form that is proven, for a layer that is ``monotone``."""
    right, left = np.minimum(reference.shift, 0), np.maximum(reference.shift, 0)
    ties = _ties_matter(reference)
    columns: list[NDArray[Any]] = [bias, reference.multiplier, right]
    form: Form = "plain"
    if (left > 0).any() or (ties.any() and not (right < 0).all()):
        form = "general"
        columns += [left, (right < 0) & ties]
    elif ties.any():
        form = "ties"
    parameters = np.stack([column.astype(np.int64) for column in columns], axis=1)
    return Requantization(form, parameters, reference.zero_point, reference.activation)


def expected(zero_point: int, activation: Activation) -> Requantization:
    """The form that a layer takes whose weights are not known, without parameters of any channel.

    It is taken for granted that no channel shifts to the left, and that ties below zero are seen where outputs are.
    """
    form: Form = "plain" if activation.low >= zero_point else "ties"
    return Requantization(form, np.zeros((0, _WORDS), np.int64), zero_point, activation)


def _ties_matter(reference: Reference) -> NDArray[np.bool_]:
    """The channels in which ties rounded up make another byte, for some accumulator, (C,)."""
    lo, hi = reference.lo[:, None], reference.hi[:, None]
    differ = np.zeros(len(reference.lo), bool)
    for back in (0, 1):
        accumulators = np.clip(reference.steps - back, lo, hi)
        differ |= (_rounding_up(reference, accumulators) != reference.at(accumulators)).any(axis=1)
    return differ


def _rounding_up(reference: Reference, accumulators: NDArray[np.int64]) -> NDArray[np.int64]:
    right, left = np.maximum(-reference.shift, 0)[:, None], np.maximum(reference.shift, 0)[:, None]
    high = ((accumulators << left) * reference.multiplier[:, None] + (1 << 30)) >> 31
    rounded = (high + ((1 << right) >> 1)) >> right
    activation = reference.activation
    made: NDArray[np.int64] = np.clip(rounded + reference.zero_point, activation.low, activation.high)
    return made


def scale(
    requantization: Requantization, vectors: Sequence[str], registers: Sequence[str], temporary: str
) -> Iterator[str]:
    """Instructions that make of vectors of sums of one channel what is narrowed.

    Args:
        requantization: of the layer.
        vectors: to be scaled where they are.
        registers: the channel's parameters, in order.
        temporary: a vector, for ties.
    """
    form = requantization.form
    bias, multiplier, right = registers[:3]
    yield from (f"vadd.i32 {q}, {q}, {bias}" for q in vectors)
    if form == "general":
        yield from (f"vshl.s32 {q}, {registers[3]}" for q in vectors)
    yield from (f"vqrdmulh.s32 {q}, {q}, {multiplier}" for q in vectors)
    for q in vectors if form != "plain" else ():
        yield f"vshr.s32 {temporary}, {q}, #31"
        yield f"vmla.s32 {q}, {temporary}, {registers[4]}" if form == "general" else f"vadd.i32 {q}, {q}, {temporary}"
    yield from (f"vrshl.s32 {q}, {right}" for q in vectors)


def narrow(requantization: Requantization, bottom: str, top: str | None, zero: str | None) -> Iterator[str]:
    """Bytes of scaled vectors: in the even bytes of ``bottom``, its own and those of ``top`` in turn.

    Args:
        requantization: of the layer.
        bottom: a vector.
        top: another; None: only every other of the even bytes is meant.
        zero: the register that holds ``zero_number``; None: r0 may be overwritten.
    """
    low, high = requantization.activation.low, requantization.activation.high
    above, below = 127 - high, low + 128
    if zero is None:
        yield f"mov r0, #{zero_number(requantization)}"
    yield f"vqmovnb.s32 {bottom}, {bottom}"
    if top is not None:
        yield f"vqmovnt.s32 {bottom}, {top}"
    yield f"vqadd.s16 {bottom}, {bottom}, {zero or 'r0'}"
    yield f"vqmovnb.s16 {bottom}, {bottom}"
    # The clamps: what saturates is moved to the ends of int8 and back.
    for distance in (above, below):
        for start in range(0, distance, _MOST_STEP):
            yield f"mov r0, #{min(_MOST_STEP, distance - start)}"
            yield f"vqsub.s8 {bottom}, {bottom}, r0"
    if below:
        yield f"mov r0, #{below}"
        yield f"vadd.i8 {bottom}, {bottom}, r0"


def zero_number(requantization: Requantization) -> int:
    """What is added to a scaled value before it becomes a byte."""
    return requantization.zero_point + 127 - requantization.activation.high
