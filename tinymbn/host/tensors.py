"""Where each tensor of a graph is kept while its program runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinymbn.graph import Graph
from tinymbn.host.placement import CHANNEL_MULTIPLE, Placement, as_map, merged, round_up
from tinymbn.host.program import Address, Buffer, ProgramBuilder
from tinymbn.kernels.fast.instruction_set import InstructionSet
from tinymbn.layers import Conv2D, Depthwise, Padding, Reshape, Window


class Tensors:
    """The int8 tensors' placements and addresses.

    Args:
        graph: whose tensors.
        isa: how elements are stored.
        builder: where buffers and constants go.
    """

    def __init__(self, graph: Graph, isa: InstructionSet, builder: ProgramBuilder) -> None:
        self._graph, self._isa, self._builder = graph, isa, builder
        self._names = {name for name, tensor in graph.tensors.items() if tensor.dtype == "int8"}
        self.placements = {name: self._placement(name) for name in self._names}
        self._owner = {name: name for name in self._names}
        for layer in graph.layers:
            if isinstance(layer, Reshape) and self._is_in_place(layer):
                self._owner[layer.output] = self._owner[layer.inputs[0]]
        self._addresses: dict[str, Address] = {}
        for name, values in graph.constants.items():
            place = self.placements[name]
            elements = np.zeros(place.size, isa.element)
            elements[place.offsets()] = values.astype(np.int64) + isa.offset
            self._addresses[name] = builder.constant(elements)
        for name, (first, last) in self._lifetimes().items():
            size = self.placements[name].size * isa.element.itemsize
            builder.buffers[name] = Buffer(size, first, last)
            self._addresses[name] = Address("arena", name)

    def base(self, name: str) -> Address:
        """Where the tensor begins, its border included."""
        return self._addresses[self._owner[name]]

    def first(self, name: str) -> Address:
        """The tensor's first element."""
        return self.base(name) + self.placements[name].first * self._isa.element.itemsize

    def shares_memory(self, layer: Reshape) -> bool:
        """Whether a reshaped tensor is its input under another name."""
        return self._owner[layer.output] == self._owner[layer.inputs[0]]

    def _placement(self, name: str) -> Placement:
        shape = self._graph.tensors[name].shape
        border = Padding()
        readers = [layer for layer in self._graph.layers if name in layer.inputs]
        for layer in readers:
            if isinstance(layer, Conv2D | Depthwise):
                border = merged(border, border_for(layer.window, shape))
        channels = shape[-1]
        # An image of few channels is read by convolutions a row of pixels at a time, if there are no gaps.
        dense = name == self._graph.quantized_input.name and readers and all(isinstance(x, Conv2D) for x in readers)
        pixel = channels if dense else round_up(channels, CHANNEL_MULTIPLE)
        return Placement(shape, border, pixel)

    def _is_in_place(self, layer: Reshape) -> bool:
        one, other = self.placements[layer.inputs[0]], self.placements[layer.output]
        if one.has_border or other.has_border or layer.inputs[0] in self._graph.constants:
            return False
        return np.array_equal(one.offsets().ravel(), other.offsets().ravel())

    def _lifetimes(self) -> dict[str, tuple[int, int]]:
        """From the layer that makes a tensor to the last that reads it, names for the same memory together."""
        spans: dict[str, tuple[int, int]] = {}
        for name, index in self._uses():
            if name in self._names and name not in self._graph.constants:
                owner = self._owner[name]
                first, last = spans.get(owner, (index, index))
                spans[owner] = min(first, index), max(last, index)
        return spans

    def _uses(self) -> Iterator[tuple[str, int]]:
        yield self._graph.input, 0
        for index, layer in enumerate(self._graph.layers):
            yield from ((name, index) for name in (*layer.inputs, layer.output))
        yield from ((name, len(self._graph.layers)) for name in self._graph.outputs)


def border_for(window: Window, shape: tuple[int, ...]) -> Padding:
    """The rows and columns that a window reaches outside a map."""
    rows, columns, _ = as_map(shape)
    out_rows, out_columns = window.output_size(rows, columns)
    bottom = (out_rows - 1) * window.stride[0] + window.extent[0] - window.padding.top - rows
    right = (out_columns - 1) * window.stride[1] + window.extent[1] - window.padding.left - columns
    return Padding(window.padding.top, max(bottom, 0), window.padding.left, max(right, 0))
