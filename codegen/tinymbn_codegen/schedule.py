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
from tinymbn.layers import AveragePool, Conv2D, Depthwise, MaxPool, Reshape, Window
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
    """Which rows of an input each output row needs, (rows,): from first to last, none where first > last."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]


def map_rows(shape: tuple[int, ...]) -> int:
    """In how many rows a tensor is made and read."""
    return shape[0] if len(shape) == 3 else 1


def rows_read(graph: Graph, choices: Sequence[Choice]) -> list[tuple[Reads, ...]]:
    """For each layer and each of its inputs which rows each of its own rows reads; of constants none."""
    found = []
    for layer, choice in zip(graph.layers, choices, strict=True):
        made = map_rows(graph.tensors[layer.output].shape) if choice.rows else 1
        found.append(
            tuple(
                _nothing(made)
                if name in graph.constants
                else _rows_of(layer, choice, made, map_rows(graph.tensors[name].shape))
                for name in layer.inputs
            )
        )
    return found


def _nothing(made: int) -> Reads:
    return Reads(np.zeros(made, np.int64), np.full(made, -1))


def _rows_of(layer: object, choice: Choice, made: int, height: int) -> Reads:
    if not choice.rows:
        return Reads(np.zeros(1, np.int64), np.full(1, height - 1))
    y = np.arange(made)
    if not isinstance(layer, Conv2D | Depthwise | AveragePool | MaxPool):
        return Reads(y, y)
    window: Window = layer.window
    first = y * window.stride[0] - window.padding.top
    return Reads(np.maximum(first, 0), np.minimum(first + window.extent[0] - 1, height - 1))


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


def make_timeline(
    graph: Graph,
    choices: Sequence[Choice],
    reads: Sequence[tuple[Reads, ...]],
    streamed: Collection[str],
    rows_in: bool = False,
) -> Timeline:
    """Run the schedule without computing anything.

    Args:
        graph: int8 alone.
        choices: a kernel for each layer.
        reads: of ``rows_read``.
        streamed: the maps of which only a ring exists.
        rows_in: the input comes row by row.
    """
    made: list[Times] = []
    fed: list[int] = []
    event = 0
    segments = []
    for segment in segments_of(graph, streamed, rows_in):
        if segment.source is None:
            rows = len(reads[segment.layers[0]][0].first)
            made.append(np.arange(event, event + rows))
            event += rows
            segments.append(segment)
        else:
            streams, given, passes = _stream(graph, segment, reads)
            segments.append(replace(segment, passes=passes))
            fed = fed or [event + t for t in given]
            made += [np.array(t, np.int64) + event for t in streams]
            event += sum(map(len, streams))
    written = {graph.input: np.full(map_rows(graph.input_tensor.shape), NEVER)}
    for layer, times in zip(graph.layers, made, strict=True):
        rows = map_rows(graph.tensors[layer.output].shape)
        written[layer.output] = times if len(times) == rows else np.full(rows, times[-1])
    read = {name: np.full(len(times), NEVER) for name, times in written.items()}
    for layer, times, each in zip(graph.layers, made, reads, strict=True):
        for name, rows_of in zip(layer.inputs, each, strict=True):
            if name in read:
                _read(read[name], rows_of, times)
    rings = {name: _ring(written[name], read[name]) for name in streamed if name != graph.input}
    if rows_in:
        rows = map_rows(graph.input_tensor.shape)
        written[graph.input] = np.array((fed + [event] * rows)[:rows])
        # Its bytes may also be an output, or have another name.
        whole = graph.input in graph.outputs or any(
            isinstance(layer, Reshape) and graph.input in layer.inputs for layer in graph.layers
        )
        rings[graph.input] = rows if whole else _ring(written[graph.input], read[graph.input])
    return Timeline(tuple(segments), tuple(made), written, read, rings, event)


def _stream(
    graph: Graph, segment: Segment, reads: Sequence[tuple[Reads, ...]]
) -> tuple[list[list[int]], list[int], int]:
    """The events of each layer, from 0; the event before which each row of the source comes; how many passes."""
    inside = {graph.layers[k].output: i for i, k in enumerate(segment.layers)}
    # Of each layer and row: what must be there, as (number within the segment, or -1 for the source; last row).
    needs: list[list[tuple[int, list[int]]]] = []
    for k in segment.layers:
        own: list[tuple[int, list[int]]] = []
        for name, rows in zip(graph.layers[k].inputs, reads[k], strict=True):
            if name in inside:
                own.append((inside[name], rows.last.tolist()))
            elif name == segment.source:
                own.append((-1, rows.last.tolist()))
        needs.append(own)
    counts = [len(reads[k][0].first) for k in segment.layers]
    made = [0] * (len(counts) + 1)  # the last one stands for the source: index -1
    times: list[list[int]] = [[] for _ in counts]
    given: list[int] = []
    passes = 0
    left, event = sum(counts), 0
    while left:
        if made[-1] < segment.source_rows:
            made[-1] += 1
            given.append(event)
        passes += 1
        before = event
        for i, own in enumerate(needs):
            y = made[i]
            if y < counts[i] and all(last[y] < made[j] for j, last in own):
                times[i].append(event)
                event += 1
                made[i] += 1
                left -= 1
        assert event > before or made[-1] < segment.source_rows, f"segment {segment.layers} stands still"
    return times, given, max(passes, segment.source_rows)


def _read(read: Times, rows: Reads, times: Times) -> None:
    for back in range(int(np.max(rows.last - rows.first, initial=-1)) + 1):
        row = rows.last - back
        here = row >= rows.first
        np.maximum.at(read, row[here], times[here])


def _ring(written: Times, read: Times) -> int:
    """The most rows that are needed at one time, counted from the oldest to the newest."""
    newest = np.searchsorted(written, np.maximum(read, written), side="right")
    return int(np.max(newest - np.arange(len(written))))
