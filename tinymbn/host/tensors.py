"""Where each tensor of a graph is kept while its program runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tinymbn.graph import Graph
from tinymbn.host.placement import CHANNEL_MULTIPLE, Placement, as_map, merged, round_up
from tinymbn.host.program import Address, Buffer, ProgramBuilder
from tinymbn.kernels.fast.instruction_set import InstructionSet
from tinymbn.layers import (
    AnyLayer,
    Concat,
    Conv2D,
    Depthwise,
    Dequantize,
    Pad,
    Padding,
    Quantize,
    Reshape,
    ResizeNearest,
    Transpose,
    Window,
)

# Kernels that write, and that read, elements at any distance; others want channels in eights.
_MOVED = (Quantize, Pad, Concat, Transpose, ResizeNearest)
_READ_ANYWHERE = (Conv2D, Pad, Concat, Transpose, ResizeNearest)


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
        self._makers = {layer.output: layer for layer in graph.layers}
        self._readers: dict[str, list[AnyLayer]] = {name: [] for name in graph.tensors}
        for layer in graph.layers:
            for name in set(layer.inputs):
                self._readers[name].append(layer)
        self.placements = {name: self._placement(name) for name in self._names}
        self._owner = {name: name for name in self._names}
        for layer in reversed(graph.layers):  # what is padded twice gets both borders
            if isinstance(layer, Pad):
                self._pad_in_place(layer)
        for layer in graph.layers:
            if isinstance(layer, Pad) and self.shares_memory(layer):
                self._place_in_border(layer)  # the border is known now: several may have widened it
            if isinstance(layer, Reshape) and self._is_in_place(layer):
                self._owner[layer.output] = layer.inputs[0]
        self._addresses: dict[str, Address] = {}
        for name, values in graph.constants.items():
            place = self.placements[name]
            elements = np.full(place.size, graph.tensors[name].zero_point + isa.offset, isa.element)
            elements[place.offsets()] = values.astype(np.int64) + isa.offset
            self._addresses[name] = builder.constant(elements)
        for name, (first, last) in self._lifetimes().items():
            size = self.placements[name].size * isa.element.itemsize
            builder.buffers[name] = Buffer(size, first, last)
            self._addresses[name] = Address("arena", name)

    def base(self, name: str) -> Address:
        """Where the tensor begins, its border included."""
        return self._addresses[self._root(name)]

    def first(self, name: str) -> Address:
        """The tensor's first element."""
        return self.base(name) + self.placements[name].first * self._isa.element.itemsize

    def shares_memory(self, layer: AnyLayer) -> bool:
        """Whether what a layer makes is its input under another name."""
        return self._owner[layer.output] != layer.output

    def _root(self, name: str) -> str:
        """The tensor whose memory it is."""
        while self._owner[name] != name:
            name = self._owner[name]
        return name

    def _placement(self, name: str) -> Placement:
        shape = self._graph.tensors[name].shape
        border = Padding()
        for layer in self._readers[name]:
            if isinstance(layer, Conv2D | Depthwise):
                border = merged(border, border_for(layer.window, shape))
        # Of few channels convolutions read a row of pixels at a time, if there are no gaps.
        is_moved = name == self._graph.input or isinstance(self._makers.get(name), _MOVED)
        dense = is_moved and all(isinstance(layer, _READ_ANYWHERE) for layer in self._readers[name])
        return Placement(shape, border, shape[-1] if dense else round_up(shape[-1], CHANNEL_MULTIPLE))

    def _pad_in_place(self, layer: Pad) -> None:
        """Make a padded map of zero points the map itself with its border, where that is all that it is."""
        name, made = layer.inputs[0], layer.output
        one, other = self.placements[name], self.placements[made]
        outside = layer.value != self._graph.tensors[name].zero_point or name in self._graph.constants
        if outside or len(one.shape) != 3 or layer.pads[2] != (0, 0) or one.pixel != other.pixel:
            return
        (top, bottom), (left, right), _ = layer.pads
        inner = other.border
        pads = Padding(inner.top + top, inner.bottom + bottom, inner.left + left, inner.right + right)
        self.placements[name] = replace(one, border=merged(one.border, pads))
        self._owner[made] = name

    def _place_in_border(self, layer: Pad) -> None:
        """Leave to a map that is another with its border what that has around it."""
        border = self.placements[layer.inputs[0]].border
        (top, bottom), (left, right), _ = layer.pads
        rest = Padding(border.top - top, border.bottom - bottom, border.left - left, border.right - right)
        self.placements[layer.output] = replace(self.placements[layer.output], border=rest)

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
                owner = self._root(name)
                first, last = spans.get(owner, (index, index))
                spans[owner] = min(first, index), max(last, index)
        return spans

    def _uses(self) -> Iterator[tuple[str, int]]:
        yield self._graph.input, 0
        end = len(self._graph.layers)
        for index, layer in enumerate(self._graph.layers):
            # What becomes an output in another type does so when all is done.
            last = end if isinstance(layer, Dequantize) else index
            yield from ((name, last) for name in layer.inputs)
            yield layer.output, index
        yield from ((name, end) for name in self._graph.outputs)


def border_for(window: Window, shape: tuple[int, ...]) -> Padding:
    """The rows and columns that a window reaches outside a map."""
    rows, columns, _ = as_map(shape)
    out_rows, out_columns = window.output_size(rows, columns)
    bottom = (out_rows - 1) * window.stride[0] + window.extent[0] - window.padding.top - rows
    right = (out_columns - 1) * window.stride[1] + window.extent[1] - window.padding.left - columns
    return Padding(window.padding.top, max(bottom, 0), window.padding.left, max(right, 0))
