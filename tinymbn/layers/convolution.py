"""Convolutions and the dense layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import DENSE_STEPS
from tinymbn.layers.shapes import Conv2DShape, DenseShape, DepthwiseShape
from tinymbn.layers.weighted import Weighted


@dataclass(frozen=True, eq=False)
class Conv2D(Conv2DShape, Weighted):
    """Convolution; weights ``(C_out, K_h, K_w, C_in)``."""

    def __post_init__(self) -> None:
        self._check_weights()
        self._check_kernel()


@dataclass(frozen=True, eq=False)
class Depthwise(DepthwiseShape, Weighted):
    """Depthwise convolution; weights ``(K_h, K_w, C_out)``; output c reads input ``c // multiplier``."""

    def __post_init__(self) -> None:
        self._check_weights()
        self._check_kernel()


@dataclass(frozen=True, eq=False)
class Dense(DenseShape, Weighted):
    """Fully connected over the last axis; weights ``(C_out, C_in)``.

    It rounds once, ``fixedpoint.requantize_once``, or at ``steps`` where they are given: int32,
    (C_out, DENSE_STEPS), ascending, see ``fixedpoint.dense_scaling``.
    """

    steps: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        self._check_weights()
        if self.steps is not None:
            self._freeze("steps", np.int32, 2)
            self._require(
                self.steps.shape == (self.channels, DENSE_STEPS),
                f"steps of shape {self.steps.shape}; expected {(self.channels, DENSE_STEPS)}",
            )
