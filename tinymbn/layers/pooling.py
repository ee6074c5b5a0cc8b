"""Pools and the mean."""

from __future__ import annotations

from dataclasses import dataclass

from tinymbn.layers.base import MAX_RANK, Activation, Layer, Shape
from tinymbn.layers.windowed import Windowed


@dataclass(frozen=True)
class AveragePool(Windowed):
    """Average over a window, padding left out of sum and count.

    ``unsigned`` marks a legacy uint8 model: rounding is away from the zero of the *unsigned* values there.
    """

    kind = "average_pool"

    activation: Activation = Activation()
    unsigned: bool = False

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._check_window()
        self._require_activation(self.activation)
        self._require(self.window.dilation == (1, 1), "a pool has no dilation")
        self._require(isinstance(self.unsigned, bool), "unsigned is neither true nor false")

    def output_shape(self, *inputs: Shape) -> Shape:
        return (*self._map_size(inputs[0]), inputs[0][2])


@dataclass(frozen=True)
class MaxPool(Windowed):
    """Maximum over a window, padding left out."""

    kind = "max_pool"

    activation: Activation = Activation()

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._check_window()
        self._require_activation(self.activation)
        self._require(self.window.dilation == (1, 1), "a pool has no dilation")

    def output_shape(self, *inputs: Shape) -> Shape:
        return (*self._map_size(inputs[0]), inputs[0][2])


@dataclass(frozen=True)
class Mean(Layer):
    """Mean over axes; the division by the count is part of ``multiplier`` (Q31) and ``shift``."""

    kind = "mean"

    axes: tuple[int, ...]
    keep_dims: bool
    multiplier: int
    shift: int

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._require_whole_numbers(self.axes, 0, MAX_RANK - 1, "axis")
        self._require(
            len(self.axes) > 0 and list(self.axes) == sorted(set(self.axes)),
            f"axes {self.axes} are not ascending",
        )
        self._require(isinstance(self.keep_dims, bool), "keep_dims is neither true nor false")
        self._require_multiplier(self.multiplier, self.shift)

    def output_shape(self, *inputs: Shape) -> Shape:
        self._require(self.axes[-1] < len(inputs[0]), f"axes {self.axes} do not fit input {inputs[0]}")
        if self.keep_dims:
            return tuple(1 if axis in self.axes else size for axis, size in enumerate(inputs[0]))
        return tuple(size for axis, size in enumerate(inputs[0]) if axis not in self.axes) or (1,)
