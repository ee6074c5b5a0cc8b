"""What the operations of a program hang on: one record a kind, of whole numbers and addresses, all int64.

Strides, steps and offsets are in bytes; a table is an address of int32 if nothing else is said.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np


def _record(*names: str) -> np.dtype[Any]:
    return np.dtype([(name, np.int64) for name in names])


# How an accumulator is rescaled outside of vectors: as convolutions do it, as dense layers do, or at their steps.
TWICE, ONCE, STEPS = range(3)


class Code(IntEnum):
    """The kinds of operations."""

    CONVOLVE = 0
    CONVOLVE_EXACTLY = 1
    DEPTHWISE_3X3 = 2
    DEPTHWISE_TAPS = 3
    DEPTHWISE_EXACTLY = 4
    ADD = 5
    MULTIPLY = 6
    LOOK_UP = 7
    AVERAGE_POOL = 8
    MAX_POOL = 9
    MEAN = 10
    SOFTMAX = 11
    MOVE = 12
    FILL_BORDER = 13
    LOAD = 14
    SAVE = 15


CONVOLUTION = _record(
    "input",  # address that the pixels' offsets are counted from
    "input_offsets",  # table, one a pixel
    "segments",  # table, the offset of each segment from its pixel
    "segment_count",
    "groups",  # of activations in a segment
    "weights",
    "constants",
    "corrections",  # table to write, one a pixel: what a zero point of the weights adds to accumulators; or 0
    "run",  # activations in a segment
    "weight_zero",
    "by_block",  # whether threads share the blocks of output channels, not the pixels
    "pixels",
    "wide",  # blocks of two vectors of output channels
    "narrow",  # blocks of one, after them: 0 or 1
    "half",  # whether the last vector's second half is no part of the output
    "tile",  # pixels in a tile of two vectors
    "narrow_tile",
    "rectified",  # whether what is negative becomes the zero point
    "output",
    "output_offsets",  # table, one a pixel
    # For rescaling by the specification's own functions.
    "zero",  # zero point and clamp of the output, as elements
    "low",
    "high",
    "scratch",  # int32, a block for each thread
    "channels",
    "bias",
    "multiplier",
    "shift",
    "steps",  # of a dense layer that has them, else 0
    "rounding",
)

DEPTHWISE = _record(
    "input",  # address of the first output's first tap
    "input_row",  # from an output row's first tap to the next row's
    "input_column",  # from an output's first tap to its neighbour's
    "tap_row",  # from a tap to the one below
    "tap_column",
    "taps",  # table of the taps' offsets, a multiple of a group
    "tap_groups",
    "columns",
    "outputs",  # neighbours that the 3x3 kernel makes at a time
    "blocks",  # of channels
    "last_block",  # where the last one begins; it may overlap the one before
    "weights",
    "terms",  # of a weight: 2 where one has more than 8 bits
    "constants",
    "rectified",
    "output",
    "output_row",
    "output_column",
    "half",  # whether only half a block's channels are the output's
    # For rescaling by the specification's own functions.
    "zero",
    "low",
    "high",
    "scratch",
    "channels",
    "bias",
    "multiplier",
    "shift",
)

# Elementwise operations: rows of elements, pixels and channels in one run.
ADDITION = _record(
    "a",
    "a_row",
    "b",
    "b_row",
    "output",
    "output_row",
    "run",
    "a_zero",  # zero points as elements
    "b_zero",
    "constants",  # of a, of b and of the sum
    "rectified",
    # For rescaling by the specification's own functions.
    "exactly",  # whether all outputs are, not only those beyond the last block
    "zero",
    "low",
    "high",
    "a_multiplier",
    "a_shift",
    "b_multiplier",
    "b_shift",
    "multiplier",
    "shift",
)

MULTIPLICATION = _record(
    "a",
    "a_row",
    "b",
    "b_row",
    "output",
    "output_row",
    "run",
    "a_zero",  # zero points and clamp as int8 values
    "b_zero",
    "multiplier",
    "shift",
    "zero",
    "low",
    "high",
)

LOOKUP = _record(
    "input",
    "input_row",
    "output",
    "output_row",
    "run",
    "table",  # address of elements, by int8 value + 128
)

POOL = _record(
    "input",
    "input_row",
    "input_column",
    "height",
    "width",
    "channels",
    "kernel_height",
    "kernel_width",
    "stride_vertical",
    "stride_horizontal",
    "top",
    "left",
    "offset",  # added before averaging and taken off after
    "low",  # clamp as int8 values
    "high",
    "output",
    "output_row",
    "output_column",
    "output_columns",
    "scratch",  # int32, as many as channels for each thread
)

MEAN = _record(
    "input",
    "kept",  # tables of offsets in elements: an input element is a kept and a reduced one together
    "kept_count",
    "contiguous",  # whether the kept ones are neighbours, in order
    "reduced",
    "reduced_count",
    "multiplier",
    "shift",
    "input_zero",
    "output_zero",
    "output",
    "output_offsets",  # table in elements, one a kept one
    "scratch",  # int32, as many as kept
)

SOFTMAX = _record(
    "input",
    "input_offsets",  # table, one a row
    "output",
    "output_offsets",
    "classes",
    "exponentials",  # table by distance from the largest, 256; -1 where it counts for nothing
)

MOVE = _record(
    "input",
    "output",
    "runs",  # table of (to, from, count) in elements
    "run_count",
    "value",  # an element, for runs from -1
)

BORDER = _record(
    "address",  # of the first element of the border above
    "row",  # elements of a row with its borders
    "top",
    "height",
    "bottom",
    "left",  # elements
    "right",
    "value",
)

# From and to arrays of bytes without borders.
TRANSFER = _record(
    "bytes",
    "elements",
    "columns",  # pixels in a row
    "channels",
    "element_row",  # elements from row to row
    "element_column",
    "mask",  # over the byte: 0x80 turns uint8 into int8 and back
)
