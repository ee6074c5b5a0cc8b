"""The float graph under construction while a file is lowered that has maps as (N, C, H, W).

Such files move axes about at will; a float graph has (H, W, C) alone and moves nothing. So each tensor of the file is
kept as an array of its own shape that says which element of which tensor of the graph each of its elements is.
To transpose, reshape, flatten, squeeze and pad is then NumPy's, and ends in this module.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.graph import Quant
from tinymbn.importers.pixels import guessed_preprocessing
from tinymbn.importers.weights import Array
from tinymbn.layers import Padding, Reshape, Shape
from tinymbn.quantize import AnyFloatLayer, FloatGraph

Order = Sequence[int]

_MAX_ELEMENTS = 1 << 24  # of a tensor; a map of 1024x1024x16
# Of all tensors and weights that a file makes, so that no small one asks for much time and memory; a MobileNetV2 of
# 224x224 has 20 million.
_MAX_ELEMENTS_IN_ALL = 1 << 28
_PADDING = -1  # the index of an element that is in no tensor: a zero


class Node(Protocol):
    """What a file's node is called, and the first tensor that it makes."""

    @property
    def name(self) -> str:
        """Unique in the file."""

    @property
    def output(self) -> str:
        """Likewise."""


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

    def moved(self, indices: NDArray[np.int32]) -> Value:
        """The same elements in other places."""
        return replace(self, indices=indices)

    def require_no_padding(self) -> None:
        """Refuse zeros that are in no tensor."""
        if (self.indices == _PADDING).any():
            raise UnsupportedError("it reads padding, which only a convolution may")

    def require_map(self) -> None:
        """Refuse what is no map."""
        if self.indices.ndim != 4 or len(self.indices) != 1:
            raise UnsupportedError(f"input of shape {self.shape}; expected (1, C, H, W)")


def channels_last(rank: int) -> Order:
    """The axes of (N, C, ...) in the order (N, ..., C)."""
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


def has_batch(shape: Shape) -> bool:
    """Whether a shape in the file begins with the batch of 1, which the graph's tensors do without."""
    return len(shape) > 1 and shape[0] == 1


def without_batch(shape: Shape) -> Shape:
    """As the graph has it."""
    return shape[1:] if has_batch(shape) else shape or (1,)


class Lowering:
    """Tensors and layers made so far.

    Attributes:
        input: the name of the graph's one input.
        layers: in running order.
        shapes: of the graph's tensors, without the batch.
        quants: of those that the file says the scale of; of none, where it is not quantised.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Begin with nothing; these names are the file's."""
        self.input = ""
        self.layers: list[AnyFloatLayer] = []
        self.shapes: dict[str, Shape] = {}
        self.quants: dict[str, Quant] = {}
        self._names = set(names)
        self._reshaped: dict[tuple[str, Shape], str] = {}
        self._reshaping: dict[tuple[str, Shape], str] = {}  # nodes that do so
        self._maker: dict[str, AnyFloatLayer] = {}
        self._all_indices = np.zeros(0, np.int32)
        self._elements = 0

    def begin(self, name: str, shape: Shape, order: Order) -> Value:
        """The graph's input, which has the axes of the file's in this order."""
        self.input = name
        return self.given(name, shape, order)

    def given(self, name: str, shape: Shape, order: Order) -> Value:
        """A tensor that no layer makes."""
        value = self.in_order(name, shape, order)
        self.shapes[name] = without_batch(tuple(shape[axis] for axis in order))
        return value

    def graph(self, name: str, outputs: Sequence[str]) -> FloatGraph:
        """The layers that an output hangs on."""
        wanted, needed = set(outputs), []
        for layer in reversed(self.layers):
            if layer.output in wanted:
                wanted.update(layer.inputs)
                needed.append(layer)
        layers = tuple(reversed(needed))
        return FloatGraph(
            name,
            self.input,
            self.shapes[self.input],
            layers,
            tuple(outputs),
            preprocessing=guessed_preprocessing(layers),
        )

    # ---------------------------------------------------------------------------------- what layers read

    def is_in_order(self, indices: NDArray[np.int32]) -> bool:
        """Whether these are all elements of a tensor, one after another."""
        self.spend(indices.size // 16)  # to compare takes less than to make, but any number of nodes may ask for it
        return bool((indices.ravel() == self._indices(indices.size)).all())

    def is_straight(self, value: Value) -> bool:
        """Whether a value has its elements as its tensor has them, or is one of channels last."""
        last = channels_last(value.indices.ndim)
        return self.is_in_order(value.indices) or self.is_in_order(value.indices.transpose(last))

    def order_of(self, *values: Value) -> Order:
        """The order in which the axes of values of one rank are those of the graph's tensors, Reshapes avoided."""
        rank = values[0].indices.ndim
        found: list[Order] = []
        for order in (channels_last(rank), tuple(range(rank))):
            moved = [value.indices.transpose(order) for value in values]
            if all(self.is_in_order(indices) for indices in moved):
                pairs = zip(values, moved, strict=True)
                if all(self.shapes[value.tensor] == without_batch(indices.shape) for value, indices in pairs):
                    return order
                found.append(order)
        return found[0] if found else channels_last(rank)

    def read(self, value: Value, order: Order) -> str:
        """The graph's tensor of the value's axes in this order, the batch left out: a Reshape where it needs one."""
        moved = value.indices.transpose(order)
        if not self.is_in_order(moved):
            value.require_no_padding()
            raise UnsupportedError("its input's axes are out of order")
        return self.reshaped(value.tensor, without_batch(moved.shape))

    def output_tensor(self, name: str, value: Value) -> str:
        """The graph's tensor of an output of the file, in the file's shape but for the order of a map's axes."""
        value.require_no_padding()
        if not self.is_straight(value):
            raise UnsupportedError(f'output "{name}" is a map whose axes were moved or flattened; expected scores')
        return self.read(value, self.order_of(value))

    def read_map(self, value: Value) -> str:
        """The map (H, W, C) that a value (1, C, H, W) is."""
        value.require_map()
        return self.read(value, channels_last(4))

    def read_padded(self, value: Value) -> tuple[str, Padding]:
        """The map (H, W, C) in a value (1, C, H, W), and the zeros around it."""
        value.require_map()
        inside = (value.indices != _PADDING).any(axis=(0, 1))
        (rows,), (columns,) = inside.any(axis=1).nonzero(), inside.any(axis=0).nonzero()
        if not rows.size:
            raise UnsupportedError("it reads nothing but padding")
        around = Padding(
            int(rows[0]), len(inside) - 1 - int(rows[-1]), int(columns[0]), inside.shape[1] - 1 - int(columns[-1])
        )
        cut = value.indices[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return self.read_map(value.moved(cut)), around

    def by_channel(self, value: Value, *constants: Array) -> tuple[Value, list[Array]]:
        """Constants that broadcast to the value, as one number for each channel of the graph's tensor, (C,) each.

        Where they are something else, the value is of the tensor as a row, in which every element is a channel.
        """
        value.require_no_padding()
        flat = [self._spread(value, values) for values in constants]
        by_place = [values.reshape(-1, self.shapes[value.tensor][-1]) for values in flat]
        if all((places == places[0]).all() for places in by_place):
            return value, [np.array(places[0]) for places in by_place]
        return replace(value, tensor=self.reshaped(value.tensor, (value.indices.size,))), flat

    def _spread(self, value: Value, values: Array) -> Array:
        """A constant that broadcasts to the value, for each element of the graph's tensor, flat."""
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

    # ---------------------------------------------------------------------------------- what layers make

    def add(self, layer: AnyFloatLayer) -> Shape:
        """Add a layer; its output's shape."""
        shape = layer.output_shape(*(self.shapes[name] for name in layer.inputs))
        if layer.output in self.shapes:
            raise ModelError(f'tensor "{layer.output}" is made twice')
        self.require_room(math.prod(shape))
        self.spend(layer.parameters)
        self.layers.append(layer)
        self.shapes[layer.output] = shape
        self._maker[layer.output] = layer
        return shape

    def make(self, layer: AnyFloatLayer, order: Order, file_shape: Shape | None = None) -> Value:
        """Add a layer.

        Args:
            layer: what makes the value.
            order: the axes of the file's tensor that the layer's output has, the batch included.
            file_shape: its shape, where it differs from (1, *the layer's) by sizes of 1.
        """
        shape = (1, *self.add(layer))
        return self.in_order(layer.output, file_shape or tuple(shape[axis] for axis in np.argsort(order)), order)

    def make_alike(self, layer: AnyFloatLayer, value: Value) -> Value:
        """Add a layer whose output has its elements where the value's tensor has them."""
        self.add(layer)
        return replace(value, tensor=layer.output)

    def reshaped(self, tensor: str, shape: Shape) -> str:
        """The tensor in another shape."""
        if self.shapes[tensor] == shape:
            return tensor
        if (tensor, shape) not in self._reshaped:
            # A flattened map has its elements in another order than the file's: a tensor with another name.
            output = self.invented(f"{tensor}/{'x'.join(map(str, shape))}")
            self.add(Reshape(self._reshaping.get((tensor, shape), output), (tensor,), output, shape))
            self._reshaped[tensor, shape] = output
        return self._reshaped[tensor, shape]

    def move(self, node: Node, value: Value, indices: NDArray[Any]) -> Value:
        """What a node makes that only moves elements; a Reshape that is needed for it has the node's name."""
        self._reshaping.setdefault((value.tensor, without_batch(indices.shape)), node.name)
        return value.moved(indices)

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
        return value.moved(np.pad(value.indices, pads, constant_values=_PADDING))

    def require_room(self, elements: int) -> None:
        """Refuse a tensor that is too large to be kept.

        Raises:
            UnsupportedError: it is.
        """
        if elements > _MAX_ELEMENTS:
            raise UnsupportedError(f"a tensor of {elements} elements; expected at most {_MAX_ELEMENTS}")

    def spend(self, elements: int) -> None:
        """Take part of what all tensors and weights may be together.

        Raises:
            ModelError: there is nothing left, for what follows neither.
        """
        self._elements += elements
        if self._elements > _MAX_ELEMENTS_IN_ALL:
            raise ModelError(f"more than {_MAX_ELEMENTS_IN_ALL} elements of tensors and weights in all")

    def in_order(self, tensor: str, file_shape: Shape, order: Order) -> Value:
        """A tensor of the graph with its axes as the file has them; ``order`` is that of the graph."""
        moved = tuple(file_shape[axis] for axis in order)
        indices = self._indices(math.prod(moved)).reshape(moved)
        return Value(tensor, indices.transpose(np.argsort(order)))

    def _indices(self, count: int) -> NDArray[np.int32]:
        """0, 1, ..., count - 1; all of them are views of one array."""
        self.require_room(count)
        if count > self._all_indices.size:
            self._all_indices = np.arange(count, dtype=np.int32)
        return self._all_indices[:count]
