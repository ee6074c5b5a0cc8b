"""What a schedule needs of the arena: maps, rings of rows, room of kernels; what, how much, from when to when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


class RequestMaker:
    """Makes the requests of timelines of one graph; what no change touches is the same object each time."""

    def __init__(self, graph: Graph, choices: Sequence[Choice], options: Options) -> None:
        """Prepare requests.

        Args:
            graph: int8 alone.
            choices: a kernel for each layer.
            options: which passes are off.
        """
        self._graph, self._choices, self._options = graph, choices, options
        self._layouts = tensor_layouts(graph, choices)
        self._held = held_by(graph, options)
        self._slotted = slotted_maps(graph, choices)
        self._members: dict[str, list[str]] = {}
        for name, root in self._held.items():
            self._members.setdefault(root, []).append(name)
        self._makers = {layer.output: k for k, layer in enumerate(graph.layers)}
        self._readers: dict[str, list[int]] = {root: [] for root in self._members}
        for k, layer in enumerate(graph.layers):
            for root in {self._held[name] for name in layer.inputs if name in self._held}:
                self._readers[root].append(k)
        self._known: dict[tuple[object, ...], Request] = {}

    def requests(self, timeline: Timeline) -> list[Request]:
        """Everything that the arena has to hold."""
        segments = [segment.layers[0] for segment in timeline.segments for _ in segment.layers]
        lengths = {segment.layers[0]: len(segment.layers) for segment in timeline.segments}
        streams = [len(segment.layers) for segment in timeline.segments if segment.source is not None]

        def when(layers: Iterable[int]) -> tuple[tuple[int, int], ...]:
            """All that the times of these layers depend on."""
            return tuple((segments[k], lengths[segments[k]]) for k in layers)

        found = []
        for root, names in self._members.items():
            made_by = (self._makers[root],) if root in self._makers else (0,)
            key: tuple[object, ...] = root, timeline.rings.get(root), when((*made_by, *self._readers[root]))
            if key not in self._known:
                self._known[key] = self._tensor(timeline, root, names)
            found.append(self._known[key])
        for k, choice in enumerate(self._choices):
            if choice.scratch_bytes:
                key = k, when((k,))
                if key not in self._known:
                    self._known[key] = self._scratch(timeline, k, choice)
                found.append(self._known[key])
        if streams:
            key = COUNTERS, max(streams)
            if key not in self._known:
                size = max(streams) * COUNTER_BYTES
                self._known[key] = Request(COUNTERS, (), size, 1, *_one_piece(size, -1, _end(timeline)))
            found.append(self._known[key])
        return found

    def _tensor(self, timeline: Timeline, root: str, names: Sequence[str]) -> Request:
        graph = self._graph
        rows = map_rows(graph.tensors[root].shape)
        size = tensor_row_bytes(graph, root, self._layouts[root])
        written = timeline.written[root]
        first = 2 * written + 1
        overlaps: dict[str, int] = {}
        last = np.full(rows, -1)
        for name in names:
            last = np.maximum(last, self._last_read(timeline, name, root, rows, overlaps))
        if any(name in graph.outputs for name in names):
            last[:] = _end(timeline)
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

    def _scratch(self, timeline: Timeline, k: int, choice: Choice) -> Request:
        size = -(-choice.scratch_bytes // ALIGNMENT) * ALIGNMENT
        times = timeline.made[k]
        moments = np.concatenate([2 * times, 2 * times + 1])
        moments.sort()
        name = scratch_name(k)
        pieces = _one_piece(size, int(moments[0]), int(moments[-1]))
        return Request(name, (), size, 1, *pieces, {}, moments)

    def _last_read(self, timeline: Timeline, name: str, root: str, rows: int, overlaps: dict[str, int]) -> Numbers:
        """The last moment in which each row of ``root`` is read under this name; notes what may overwrite it."""
        graph = self._graph
        read = timeline.read[name]
        last = np.where(read >= 0, 2 * read + 1, -1)
        if len(last) != rows:  # another shape of the same bytes
            last = np.full(rows, last.max())
        for k in self._readers[root]:
            layer = graph.layers[k]
            if name not in layer.inputs or self._held[layer.output] != layer.output:
                continue
            distance = self._distance(k, root)
            if distance is not None and self._overwrites(timeline, k, root):
                overlaps[layer.output] = max(distance, overlaps.get(layer.output, distance))
                last = np.where(last == 2 * int(timeline.made[k][-1]) + 1, last - 1, last)
        return last

    def _overwrites(self, timeline: Timeline, k: int, root: str) -> bool:
        """Whether layer k is one event, the last that reads these bytes, and these are no ring."""
        if len(timeline.made[k]) != 1 or root in timeline.rings:
            return False
        end = int(timeline.made[k][0])
        names = self._members[root]
        return all(name not in self._graph.outputs and timeline.read[name].max() <= end for name in names)

    def _distance(self, k: int, root: str) -> int | None:
        layer, graph = self._graph.layers[k], self._graph
        if "overlap" in self._options.without or self._choices[k].kernel is None or self._choices[k].rows:
            return None
        output = graph.tensors[layer.output].shape
        distances = [
            overlap_distance(layer, i, graph.tensors[name].shape, output)
            for i, name in enumerate(layer.inputs)
            if self._held.get(name) == root
        ]
        known = [d for d in distances if d is not None]
        return max(known) if len(known) == len(distances) else None


def _end(timeline: Timeline) -> int:
    """The moment behind the last event."""
    return 2 * timeline.end + 1


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
