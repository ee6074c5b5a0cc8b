"""How the rows of a map lie in memory: as TensorFlow Lite has them, by planes, or in pairs of channels.

``nhwc``: int8, pixel by pixel, all channels of one before the next.

``planes``: int8, channel by channel, all pixels of one before the next. What Helium's depthwise kernel reads.

``planar``: uint8, the value + 128, channel by channel. Four neighbours lie as x0, x2, x1, x3, so that ``uxtb16`` makes
the pairs (x0, x1) and (x2, x3) of a word. A plane is a multiple of four wide and zero beyond the row's end; there is an
even number of planes, so that kernels may write two channels at a time.

``pairs``: words of two halfwords, value + 128 each: channel i below, channel i + pairs above; pixels in groups of four
and three. What ``smlad`` takes without another instruction, and a depthwise kernel writes.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tinymbn.layers import Shape

Layout = Literal["nhwc", "planes", "planar", "pairs"]

LANES = (0, 2, 1, 3)
"""Which byte of a planar word pixel x % 4 is."""


def plane_bytes(width: int) -> int:
    """Of one channel of a planar row."""
    return -(-width // 4) * 4


def pairs_of(channels: int) -> int:
    """Words of one pixel in pairs."""
    return -(-channels // 2)


def row_bytes(layout: Layout, shape: Shape) -> int:
    """Of a row of a map (H, W, C)."""
    _, width, channels = shape
    match layout:
        case "nhwc" | "planes":
            return width * channels
        case "planar":
            return plane_bytes(width) * 2 * pairs_of(channels)
        case "pairs":
            return 4 * pairs_of(channels) * width


@cache
def groups(width: int) -> tuple[int, ...]:
    """The sizes of the groups of pixels in a row of pairs: as many fours as leave threes alone, if that can be."""
    for threes in range(4):
        fours, rest = divmod(width - 3 * threes, 4)
        if rest == 0 and fours >= 0:
            return (4,) * fours + (3,) * threes
    fours, rest = divmod(width, 4)
    return (4,) * fours + (rest,)


def encode(layout: Layout, values: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Rows (H, W, C) as they lie in memory, (H, row_bytes); what a layout leaves open is 0."""
    height, width, channels = values.shape
    if layout == "nhwc":
        return np.ascontiguousarray(values).reshape(height, -1).view(np.uint8)
    if layout == "planes":
        return np.ascontiguousarray(values.transpose(0, 2, 1)).reshape(height, -1).view(np.uint8)
    made: NDArray[Any]
    shifted = values.view(np.uint8) ^ 0x80
    if layout == "planar":
        made = np.zeros((height, 2 * pairs_of(channels), plane_bytes(width)), np.uint8)
        made[:, :channels, _lanes(width)] = shifted.transpose(0, 2, 1)
    else:
        made = np.zeros((height, 2 * pairs_of(channels) * width), "<u2")
        made[:, _halfwords(width, channels)] = shifted.reshape(height, -1)
    return made.reshape(height, -1).view(np.uint8)


def decode(layout: Layout, rows: NDArray[np.uint8], shape: Shape) -> NDArray[np.int8]:
    """The values (H, W, C) of rows in memory, (H, row_bytes)."""
    _, width, channels = shape
    height = len(rows)
    if layout == "nhwc":
        return rows.view(np.int8).reshape(height, width, channels)
    if layout == "planes":
        return rows.view(np.int8).reshape(height, channels, width).transpose(0, 2, 1)
    if layout == "planar":
        planes = rows.reshape(height, -1, plane_bytes(width))[:, :channels, _lanes(width)]
        return (planes ^ 0x80).view(np.int8).transpose(0, 2, 1)
    halves = np.ascontiguousarray(rows).view("<u2")[:, _halfwords(width, channels)]
    return (halves.astype(np.uint8) ^ 0x80).view(np.int8).reshape(height, width, channels)


def _lanes(width: int) -> NDArray[np.int64]:
    """The byte of each pixel within its plane."""
    x = np.arange(width)
    return np.asarray(x // 4 * 4 + np.array(LANES)[x % 4])


def _halfwords(width: int, channels: int) -> NDArray[np.int64]:
    """The halfword of each (x, c) of a row of pairs, (W * C,)."""
    pairs = pairs_of(channels)
    c = np.arange(channels)
    places, start = [], 0
    for size in groups(width):
        for p in range(size):
            word = pairs * start + size * (c % pairs) + p
            places.append(2 * word + c // pairs)
        start += size
    return np.concatenate(places)
