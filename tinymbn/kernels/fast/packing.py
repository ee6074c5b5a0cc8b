"""Weights and constants in the order in which the fast kernels read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymbn.kernels.fast.instruction_set import CONSTANT_FIELDS, InstructionSet

Bytes = NDArray[np.uint8]


class OutputRange(NamedTuple):
    """Zero point and clamp of an output, as elements in memory."""

    zero: int
    low: int
    high: int


def wrap_int32(values: NDArray[np.int64]) -> NDArray[np.int32]:
    """What int32s hold after an overflow."""
    wrapped: NDArray[np.int32] = values.astype(np.uint64).astype(np.uint32).view(np.int32)
    return wrapped


def half_step(shift: NDArray[np.int8]) -> NDArray[np.int64]:
    """What rounding adds before a shift to the right; 0 where there is none."""
    half: NDArray[np.int64] = (np.int64(1) << np.maximum(-shift.astype(np.int64), 0)) >> 1
    return half


def scaling_constants(
    isa: InstructionSet,
    bias: NDArray[np.int64],
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int8],
    output: OutputRange,
    *,
    pairs: bool,
) -> Bytes:
    """The constants of vectors of output channels, (vectors, constant_bytes).

    Args:
        isa: what they are for.
        bias: int32 values; (C,), C a multiple of the lanes.
        multiplier: Q31, (C,).
        shift: not positive, (C,).
        output: what their results are.
        pairs: whether two vectors stand for 16 channels, see ``InstructionSet.pair_order``.
    """
    bits = -shift.astype(np.int64)
    rounding = (np.int64(1) << 31) + ((half_step(shift) + (output.zero << bits)) << 32)
    fields = {
        "bias": wrap_int32(bias),
        "multiplier": multiplier.astype(np.int32),
        "shift": bits.astype(np.int32),
        "negative": np.where(bits > 0, -1, 0).astype(np.int32),
    }
    lanes = isa.lanes
    order = _order(isa, len(bias), pairs=pairs)
    out = np.zeros((len(bias) // lanes, isa.constant_bytes), np.uint8)

    def write(name: str, values: NDArray[Any]) -> None:
        at = 4 * lanes * CONSTANT_FIELDS.index(name)
        out[:, at : at + 4 * lanes] = np.ascontiguousarray(values).view(np.uint8).reshape(len(out), 4 * lanes)

    for name, values in fields.items():
        write(name, values[order])
    by_lane = order.reshape(-1, lanes)
    write("odd_multiplier", multiplier.astype(np.int64)[by_lane[:, 1::2]])
    write("even_rounding", rounding[by_lane[:, 0::2]])
    write("odd_rounding", rounding[by_lane[:, 1::2]])
    ends = np.repeat([output.low, output.high], 2 * lanes // isa.element.itemsize)
    write("clamp", np.tile(ends.astype(isa.element), (len(out), 1)))
    return out


def _order(isa: InstructionSet, channels: int, *, pairs: bool) -> NDArray[np.intp]:
    """Which channel stands in which lane."""
    order = np.arange(channels)
    if pairs and isa.pair_order is not None:
        order = order.reshape(-1, 16)[:, list(isa.pair_order)].ravel()
    return order


def _weight_type(isa: InstructionSet) -> type[np.int8] | type[np.int16]:
    return np.int8 if isa.group == 4 else np.int16


def convolution_weights(isa: InstructionSet, weights: NDArray[np.integer[Any]], wide: int, *, ordered: bool) -> Bytes:
    """The weights of a convolution, by block of output channels, segment, group, vector, lane.

    Args:
        isa: what they are for.
        weights: (C_out, segments, run), C_out a multiple of the lanes; of 8 bits where groups have four.
        wide: blocks of two vectors; those after them have one.
        ordered: whether the blocks' channels stay in order.
    """
    channels, segments, run = weights.shape
    groups = -(-run // isa.group)
    padded = np.zeros((channels, segments, groups * isa.group), _weight_type(isa))
    padded[:, :, :run] = weights
    lanes = isa.lanes
    parts = []
    for first, last, count in ((0, 2 * lanes * wide, 2), (2 * lanes * wide, channels, 1)):
        if first == last:
            continue
        order = first + _order(isa, last - first, pairs=count == 2 and not ordered)
        part = padded[order].reshape(-1, count, lanes, segments, groups, isa.group)
        parts.append(np.ascontiguousarray(part.transpose(0, 3, 4, 1, 2, 5)).reshape(-1).view(np.uint8))
    return np.concatenate(parts)


def window_weights(isa: InstructionSet, weights: NDArray[np.integer[Any]], terms: int) -> Bytes:
    """The weights of a depthwise 3x3 window, (blocks, bytes).

    Args:
        isa: what they are for.
        weights: (3, 3, C), C a multiple of the block.
        terms: 2 to split each into a sum of two.
    """
    if isa.group == 4:
        groups = []
        for part in split(weights, terms):
            zeros = np.zeros_like(part[0])
            groups += [[part[0, k], part[1, k], part[2, k], zeros[k]] for k in range(3)]
        return _taps_packed(isa, np.array(groups))
    nothing = np.zeros_like(weights[0, 0])
    pairs = [[weights[0, k], weights[1, k]] for k in range(3)]
    pairs += [[weights[2, 0], weights[2, 1]], [weights[2, 2], nothing]]
    return _taps_packed(isa, np.array(pairs))


def taps_weights(isa: InstructionSet, weights: NDArray[np.integer[Any]]) -> Bytes:
    """The weights of any depthwise window, (blocks, bytes), from (taps, C), taps a multiple of a group."""
    return _taps_packed(isa, weights.reshape(-1, isa.group, weights.shape[1]))


def split(weights: NDArray[np.integer[Any]], terms: int) -> Sequence[NDArray[np.integer[Any]]]:
    """Weights as a sum of so many of about the same size."""
    parts = []
    rest = weights.astype(np.int64)
    for left in range(terms, 0, -1):
        part = rest // left
        parts.append(part)
        rest = rest - part
    return parts


def _taps_packed(isa: InstructionSet, groups: NDArray[np.integer[Any]]) -> Bytes:
    """From (groups, taps of a group, C) to blocks of channels: group, vector, lane, tap."""
    count, taps, channels = groups.shape
    typed = groups.astype(_weight_type(isa))
    assert (typed == groups).all()
    order = _order(isa, channels, pairs=True)
    blocks = typed[:, :, order].reshape(count, taps, -1, isa.block)
    packed = np.ascontiguousarray(blocks.transpose(2, 0, 3, 1))
    return packed.reshape(len(packed), -1).view(np.uint8).reshape(len(packed), -1)
