"""Convolutions and the dense layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import DENSE_STEPS
from tinymbn.layers.base import Shape
from tinymbn.layers.weighted import Weighted
from tinymbn.layers.windowed import Windowed


@dataclass(frozen=True, eq=False)
class Conv2D(Windowed, Weighted):
    """Convolution; weights ``(C_out, K_h, K_w, C_in)``."""

    kind = "conv2d"
    _rank, _channel_axis = 4, 0

    def __post_init__(self) -> None:
        self._check_weights()
        self._check_window()
        shape = self.weights.values.shape
        self._require(shape[1:3] == self.window.kernel, f"weights {shape} do not fit kernel {self.window.kernel}")

    def output_shape(self, *inputs: Shape) -> Shape:
        rows, columns = self._map_size(inputs[0])
        shape = self.weights.values.shape
        self._require(
            inputs[0][2] == shape[3],
            f"weights {shape} do not fit input {inputs[0]}: expected {inputs[0][2]} channels last",
        )
        return (rows, columns, self.channels)

    def macs(self, output: Shape) -> int:
        return output[0] * output[1] * int(self.weights.values.size)


@dataclass(frozen=True, eq=False)
class Depthwise(Windowed, Weighted):
    """Depthwise convolution; weights ``(K_h, K_w, C_out)``; output c reads input ``c // multiplier``."""

    kind = "depthwise"
    _rank, _channel_axis = 3, 2

    def __post_init__(self) -> None:
        self._check_weights()
        self._check_window()
        shape = self.weights.values.shape
        self._require(shape[:2] == self.window.kernel, f"weights {shape} do not fit kernel {self.window.kernel}")

    def output_shape(self, *inputs: Shape) -> Shape:
        rows, columns = self._map_size(inputs[0])
        self._require(
            self.channels % inputs[0][2] == 0,
            f"weights {self.weights.values.shape} do not fit input {inputs[0]}: "
            f"expected a multiple of {inputs[0][2]} channels last",
        )
        return (rows, columns, self.channels)

    def macs(self, output: Shape) -> int:
        return output[0] * output[1] * int(self.weights.values.size)


@dataclass(frozen=True, eq=False)
class Dense(Weighted):
    """Fully connected over the last axis; weights ``(C_out, C_in)``.

    It rounds once, ``fixedpoint.requantize_once``, or at ``steps`` where they are given: int32,
    (C_out, DENSE_STEPS), ascending, see ``fixedpoint.dense_scaling``.
    """

    kind = "dense"
    _rank, _channel_axis = 2, 0

    steps: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        self._check_weights()
        if self.steps is not None:
            self._freeze("steps", np.int32, 2)
            self._require(
                self.steps.shape == (self.channels, DENSE_STEPS),
                f"steps of shape {self.steps.shape}; expected {(self.channels, DENSE_STEPS)}",
            )

    def output_shape(self, *inputs: Shape) -> Shape:
        shape = self.weights.values.shape
        self._require(
            inputs[0][-1] == shape[1],
            f"weights {shape} do not fit input {inputs[0]}: expected {shape[1]} last",
        )
        return (*inputs[0][:-1], self.channels)

    def macs(self, output: Shape) -> int:
        return math.prod(output) * int(self.weights.values.shape[1])
