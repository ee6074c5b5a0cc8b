"""What a schedule needs of the arena: maps, rings of rows, room of kernels; what, how much, from when to when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tinymbn.graph import Graph
from tinymbn.layers import Reshape
from tinymbn_codegen.assignment import Choice
from tinymbn_codegen.kernels import overlap_distance
from tinymbn_codegen.layouts import Layout, row_bytes
from tinymbn_codegen.options import Options
from tinymbn_codegen.schedule import Timeline, map_rows

ALIGNMENT = 4  # so that a kernel may load words

COUNTERS = "rows made"  # the request of the counters that a segment keeps
COUNTER_BYTES = 2

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Request:
    """A piece of the arena that is wanted.

    Attributes:
        name: of the tensor whose bytes these are, or of what else they are.
        tensors: all whose bytes these are: several where a RESHAPE costs nothing.
        size: in bytes.
        slots: rows that it has room for; as many as the map has, or fewer: a ring.
        piece_offsets: of its rows or slots, from its start, ascending.
        piece_sizes: in bytes.
        first: the moment from which each piece is needed; the least one first.
        last: the moment up to which it is.
        overlaps: outputs that may begin below it and grow into it, with the least distance in bytes.
        moments: where it is needed at a few moments alone, all of these; else None.
    """

    name: str
    tensors: tuple[str, ...]
    size: int
    slots: int
    piece_offsets: Numbers
    piece_sizes: Numbers
    first: Numbers
    last: Numbers
    overlaps: Mapping[str, int] = field(default_factory=dict)
    moments: Numbers | None = None

    @cached_property
    def begin(self) -> int:
        """The first moment at which any of it is needed."""
        return int(self.first[0])

    @cached_property
    def until(self) -> int:
        """The last moment at which any of it is needed."""
        return int(self.last.max())

    @cached_property
    def moment_set(self) -> frozenset[int]:
        """``moments``, to be looked up."""
        assert self.moments is not None
        return frozenset(self.moments.tolist())


def make_requests(graph: Graph, choices: Sequence[Choice], timeline: Timeline, options: Options) -> list[Request]:
    """Everything that the arena has to hold."""
    return list(_Requests(graph, choices, timeline, options).all())


def slotted_maps(graph: Graph, choices: Sequence[Choice]) -> set[str]:
    """Maps of which three rows are read at fixed distances."""
    return {
        layer.inputs[0]
        for layer, choice in zip(graph.layers, choices, strict=True)
        if choice.kernel is not None and choice.kernel.slots
    }


def tensor_layouts(graph: Graph, choices: Sequence[Choice]) -> dict[str, Layout]:
    """The layout of each tensor."""
    layouts: dict[str, Layout] = dict.fromkeys(graph.tensors, "nhwc")
    layouts.update({layer.output: choice.target for layer, choice in zip(graph.layers, choices, strict=True)})
    return layouts


def tensor_row_bytes(graph: Graph, name: str, layout: Layout) -> int:
    """Of one of the rows that a tensor is made in."""
    tensor = graph.tensors[name]
    return row_bytes(layout, tensor.shape) if len(tensor.shape) == 3 else tensor.elements


class _Requests:
    def __init__(self, graph: Graph, choices: Sequence[Choice], timeline: Timeline, options: Options) -> None:
        self._graph, self._choices, self._timeline, self._options = graph, choices, timeline, options
        self._layouts = tensor_layouts(graph, choices)
        self._end = 2 * timeline.end + 1
        self._held = held_by(graph, options)
        self._slotted = slotted_maps(graph, choices)

    def all(self) -> Iterator[Request]:
        members: dict[str, list[str]] = {}
        for name, root in self._held.items():
            members.setdefault(root, []).append(name)
        for root, names in members.items():
            yield self._tensor(root, names)
        for k, choice in enumerate(self._choices):
            if choice.scratch_bytes:
                yield self._scratch(k, choice)
        streams = [len(s.layers) for s in self._timeline.segments if s.source is not None]
        if streams:
            yield Request(
                COUNTERS, (), max(streams) * COUNTER_BYTES, 1, *_one_piece(max(streams) * COUNTER_BYTES, -1, self._end)
            )

    def _tensor(self, root: str, names: Sequence[str]) -> Request:
        graph, timeline = self._graph, self._timeline
        rows = map_rows(graph.tensors[root].shape)
        size = tensor_row_bytes(graph, root, self._layouts[root])
        written = timeline.written[root]
        first = 2 * written + 1
        overlaps: dict[str, int] = {}
        last = np.full(rows, -1)
        for name in names:
            last = np.maximum(last, self._last_read(name, root, rows, overlaps))
        if any(name in graph.outputs for name in names):
            last[:] = self._end
        last = np.maximum(last, first)
        if root == graph.input:  # fed just before the event that is counted; a frame lies there from the beginning
            first = 2 * written if root in timeline.rings else np.full(rows, -1)
        slots = timeline.rings.get(root, rows)
        if slots < rows:
            slots = max(slots, 3) if root in self._slotted else slots
            return self._ring(root, slots, size, first, last)
        offsets = np.arange(rows) * size
        room = max(rows, 3) if root in self._slotted else rows
        order = np.argsort(first, kind="stable")
        sizes = np.full(rows, size)
        return Request(
            root, tuple(names), room * size, rows, offsets[order], sizes, first[order], last[order], overlaps
        )

    def _ring(self, name: str, slots: int, size: int, first: Numbers, last: Numbers) -> Request:
        rows = np.arange(len(first))
        begin = first[:slots]
        end = np.array([last[rows % slots == slot].max() for slot in range(slots)])
        moments = None
        if slots == 1:  # a row between two layers: what other such rows may lie over
            moments = np.unique(np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last, strict=True)]))
        return Request(
            name, (name,), slots * size, slots, np.arange(slots) * size, np.full(slots, size), begin, end, {}, moments
        )

    def _scratch(self, k: int, choice: Choice) -> Request:
        size = -(-choice.scratch_bytes // ALIGNMENT) * ALIGNMENT
        times = self._timeline.made[k]
        moments = np.concatenate([2 * times, 2 * times + 1])
        moments.sort()
        name = scratch_name(k)
        pieces = _one_piece(size, int(moments[0]), int(moments[-1]))
        return Request(name, (), size, 1, *pieces, {}, moments)

    def _last_read(self, name: str, root: str, rows: int, overlaps: dict[str, int]) -> Numbers:
        """The last moment in which each row of ``root`` is read under this name; notes what may overwrite it."""
        graph, timeline = self._graph, self._timeline
        read = timeline.read[name]
        last = np.where(read >= 0, 2 * read + 1, -1)
        if len(last) != rows:  # another shape of the same bytes
            last = np.full(rows, last.max())
        for k, layer in enumerate(graph.layers):
            if name not in layer.inputs or self._held[layer.output] != layer.output:
                continue
            distance = self._distance(k, root)
            if distance is not None and self._overwrites(k, root):
                overlaps[layer.output] = max(distance, overlaps.get(layer.output, distance))
                last = np.where(last == 2 * int(timeline.made[k][-1]) + 1, last - 1, last)
        return last

    def _overwrites(self, k: int, root: str) -> bool:
        """Whether layer k is one event, the last that reads these bytes, and streams neither."""
        layer, timeline = self._graph.layers[k], self._timeline
        if len(timeline.made[k]) != 1 or layer.output in timeline.rings or root in timeline.rings:
            return False
        end = int(timeline.made[k][0])
        names = [name for name, of in self._held.items() if of == root]
        return all(name not in self._graph.outputs and timeline.read[name].max() <= end for name in names)

    def _distance(self, k: int, root: str) -> int | None:
        layer, graph = self._graph.layers[k], self._graph
        if "overlap" in self._options.without or self._choices[k].kernel is None:
            return None
        output = graph.tensors[layer.output].shape
        distances = [
            overlap_distance(layer, i, graph.tensors[name].shape, output)
            for i, name in enumerate(layer.inputs)
            if self._held.get(name) == root
        ]
        known = [d for d in distances if d is not None]
        return max(known) if len(known) == len(distances) else None


def scratch_name(k: int) -> str:
    """Of the request of what layer k needs for itself."""
    return f"scratch of layer {k}"


def held_by(graph: Graph, options: Options) -> dict[str, str]:
    """For each tensor in the arena the one whose bytes it shares: itself, or what a RESHAPE reads."""
    held = {graph.input: graph.input}
    for layer in graph.layers:
        alias = isinstance(layer, Reshape) and "alias_reshape" not in options.without
        # A constant is not in the arena: its RESHAPE is a copy.
        held[layer.output] = held.get(layer.inputs[0], layer.output) if alias else layer.output
    return held


def _one_piece(size: int, first: int, last: int) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    return np.zeros(1, np.int64), np.array([size]), np.array([first]), np.array([last])
