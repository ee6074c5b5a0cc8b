"""Layers that move bytes and compute nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymbn.layers.base import MAX_GEOMETRY, MAX_RANK, Layer, Shape


@dataclass(frozen=True)
class Pad(Layer):
    """Constant rows, columns, ... around a tensor: ``pads`` has (before, after) for each axis."""

    kind = "pad"

    pads: tuple[tuple[int, int], ...]
    value: int

    def __post_init__(self) -> None:
        self._require_inputs(1)
        for pair in self.pads:
            self._require(len(pair) == 2, f"pads {self.pads} are not pairs")
            self._require_whole_numbers(pair, 0, MAX_GEOMETRY, "padding")
        self._require_whole_numbers([self.value], -128, 127, "value")

    def output_shape(self, *inputs: Shape) -> Shape:
        self._require(len(self.pads) == len(inputs[0]), f"pads {self.pads} do not fit input {inputs[0]}")
        return tuple(b + size + a for (b, a), size in zip(self.pads, inputs[0], strict=True))


@dataclass(frozen=True)
class Concat(Layer):
    """Tensors one after another along an axis."""

    kind = "concat"

    axis: int

    def __post_init__(self) -> None:
        self._require(len(self.inputs) >= 1, "no inputs")
        self._require_whole_numbers([self.axis], 0, MAX_RANK - 1, "axis")

    def output_shape(self, *inputs: Shape) -> Shape:
        first, axis = inputs[0], self.axis
        fit = axis < len(first) and all(
            len(s) == len(first) and s[:axis] == first[:axis] and s[axis + 1 :] == first[axis + 1 :] for s in inputs
        )
        self._require(fit, f"shapes {', '.join(map(str, inputs))} differ in more than axis {axis}")
        return (*first[:axis], sum(s[axis] for s in inputs), *first[axis + 1 :])


@dataclass(frozen=True)
class Reshape(Layer):
    """The same bytes in another shape: RESHAPE, SQUEEZE, EXPAND_DIMS, Flatten."""

    kind = "reshape"

    shape: Shape

    def __post_init__(self) -> None:
        self._require_inputs(1)

    def output_shape(self, *inputs: Shape) -> Shape:
        self._require(
            math.prod(inputs[0]) == math.prod(self.shape),
            f"input {inputs[0]} does not fit shape {self.shape}",
        )
        return self.shape


@dataclass(frozen=True)
class Transpose(Layer):
    """Output axis i is input axis ``permutation[i]``."""

    kind = "transpose"

    permutation: tuple[int, ...]

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._require(
            sorted(self.permutation) == list(range(len(self.permutation))),
            f"permutation {self.permutation} does not name each axis once",
        )

    def output_shape(self, *inputs: Shape) -> Shape:
        self._require(
            len(self.permutation) == len(inputs[0]),
            f"permutation {self.permutation} does not fit input {inputs[0]}",
        )
        return tuple(inputs[0][axis] for axis in self.permutation)


@dataclass(frozen=True, eq=False)
class ResizeNearest(Layer):
    """Nearest-neighbour resize: output (y, x) is input ``(rows[y], columns[x])``, decided at import."""

    kind = "resize_nearest"

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._freeze("rows", np.int32, 1)
        self._freeze("columns", np.int32, 1)

    def output_shape(self, *inputs: Shape) -> Shape:
        self._require(len(inputs[0]) == 3, f"input of shape {inputs[0]}; expected (H, W, C)")
        for indices, size in ((self.rows, inputs[0][0]), (self.columns, inputs[0][1])):
            inside = bool(((indices >= 0) & (indices < size)).all())
            self._require(inside, f"an index lies outside input {inputs[0]}")
        return (int(self.rows.size), int(self.columns.size), inputs[0][2])
