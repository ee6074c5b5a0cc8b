"""The float graph under construction while an ``.onnx`` is lowered, node by node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.graph import Quant
from tinymbn.importers.channels_first.lowering import Lowering, Order, Value
from tinymbn.importers.onnx.file import OnnxFile
from tinymbn.importers.weights import Array, finite
from tinymbn.layers import Reshape, Shape
from tinymbn.quantize.given import GivenWeights

_BYTES = {"INT8": np.dtype(np.int8), "UINT8": np.dtype(np.uint8)}  # types of an input that may be quantised already


@dataclass(frozen=True, eq=False)
class Steps:
    """Integers that a DequantizeLinear makes real: ``scales * (values - zero_points)``; both (), or (n,) along axis."""

    values: NDArray[Any]
    scales: Array
    zero_points: NDArray[Any]
    axis: int

    def real(self) -> Array:
        """The real values."""
        # A bias has 32 bits, so this is rounded once, at the end.
        difference = self.values.astype(np.float64) - self.along(self.zero_points)
        return np.asarray(difference * self.along(self.scales).astype(np.float64), np.float32)

    def along(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Scales or zero points, shaped so that they broadcast with the values."""
        if numbers.size == 1:
            return numbers.reshape(())
        return numbers.reshape([-1 if axis == self.axis else 1 for axis in range(self.values.ndim)])

    def transposed(self, order: Order | None) -> Steps:
        """With axes in another order; None: reversed."""
        order = tuple(range(self.values.ndim))[::-1] if order is None else tuple(order)
        return Steps(
            self.values.transpose(order),
            self.scales,
            self.zero_points,
            order.index(self.axis) if self.scales.ndim else 0,
        )


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor whose values are known; with the integers that they were, where a DequantizeLinear made them."""

    values: NDArray[Any]
    steps: Steps | None = None


@dataclass(frozen=True, eq=False)
class IntegerValue(Value):
    """A Value as its integers, which are no real numbers until a DequantizeLinear makes them so.

    Attributes:
        dtype: int8 or uint8.
        quant: what a QuantizeLinear made them by, as int8; None: they are the input's own.
    """

    dtype: np.dtype[Any]
    quant: Quant | None

    def real(self) -> Value:
        """As real numbers."""
        return Value(self.tensor, self.indices)


def byte_offset(dtype: np.dtype[Any]) -> int:
    """By how much a byte is higher than as int8."""
    return 128 if dtype == np.uint8 else 0


class OnnxLowering(Lowering):
    """Tensors and layers made so far.

    Attributes:
        file: what is lowered.
        found: the file's tensors by name.
        weights: integers of layers with weights, by the layer's name; None where the file has real numbers.
    """

    def __init__(self, file: OnnxFile, input_shape: Shape, order: Order) -> None:
        """Begin with an input of this shape, of which the graph has the axes in this order."""
        made = (name for node in file.nodes for name in (*node.outputs, node.name))
        super().__init__([file.input, *file.constants, *made])
        self.file = file
        self.found: dict[str, Constant | Value] = {name: Constant(x) for name, x in file.constants.items()}
        self.weights: dict[str, GivenWeights | None] = {}
        self._input_quants: set[Quant | None] = set()  # what nodes take the input's integers for
        value = self.begin(file.input, input_shape, order)
        if file.input_type in _BYTES:
            value = IntegerValue(value.tensor, value.indices, _BYTES[file.input_type], None)
        self.found[file.input] = value

    def constant(self, name: str, what: str) -> Constant:
        """A constant operand."""
        found = self.found.get(name)
        if not isinstance(found, Constant):
            raise UnsupportedError(f'{what} "{name}" not constant')
        return found

    def real(self, name: str, what: str) -> Array:
        """The values of a constant operand, float32.

        Raises:
            ModelError: one is not a finite number; the text names the tensor.
        """
        values = self.constant(name, what).values
        if values.dtype.kind != "f":
            raise UnsupportedError(f'{what} "{name}" is {values.dtype}; expected float')
        return finite(values, name)

    def value(self, name: str) -> Value:
        """An operand that depends on the input, as real numbers."""
        value = self.any_value(name)
        if isinstance(value, IntegerValue):
            raise UnsupportedError(f'it reads "{name}", integers that only a DequantizeLinear may')
        return value

    def any_value(self, name: str) -> Value:
        """An operand that depends on the input, for nodes that do the same to integers and real numbers."""
        found = self.found.get(name)
        if found is None:
            raise ModelError(f'nothing makes tensor "{name}"')
        if isinstance(found, Constant):
            raise UnsupportedError(f'"{name}" is constant')
        return found

    def operand(self, name: str) -> Value | Array:
        """One or the other."""
        return self.real(name, "operand") if isinstance(self.found.get(name), Constant) else self.value(name)

    def set(self, name: str, made: Constant | Value) -> None:
        """Let a tensor of the file be this."""
        if name in self.found:
            raise ModelError(f'tensor "{name}" is made twice')
        elements = made.indices.size if isinstance(made, Value) else made.values.size
        if isinstance(made, Value) and not elements:
            raise ModelError(f'tensor "{name}" has no elements')
        self.spend(elements)
        self.found[name] = made

    def take_input(self, quant: Quant | None) -> None:
        """Let the input's integers stand for these real numbers; None: for themselves.

        Raises:
            UnsupportedError: another node has taken them for others: the graph has one scale for all.
        """
        self._input_quants.add(quant)
        if len(self._input_quants) > 1:
            raise UnsupportedError(f'it takes input "{self.input}" for other numbers than a node before')
        if quant is not None:
            self.quants[self.input] = quant

    def rescaled(self, tensor: str, name: str) -> str:
        """A tensor of the same real values that may have another scale: a Reshape to the shape that it has."""
        self.add(Reshape(name, (tensor,), name, self.shapes[tensor]))
        return name
