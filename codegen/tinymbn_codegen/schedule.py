"""In what order the rows of all layers are made, and from when to when each row is needed.

Layers run one after the other, in *segments*. A segment is one layer, or several that stream: of the maps between them
only a ring of a few rows exists. Such a segment is driven by the rows of the map that its first layer reads: as each
becomes known, every layer of the segment, in order, makes one row if it can.

Time counts in events; an event is one call of a kernel.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinymbn.graph import Graph
from tinymbn.layers import AnyLayer, AveragePool, Conv2D, Depthwise, MaxPool, Reshape, Window
from tinymbn_codegen.assignment import Choice

Times = NDArray[np.int64]

NEVER = -1


@dataclass(frozen=True)
class Segment:
    """Layers that run together.

    Attributes:
        layers: their numbers, ascending without a gap.
        source: the map whose rows drive it; None where it is one layer that does not stream.
        source_rows: of that map.
        passes: how often each layer gets its turn until all rows are made: once for each row of the source, and more.
    """

    layers: tuple[int, ...]
    source: str | None
    source_rows: int
    passes: int = 0


@dataclass(frozen=True, eq=False)
class Reads:
    """Which rows of an input each output row needs.

    Attributes:
        first: of each output row the first, (rows,).
        last: of each output row the last; the needed rows have no gap, though a kernel may step over some.
        reader: of each input row the last output row that needs it; NEVER where none does.
    """

    first: Times
    last: Times
    reader: Times


def map_rows(shape: tuple[int, ...]) -> int:
    """In how many rows a tensor is made and read."""
    return shape[0] if len(shape) == 3 else 1


def rows_read(graph: Graph, choices: Sequence[Choice]) -> list[tuple[Reads, ...]]:
    """For each layer and each of its inputs which rows each of its own rows reads."""
    return [
        tuple(
            _rows_of(
                layer, choice.rows, map_rows(graph.tensors[layer.output].shape), map_rows(graph.tensors[name].shape)
            )
            for name in layer.inputs
        )
        for layer, choice in zip(graph.layers, choices, strict=True)
    ]


def _rows_of(layer: AnyLayer, by_rows: bool, made: int, height: int) -> Reads:
    if not by_rows:  # one call reads all
        return Reads(np.zeros(1, np.int64), np.full(1, height - 1), np.zeros(height, np.int64))
    y = np.arange(made)
    if not isinstance(layer, Conv2D | Depthwise | AveragePool | MaxPool):
        return Reads(y, y, y)
    window: Window = layer.window
    top = y * window.stride[0] - window.padding.top
    first, last = np.maximum(top, 0), np.minimum(top + window.extent[0] - 1, height - 1)
    rows = np.arange(height)
    reader = np.searchsorted(first, rows, side="right") - 1
    return Reads(first, last, np.where(last[reader] >= rows, reader, NEVER))


@dataclass(frozen=True, eq=False)
class Timeline:
    """When everything happens.

    Attributes:
        segments: in running order.
        made: of each layer, the event in which each of its rows is made.
        written: of each tensor, the event in which each row is written; NEVER for the input.
        read: of each tensor, the event in which each row is read for the last time; NEVER where it is not.
        rings: rows that each streamed map needs.
        end: the number of events.
    """

    segments: tuple[Segment, ...]
    made: tuple[Times, ...]
    written: dict[str, Times]
    read: dict[str, Times]
    rings: dict[str, int]
    end: int


def segments_of(graph: Graph, streamed: Collection[str], rows_in: bool) -> list[Segment]:
    """Layers that are joined by streamed maps, with all that lies between them, are one segment."""
    makers = {layer.output: k for k, layer in enumerate(graph.layers)}
    reach = list(range(len(graph.layers)))  # of each layer, the last one that must be in its segment
    for k, layer in enumerate(graph.layers):
        for name in layer.inputs:
            if name in streamed:
                first = makers.get(name, 0)
                reach[first] = max(reach[first], k)
    found = []
    k = 0
    while k < len(reach):
        last, i = reach[k], k
        while i <= last:
            last = max(last, reach[i])
            i += 1
        streams = last > k or (rows_in and k == 0)
        source = graph.layers[k].inputs[0] if streams else None
        rows = map_rows(graph.tensors[source].shape) if source is not None else 0
        found.append(Segment(tuple(range(k, last + 1)), source, rows))
        k = last + 1
    return found


@dataclass(frozen=True, eq=False)
class _Run:
    """When a segment makes its rows.

    Attributes:
        segment: with its passes.
        made: of each layer, the event in which each of its rows is made.
        given: the event before which each row of the source comes.
    """

    segment: Segment
    made: tuple[Times, ...]
    given: Times


class Scheduler:
    """Runs schedules of a graph without computing anything.

    When a segment runs depends on the layers in it alone: those before it have as many events however they stream. So
    what is found for a segment is kept, and its arrays are the same objects in every timeline.
    """

    def __init__(self, graph: Graph, choices: Sequence[Choice], *, rows_in: bool = False) -> None:
        """Prepare schedules.

        Args:
            graph: int8 alone.
            choices: a kernel for each layer.
            rows_in: the input comes row by row.
        """
        self._graph, self._rows_in = graph, rows_in
        self._reads = rows_read(graph, choices)
        self._counts = [len(reads[0].first) for reads in self._reads]
        self._begins = np.cumsum([0, *self._counts]).tolist()
        self._runs: dict[tuple[int, ...], _Run] = {}
        self._readers: dict[str, list[tuple[int, Times]]] = {name: [] for name in graph.tensors}
        for k, (layer, each) in enumerate(zip(graph.layers, self._reads, strict=True)):
            for name, reads in zip(layer.inputs, each, strict=True):
                self._readers[name].append((k, reads.reader))
        # Its bytes may also be an output, or have another name.
        self._whole_input = graph.input in graph.outputs or any(
            isinstance(layer, Reshape) and graph.input in layer.inputs for layer in graph.layers
        )

    def timeline(self, streamed: Collection[str]) -> Timeline:
        """When everything happens where of these maps only a ring exists."""
        graph = self._graph
        runs = [self._run(segment) for segment in segments_of(graph, streamed, self._rows_in)]
        made = tuple(times for run in runs for times in run.made)
        written = {graph.input: np.full(map_rows(graph.input_tensor.shape), NEVER)}
        if self._rows_in:
            written[graph.input] = runs[0].given
        for layer, times in zip(graph.layers, made, strict=True):
            rows = map_rows(graph.tensors[layer.output].shape)
            written[layer.output] = times if len(times) == rows else np.full(rows, times[-1])
        read = {name: self._read(name, len(times), made) for name, times in written.items()}
        rings = {name: _ring(written[name], read[name]) for name in streamed if name != graph.input}
        if self._rows_in:
            rows = len(written[graph.input])
            rings[graph.input] = rows if self._whole_input else _ring(written[graph.input], read[graph.input])
        return Timeline(tuple(run.segment for run in runs), made, written, read, rings, self._begins[-1])

    def _read(self, name: str, rows: int, made: Sequence[Times]) -> Times:
        read = np.full(rows, NEVER)
        for k, reader in self._readers[name]:
            read = np.maximum(read, np.where(reader >= 0, made[k][reader], NEVER))
        return read

    def _run(self, segment: Segment) -> _Run:
        known = self._runs.get(segment.layers)
        if known is None:
            known = self._runs[segment.layers] = self._find_run(segment)
        return known

    def _find_run(self, segment: Segment) -> _Run:
        """Row by row: a layer has one turn in each pass, and makes a row if what it reads is there."""
        begin = self._begins[segment.layers[0]]
        if segment.source is None:
            (k,) = segment.layers
            return _Run(segment, (begin + np.arange(self._counts[k]),), np.zeros(0, np.int64))
        passes: dict[str, Times] = {segment.source: np.arange(segment.source_rows)}  # in which each row is there
        for k in segment.layers:
            layer, count = self._graph.layers[k], np.arange(self._counts[k])
            need = np.zeros(len(count), np.int64)
            for name, reads in zip(layer.inputs, self._reads[k], strict=True):
                if name in passes:
                    need = np.maximum(need, np.where(reads.last >= 0, passes[name][reads.last], 0))
            passes[layer.output] = np.maximum.accumulate(need - count) + count  # one row in a pass at the most
        own = [passes[self._graph.layers[k].output] for k in segment.layers]
        order = np.argsort(np.concatenate(own), kind="stable")  # within a pass as the layers come
        events = np.empty(len(order), np.int64)
        events[order] = begin + np.arange(len(order))
        ends = np.cumsum([len(times) for times in own])[:-1]
        in_order = np.concatenate(own)[order]
        given = begin + np.searchsorted(in_order, np.arange(segment.source_rows))
        turns = max(int(in_order[-1]) + 1, segment.source_rows)
        return _Run(replace(segment, passes=turns), tuple(np.split(events, ends)), given)


def _ring(written: Times, read: Times) -> int:
    """The most rows that are needed at one time, counted from the oldest to the newest."""
    newest = np.searchsorted(written, read, side="right")
    return int(np.max((newest - np.arange(len(written)))[read >= 0], initial=1))
