"""Pools and the mean."""

from __future__ import annotations

from dataclasses import dataclass

from tinymbn.layers.base import Activation, Shape
from tinymbn.layers.shapes import MeanShape
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
class Mean(MeanShape):
    """Mean over axes; the division by the count is part of ``multiplier`` (Q31) and ``shift``."""

    multiplier: int
    shift: int

    def __post_init__(self) -> None:
        self._check_axes()
        self._require_multiplier(self.multiplier, self.shift)
