"""The float network under construction while an ``.onnx`` is lowered, node by node.

ONNX has maps as (N, C, H, W) and moves axes about at will; a float graph has (H, W, C) alone and moves nothing. So each
tensor of the file is kept as an array of its own shape that says which element of which tensor of the graph each of its
elements is. Transpose, Reshape, Flatten, Squeeze and Pad are then those of NumPy, and end in this module.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.graph import Quant
from tinymbn.importers.onnx.file import OnnxFile
from tinymbn.layers import Padding, Reshape, Shape
from tinymbn.quantize import AnyFloatLayer, BatchNorm
from tinymbn.quantize.given import GivenWeights

Array = NDArray[np.float32]
Order = Sequence[int]

_MAX_ELEMENTS = 1 << 24  # of a tensor; a map of 1024x1024x16
# Of all tensors and weights that nodes make, so that no small file asks for much time and memory; a MobileNetV2 of
# 224x224 has 20 million.
_MAX_ELEMENTS_IN_ALL = 1 << 27
_PADDING = -1  # the index of an element that is in no tensor: a zero


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
class Value:
    """A tensor of the file that depends on the input.

    Attributes:
        tensor: of the graph.
        indices: int32, of the shape in the file: which element of the flat tensor each is.
    """

    tensor: str
    indices: NDArray[np.int32]

    @property
    def shape(self) -> Shape:
        """In the file."""
        return self.indices.shape


def channels_last(rank: int) -> Order:
    """The axes of (N, C, ...) in the order (N, ..., C)."""
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


def byte_offset(dtype: np.dtype[Any]) -> int:
    """By how much a byte is higher than as int8."""
    return 128 if dtype == np.uint8 else 0


class Lowering:
    """Tensors and layers made so far.

    Attributes:
        file: what is lowered.
        found: the file's tensors by name.
        layers: in running order.
        shapes: of the graph's tensors, without the batch.
        quants: of those that a QuantizeLinear or DequantizeLinear stands on.
        weights: integers of layers with weights, by the layer's name; None where the file has real numbers.
    """

    def __init__(self, file: OnnxFile, input_shape: Shape, order: Order) -> None:
        """Begin with an input of this shape, of which the graph has the axes in this order."""
        self.file = file
        self.found: dict[str, Constant | Value] = {name: Constant(x) for name, x in file.constants.items()}
        self.layers: list[AnyFloatLayer] = []
        self.shapes: dict[str, Shape] = {}
        self.quants: dict[str, Quant] = {}
        self.weights: dict[str, GivenWeights | None] = {}
        self._reshaped: dict[tuple[str, Shape], str] = {}
        self._maker: dict[str, AnyFloatLayer] = {}
        self._names = {
            file.input,
            *file.constants,
            *(name for node in file.nodes for name in (*node.outputs, node.name)),
        }
        self._all_indices = np.zeros(0, np.int32)
        self._elements = 0
        self.shapes[file.input] = tuple(input_shape[axis] for axis in order[1:])
        self.found[file.input] = self._in_order(file.input, input_shape, order)

    # ---------------------------------------------------------------------------------- what nodes read

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
        with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite, and refused
            values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise ModelError(f'tensor "{name}" has values that are not finite numbers')
        return values

    def value(self, name: str) -> Value:
        """An operand that depends on the input."""
        found = self.found.get(name)
        if found is None:
            raise ModelError(f'nothing makes tensor "{name}"')
        if isinstance(found, Constant):
            raise UnsupportedError(f'"{name}" is constant')
        return found

    def is_in_order(self, indices: NDArray[np.int32]) -> bool:
        """Whether these are all elements of a tensor, one after another."""
        return bool((indices.ravel() == self._indices(indices.size)).all())

    def order_of(self, *values: Value) -> Order:
        """The order in which the axes of values of one rank are those of the graph's tensors, Reshapes avoided."""
        rank = values[0].indices.ndim
        found: list[Order] = []
        for order in (channels_last(rank), tuple(range(rank))):
            moved = [value.indices.transpose(order) for value in values]
            if all(self.is_in_order(indices) for indices in moved):
                pairs = zip(values, moved, strict=True)
                if all(self.shapes[value.tensor] == indices.shape[1:] for value, indices in pairs):
                    return order
                found.append(order)
        return found[0] if found else channels_last(rank)

    def read(self, value: Value, order: Order) -> str:
        """The graph's tensor of the value's axes in this order, the batch left out: a Reshape where it needs one."""
        moved = value.indices.transpose(order)
        if not self.is_in_order(moved):
            padded = bool((value.indices == _PADDING).any())
            raise UnsupportedError(
                "it reads padding, which only a convolution may" if padded else "its input's axes are out of order"
            )
        if len(moved) != 1:
            raise UnsupportedError(f"input of shape {value.shape}; expected a batch of 1")
        return self.reshaped(value.tensor, moved.shape[1:] or (1,))

    def read_padded(self, value: Value) -> tuple[str, Padding]:
        """The map (H, W, C) in a value (1, C, H, W), and the zeros around it."""
        if value.indices.ndim != 4:
            raise UnsupportedError(f"input of shape {value.shape}; expected (1, C, H, W)")
        inside = (value.indices != _PADDING).any(axis=(0, 1))
        (rows,), (columns,) = inside.any(axis=1).nonzero(), inside.any(axis=0).nonzero()
        if not rows.size:
            raise UnsupportedError("it reads nothing but padding")
        around = Padding(
            int(rows[0]), len(inside) - 1 - int(rows[-1]), int(columns[0]), inside.shape[1] - 1 - int(columns[-1])
        )
        cut = value.indices[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return self.read(Value(value.tensor, cut), channels_last(4)), around

    def by_channel(self, value: Value, *constants: Array) -> tuple[Value, list[Array]]:
        """Constants that broadcast to the value, as one number for each channel of the graph's tensor, (C,) each.

        Where they are something else, the value is of the tensor as a row, in which every element is a channel.
        """
        if (value.indices == _PADDING).any():
            raise UnsupportedError("it reads padding, which only a convolution may")
        flat = [self._spread(value, values) for values in constants]
        by_place = [values.reshape(-1, self.shapes[value.tensor][-1]) for values in flat]
        if all((places == places[0]).all() for places in by_place):
            return value, [np.array(places[0]) for places in by_place]
        return Value(self.reshaped(value.tensor, (value.indices.size,)), value.indices), flat

    def _spread(self, value: Value, values: Array) -> Array:
        """A constant that broadcasts to the value, for each element of the graph's tensor, flat."""
        while values.ndim > value.indices.ndim and len(values) == 1:
            values = values[0]
        try:
            spread = np.broadcast_to(values, value.shape)
        except ValueError:
            raise UnsupportedError(f"a constant of shape {values.shape} with input {value.shape}") from None
        flat = np.empty(value.indices.size, np.float32)
        flat[value.indices.ravel()] = spread.ravel()
        return flat

    def maker(self, tensor: str) -> AnyFloatLayer | None:
        """The layer that makes a tensor of the graph."""
        return self._maker.get(tensor)

    # ---------------------------------------------------------------------------------- what nodes make

    def set(self, name: str, made: Constant | Value) -> None:
        """Let a tensor of the file be this."""
        if name in self.found:
            raise ModelError(f'tensor "{name}" is made twice')
        elements = made.indices.size if isinstance(made, Value) else made.values.size
        if isinstance(made, Value) and not elements:
            raise ModelError(f'tensor "{name}" has no elements')
        self._spend(elements)
        self.found[name] = made

    def add(self, layer: AnyFloatLayer) -> Shape:
        """Add a layer; its output's shape."""
        shape = layer.output_shape(*(self.shapes[name] for name in layer.inputs))
        if layer.output in self.shapes:
            raise ModelError(f'tensor "{layer.output}" is made twice')
        self._spend(layer.parameters)
        self.layers.append(layer)
        self.shapes[layer.output] = shape
        self._maker[layer.output] = layer
        return shape

    def make(self, layer: AnyFloatLayer, order: Order, file_shape: Shape | None = None) -> None:
        """Add a layer whose output is a tensor of the file.

        Args:
            layer: what makes it.
            order: the axes of the file's tensor that the layer's output has, the batch included.
            file_shape: its shape, where it differs from the layer's by sizes of 1.
        """
        shape = self.add(layer)
        if file_shape is None:
            sizes = (1, *shape)
            file_shape = tuple(sizes[list(order).index(axis)] for axis in range(len(order)))
        self.set(layer.output, self._in_order(layer.output, file_shape, order))

    def make_alike(self, layer: AnyFloatLayer, value: Value) -> None:
        """Add a layer whose output has its elements where the value's tensor has them."""
        self.add(layer)
        self.set(layer.output, Value(layer.output, value.indices))

    def scale_and_shift(self, name: str, value: Value, output: str, factor: Array, offset: Array) -> None:
        """Multiply and add constants, by channel: a batch-norm, which the convolution before it takes in."""
        value, (gamma, beta) = self.by_channel(value, factor, offset)
        rest = np.zeros_like(gamma), np.ones_like(gamma), 0.0
        self.make_alike(BatchNorm(name, (value.tensor,), output, gamma, beta, *rest), value)

    def reshaped(self, tensor: str, shape: Shape) -> str:
        """The tensor in another shape."""
        if self.shapes[tensor] == shape:
            return tensor
        if (tensor, shape) not in self._reshaped:
            name = self._reshaped[tensor, shape] = self.invented(f"{tensor}/{'x'.join(map(str, shape))}")
            self.add(Reshape(name, (tensor,), name, shape))
        return self._reshaped[tensor, shape]

    def rescaled(self, tensor: str, name: str) -> str:
        """A tensor of the same real values that may have another scale: a Reshape to the shape that it has."""
        self.add(Reshape(name, (tensor,), name, self.shapes[tensor]))
        return name

    def invented(self, base: str) -> str:
        """A name that the file does not have."""
        name = base
        while name in self.shapes or name in self._names:
            name += "'"
        return name

    def padded(self, value: Value, pads: Sequence[tuple[int, int]]) -> Value:
        """Zeros around a value, (before, after) of each axis."""
        sizes = [before + size + after for (before, after), size in zip(pads, value.shape, strict=True)]
        self.require_room(math.prod(sizes))
        return Value(value.tensor, np.pad(value.indices, pads, constant_values=_PADDING))

    def require_room(self, elements: int) -> None:
        """Refuse a tensor that is too large to be kept.

        Raises:
            UnsupportedError: it is.
        """
        if elements > _MAX_ELEMENTS:
            raise UnsupportedError(f"a tensor of {elements} elements; expected at most {_MAX_ELEMENTS}")

    def _in_order(self, tensor: str, file_shape: Shape, order: Order) -> Value:
        """A tensor of the graph with its axes as the file has them; ``order`` is that of the graph."""
        moved = tuple(file_shape[axis] for axis in order)
        indices = self._indices(math.prod(moved)).reshape(moved)
        return Value(tensor, indices.transpose(np.argsort(order)))

    def _spend(self, elements: int) -> None:
        self._elements += elements
        if self._elements > _MAX_ELEMENTS_IN_ALL:
            raise UnsupportedError(f"more than {_MAX_ELEMENTS_IN_ALL} elements of tensors and weights in all")

    def _indices(self, count: int) -> NDArray[np.int32]:
        """0, 1, ..., count - 1; all of them are views of one array."""
        self.require_room(count)
        if count > self._all_indices.size:
            self._all_indices = np.arange(count, dtype=np.int32)
        return self._all_indices[:count]
