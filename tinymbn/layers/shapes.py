"""What a layer kind is whatever its numbers are: the shapes that fit it, and what it costs.

The int8 kinds of this package and the float kinds of ``tinymbn.quantize`` share these.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinymbn.errors import ModelError
from tinymbn.layers.base import MAX_RANK, Layer, Shape
from tinymbn.layers.windowed import Windowed


@dataclass(frozen=True)
class WeightedShape(Layer):
    """A layer with weights; subclasses say their rank, and which axis is C_out."""

    rank: ClassVar[int]
    channel_axis: ClassVar[int]

    @property
    @abstractmethod
    def weights_shape(self) -> Shape:
        """The shape of the weights alone."""

    @property
    def channels(self) -> int:
        """Output channels."""
        return self.weights_shape[self.channel_axis]

    @property
    def parameters(self) -> int:
        return math.prod(self.weights_shape) + self.channels


@dataclass(frozen=True)
class Conv2DShape(Windowed, WeightedShape):
    """Weights ``(C_out, K_h, K_w, C_in)``."""

    kind = "conv2d"
    rank, channel_axis = 4, 0

    def _check_kernel(self) -> None:
        self._check_window()
        shape = self.weights_shape
        self._require(shape[1:3] == self.window.kernel, f"weights {shape} do not fit kernel {self.window.kernel}")

    def output_shape(self, *inputs: Shape) -> Shape:
        rows, columns = self._map_size(inputs[0])
        shape = self.weights_shape
        self._require(
            inputs[0][2] == shape[3],
            f"weights {shape} do not fit input {inputs[0]}: expected {inputs[0][2]} channels last",
        )
        return (rows, columns, self.channels)

    def macs(self, output: Shape) -> int:
        return output[0] * output[1] * math.prod(self.weights_shape)


@dataclass(frozen=True)
class DepthwiseShape(Windowed, WeightedShape):
    """Weights ``(K_h, K_w, C_out)``; output c reads input ``c // multiplier``."""

    kind = "depthwise"
    rank, channel_axis = 3, 2

    def _check_kernel(self) -> None:
        self._check_window()
        shape = self.weights_shape
        self._require(shape[:2] == self.window.kernel, f"weights {shape} do not fit kernel {self.window.kernel}")

    def output_shape(self, *inputs: Shape) -> Shape:
        rows, columns = self._map_size(inputs[0])
        self._require(
            self.channels % inputs[0][2] == 0,
            f"weights {self.weights_shape} do not fit input {inputs[0]}: "
            f"expected a multiple of {inputs[0][2]} channels last",
        )
        return (rows, columns, self.channels)

    def macs(self, output: Shape) -> int:
        return output[0] * output[1] * math.prod(self.weights_shape)


@dataclass(frozen=True)
class DenseShape(WeightedShape):
    """Weights ``(C_out, C_in)``, over the last axis."""

    kind = "dense"
    rank, channel_axis = 2, 0

    def output_shape(self, *inputs: Shape) -> Shape:
        shape = self.weights_shape
        self._require(
            inputs[0][-1] == shape[1], f"weights {shape} do not fit input {inputs[0]}: expected {shape[1]} last"
        )
        return (*inputs[0][:-1], self.channels)

    def macs(self, output: Shape) -> int:
        return math.prod(output) * self.weights_shape[1]


def reduced_shape(shape: Shape, axes: Collection[int], *, keep_dims: bool) -> Shape:
    """The shape with the axes taken out, or of size 1; ``()`` where none is left."""
    if keep_dims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


@dataclass(frozen=True)
class MeanShape(Layer):
    """Over axes, counted without the batch; ``(0, 1)`` of a map is its global average."""

    kind = "mean"

    axes: tuple[int, ...]
    keep_dims: bool

    def _check_axes(self) -> None:
        self._require_inputs(1)
        self._require_whole_numbers(self.axes, 0, MAX_RANK - 1, "axis")
        ascending = len(self.axes) > 0 and list(self.axes) == sorted(set(self.axes))
        self._require(ascending, f"axes {self.axes} are not ascending")
        self._require(isinstance(self.keep_dims, bool), "keep_dims is neither true nor false")

    def output_shape(self, *inputs: Shape) -> Shape:
        self._require(self.axes[-1] < len(inputs[0]), f"axes {self.axes} do not fit input {inputs[0]}")
        return reduced_shape(inputs[0], self.axes, keep_dims=self.keep_dims) or (1,)


@dataclass(frozen=True)
class BinaryShape(Layer):
    """Two operands, NumPy broadcasting."""

    def output_shape(self, *inputs: Shape) -> Shape:
        a, b = inputs
        try:
            return tuple(np.broadcast_shapes(a, b))
        except ValueError:
            raise ModelError(f'layer "{self.name}": {self.kind}: shapes {a} and {b} do not broadcast') from None
