"""What all layer kinds have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError

Shape = tuple[int, ...]

MAX_RANK = 4
MAX_GEOMETRY = 1 << 16  # kernel, stride, dilation, padding: beyond any use, well within int32 arithmetic


def frozen_array(values: NDArray[Any]) -> NDArray[Any]:
    """The same values, C-contiguous and read-only."""
    if values.flags.c_contiguous and not values.flags.writeable:
        return values
    copy = np.array(values, order="C", copy=True)
    copy.setflags(write=False)
    return copy


@dataclass(frozen=True)
class Activation:
    """The clamp of a layer's output, in quantised units, both inclusive."""

    low: int = -128
    high: int = 127


@dataclass(frozen=True)
class Layer(ABC):
    """What all layer kinds have.

    Attributes:
        name: unique in the graph; the name of the file it came from where there is one.
        inputs: names of the tensors read, activations and constants.
        output: name of the tensor written.
    """

    kind: ClassVar[str]

    name: str
    inputs: tuple[str, ...]
    output: str

    def _require(self, condition: bool, problem: str) -> None:
        if not condition:
            raise ModelError(f'layer "{self.name}": {self.kind}: {problem}')

    def _require_inputs(self, count: int) -> None:
        self._require(len(self.inputs) == count, f"{len(self.inputs)} inputs; expected {count}")

    def _require_whole_numbers(self, numbers: Iterable[int], low: int, high: int, what: str) -> None:
        for number in numbers:
            whole = isinstance(number, int) and not isinstance(number, bool)
            self._require(whole and low <= number <= high, f"{what} {number!r} is not in [{low}, {high}]")

    def _freeze(self, field: str, dtype: type[np.generic], ndim: int) -> None:
        values = getattr(self, field)
        self._require(isinstance(values, np.ndarray), f"{field} is not an array")
        self._require(
            values.dtype == dtype and values.ndim == ndim and values.size > 0,
            f"{field} is {values.dtype} of shape {values.shape}; expected {np.dtype(dtype)} of rank {ndim}",
        )
        object.__setattr__(self, field, frozen_array(values))

    def _require_multiplier(self, multiplier: int, shift: int, name: str = "multiplier") -> None:
        self._require_whole_numbers([multiplier], 0, 2**31 - 1, name)
        self._require_whole_numbers([shift], -31, 30, f"{name}'s shift")

    def _require_activation(self, activation: Activation) -> None:
        self._require_whole_numbers((activation.low, activation.high), -128, 127, "activation")
        self._require(activation.low <= activation.high, f"activation {activation} lets nothing through")

    @abstractmethod
    def output_shape(self, *inputs: Shape) -> Shape:
        """The output's shape for these inputs' shapes.

        Raises:
            ModelError: the inputs do not fit the layer.
        """

    def macs(self, output: Shape) -> int:
        """Multiplications of an activation with a weight, one output of this shape."""
        return 0

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return 0
