"""Where the elements of a tensor stand: as a map of rows, columns and channels, with a border around it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymbn.layers import Padding, Shape

# Channels are stored in eights, so that vectors fit; and vectors read beyond the end.
CHANNEL_MULTIPLE = 8
SLACK_ELEMENTS = 64


def round_up(number: int, multiple: int) -> int:
    """The next multiple."""
    return -(-number // multiple) * multiple


def as_map(shape: Shape) -> tuple[int, int, int]:
    """Any shape as (rows, columns, channels)."""
    *outer, channels = shape
    columns = outer[-1] if outer else 1
    return math.prod(outer[:-1]), columns, channels


@dataclass(frozen=True)
class Placement:
    """All counts are of elements, but for rows and columns, which are those of the map.

    Attributes:
        shape: of the tensor.
        rows, columns, channels: the tensor as a map.
        border: rows and columns around it, which hold the zero point.
        pixel: from a pixel to its neighbour.
    """

    shape: Shape
    border: Padding
    pixel: int

    @property
    def rows(self) -> int:
        """Of the map."""
        return as_map(self.shape)[0]

    @property
    def columns(self) -> int:
        """Of the map."""
        return as_map(self.shape)[1]

    @property
    def channels(self) -> int:
        """Of the map."""
        return self.shape[-1]

    @property
    def row(self) -> int:
        """From a row to the one below."""
        return (self.border.left + self.columns + self.border.right) * self.pixel

    @property
    def first(self) -> int:
        """The map's first element, counted from the border's."""
        return self.border.top * self.row + self.border.left * self.pixel

    @property
    def size(self) -> int:
        """Elements to set aside."""
        return (self.border.top + self.rows + self.border.bottom) * self.row + SLACK_ELEMENTS

    @property
    def has_border(self) -> bool:
        """Whether there is anything around the map."""
        return self.border != Padding()

    def offsets(self) -> NDArray[np.int64]:
        """Where each element stands, counted from the border's first, of the tensor's shape."""
        rows = self.first + np.arange(self.rows)[:, None, None] * self.row
        offsets = rows + np.arange(self.columns)[:, None] * self.pixel + np.arange(self.channels)
        return offsets.reshape(self.shape)

    def pixels(self) -> NDArray[np.int64]:
        """Where each pixel stands, in reading order."""
        rows = self.first + np.arange(self.rows)[:, None] * self.row
        return (rows + np.arange(self.columns) * self.pixel).ravel()


def merged(one: Padding, other: Padding) -> Padding:
    """A border wide enough for both."""
    return Padding(
        max(one.top, other.top), max(one.bottom, other.bottom), max(one.left, other.left), max(one.right, other.right)
    )
