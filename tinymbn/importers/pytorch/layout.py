"""Where the elements of PyTorch's tensors lie in those of a float graph, which has maps channels last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import UnsupportedError
from tinymbn.layers import Padding, Shape

Axes = tuple[int, ...]

CHANNELS_LAST: Axes = (2, 3, 1)  # of PyTorch's (1, C, H, W)


@dataclass(frozen=True)
class Value:
    """A tensor of PyTorch, and where its elements are.

    Attributes:
        tensor: of the float graph, whose elements these are.
        shape: in PyTorch, with the batch.
        order: PyTorch's axes as they lie in ``tensor``, the batch of 1 left out.
        memory: equal for tensors that PyTorch has in one place, so that a change of one changes all.
        columns: PyTorch's position of each element, (N,), of a map that was flattened; None where an element is
            in its place. Only with one axis longer than 1.
        around: zeros that PyTorch has around the map, and ``tensor`` has not.
    """

    tensor: str
    shape: Shape
    order: Axes
    memory: str
    columns: NDArray[np.int64] | None = None
    around: Padding = Padding()

    @property
    def graph_shape(self) -> Shape:
        """The shape of ``tensor``, but for ``around``."""
        return tuple(self.shape[axis] for axis in self.order)

    @property
    def is_map(self) -> bool:
        """Whether it is (1, C, H, W), and lies as (H, W, C)."""
        return len(self.shape) == 4 and self.order == CHANNELS_LAST and self.columns is None

    def reshaped(self, shape: Shape) -> Value:
        """The same elements in another shape; ``tensor`` may have to be reshaped to ``graph_shape``.

        Raises:
            UnsupportedError: an element would have to move.
        """
        if shape == self.shape:
            return self
        if math.prod(shape) != math.prod(self.shape) or not shape:
            raise UnsupportedError(f"from {self.shape} to {shape}; expected as many elements")
        columns = self.columns
        longer = [axis for axis in self.order if self.shape[axis] > 1]
        if columns is None and longer != sorted(longer):
            columns = self._positions()
        if columns is not None and sum(size > 1 for size in shape) > 1:
            raise UnsupportedError(f"from {self.shape} to {shape}: elements would have to move; expected one axis")
        # With one channel or one pixel, a map lies the same channels first and last.
        either = len(shape) == 4 and shape[0] == 1 and (shape[1] == 1 or shape[2] * shape[3] == 1)
        order = CHANNELS_LAST if either else natural_order(shape)
        return replace(self, shape=shape, order=order, columns=columns)

    def permuted(self, axes: Sequence[int]) -> Value:
        """Its axes by other names; no element moves.

        Raises:
            UnsupportedError: the batch would not be the first axis any more.
        """
        if self.columns is not None or (0 not in self.order and axes[0] != 0):
            raise UnsupportedError(f"axes {axes} of {self.shape}; expected the batch to stay the first")
        shape = tuple(self.shape[axis] for axis in axes)
        return replace(self, shape=shape, order=tuple(axes.index(axis) for axis in self.order))

    def _positions(self) -> NDArray[np.int64]:
        """PyTorch's position of each element, in the order in which they lie."""
        batch = tuple(axis for axis in range(len(self.shape)) if axis not in self.order)
        return np.arange(math.prod(self.shape)).reshape(self.shape).transpose(batch + self.order).ravel()


def natural_order(shape: Shape) -> Axes:
    """All axes as PyTorch has them but for the batch, which what was flattened whole, or to rows, has not."""
    first = 1 if len(shape) > 1 and shape[0] == 1 else 0
    return tuple(range(first, len(shape)))
