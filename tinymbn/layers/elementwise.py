"""Layers that compute each output element from one or two input elements, or a row of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import SOFTMAX_MAX_DEPTH
from tinymbn.layers.base import Activation, Layer, Shape
from tinymbn.layers.shapes import BinaryShape


@dataclass(frozen=True)
class Add(BinaryShape):
    """Sum of two tensors, NumPy broadcasting; multipliers are Q31."""

    kind = "add"

    a_multiplier: int
    a_shift: int
    b_multiplier: int
    b_shift: int
    output_multiplier: int
    output_shift: int
    activation: Activation = Activation()

    def __post_init__(self) -> None:
        self._require_inputs(2)
        for which in ("a", "b", "output"):
            multiplier, shift = getattr(self, f"{which}_multiplier"), getattr(self, f"{which}_shift")
            self._require_multiplier(multiplier, shift, f"{which}_multiplier")
            self._require(shift <= 0, f"{which}_shift is {shift}; expected 0 or less")
        self._require_activation(self.activation)


@dataclass(frozen=True)
class Mul(BinaryShape):
    """Product of two tensors, NumPy broadcasting; the multiplier is Q31."""

    kind = "mul"

    multiplier: int
    shift: int
    activation: Activation = Activation()

    def __post_init__(self) -> None:
        self._require_inputs(2)
        self._require_multiplier(self.multiplier, self.shift)
        self._require_activation(self.activation)


@dataclass(frozen=True)
class Requantize(Layer):
    """The same real values in another scale and zero point; with a clamp it is RELU or RELU6 on its own."""

    kind = "requantize"

    multiplier: int
    shift: int
    activation: Activation = Activation()

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._require_multiplier(self.multiplier, self.shift)
        self._require_activation(self.activation)

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]


@dataclass(frozen=True, eq=False)
class Lookup(Layer):
    """A function of one int8, as a table made at import: LOGISTIC, HARD_SWISH, a legacy CONCATENATION's rescaling.

    Attributes:
        function: "logistic", "hard_swish" or "rescale".
        table: int8, (256,), indexed by ``q + 128``.
    """

    kind = "lookup"

    function: str
    table: NDArray[np.int8]

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._require(
            self.function in ("logistic", "hard_swish", "rescale"),
            f'function {self.function!r} is not "logistic", "hard_swish" or "rescale"',
        )
        self._freeze("table", np.int8, 1)
        self._require(self.table.shape == (256,), f"table has {self.table.size} entries; expected 256")

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]


@dataclass(frozen=True)
class Softmax(Layer):
    """Softmax over the last axis; multiplier (Q31), left shift and least difference of ``fixedpoint``."""

    kind = "softmax"

    multiplier: int
    shift: int
    diff_min: int

    def __post_init__(self) -> None:
        self._require_inputs(1)
        self._require_multiplier(self.multiplier, self.shift)
        self._require(self.shift >= 0, f"shift is {self.shift}; expected 0 or more")
        # Any difference that counts must fit int32 after the shift.
        self._require_whole_numbers([self.diff_min], -(2**31 >> self.shift), 0, "diff_min")

    def output_shape(self, *inputs: Shape) -> Shape:
        self._require(
            inputs[0][-1] <= SOFTMAX_MAX_DEPTH,
            f"{inputs[0][-1]} classes; the reference's sum holds {SOFTMAX_MAX_DEPTH}",
        )
        return inputs[0]
