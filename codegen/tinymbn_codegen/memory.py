"""Where each tensor lies in the arena: best fit over lifetimes, outputs over inputs that have been read.

Time is counted in layers: layer t writes its output and reads its inputs at t; the model's input is there from -1.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tinymbn.graph import Graph
from tinymbn.layers import Reshape
from tinymbn_codegen.kernels import overlap_distance
from tinymbn_codegen.options import Options

ALIGNMENT = 4  # so that a kernel may load words


@dataclass(frozen=True)
class Buffer:
    """A piece of the arena that holds one tensor, or several that are the same bytes.

    Attributes:
        tensors: names; several where a RESHAPE costs nothing.
        size: in bytes.
        first: the time when it is written.
        last: the time when it is read for the last time.
        overlaps: outputs that may begin below this buffer and grow into it, with the least distance in bytes.
        offset: from the arena's start.
    """

    tensors: tuple[str, ...]
    size: int
    first: int
    last: int
    overlaps: Mapping[str, int] = field(default_factory=dict)
    offset: int = 0

    @property
    def end(self) -> int:
        """The offset of the first byte behind it."""
        return self.offset + self.size


def plan_memory(graph: Graph, options: Options, tries: int = 60) -> tuple[tuple[Buffer, ...], int]:
    """Buffers with offsets, and the arena's size in bytes.

    Args:
        graph: int8 alone.
        options: which ways to save are switched off.
        tries: orders of placement to compare; the same number gives the same plan.
    """
    requests = _requests(graph, options)
    placed = min(_placements(requests, tries), key=_extent)
    lowest = min(buffer.offset for buffer in placed)
    moved = [replace(buffer, offset=buffer.offset - lowest) for buffer in placed]
    moved.sort(key=lambda buffer: (buffer.first, buffer.tensors))
    check_memory(moved)
    return tuple(moved), max(buffer.end for buffer in moved)


def check_memory(buffers: Sequence[Buffer]) -> None:
    """Assert that no two buffers that are needed at one time share a byte, but where an output may follow its input."""
    for i, a in enumerate(buffers):
        assert a.offset >= 0
        assert a.offset % ALIGNMENT == 0
        for b in buffers[i + 1 :]:
            low, high = _forbidden(a, b)
            assert not low < b.offset < high, f"{a.tensors[0]} and {b.tensors[0]} share bytes"


def _requests(graph: Graph, options: Options) -> list[Buffer]:
    """The buffers, without offsets."""
    held = {graph.input: graph.input}  # tensor -> the tensor whose bytes it shares
    first = {graph.input: -1}
    for t, layer in enumerate(graph.layers):
        alias = isinstance(layer, Reshape) and "alias_reshape" not in options.without
        # A constant is not in the arena: its RESHAPE is a copy.
        held[layer.output] = held.get(layer.inputs[0], layer.output) if alias else layer.output
        first.setdefault(held[layer.output], t)
    last = dict(first)
    for t, layer in enumerate(graph.layers):
        for name in layer.inputs:
            if name in held:
                last[held[name]] = max(last[held[name]], t)
    for name in graph.outputs:
        if name in held:
            last[held[name]] = len(graph.layers)

    overlaps: dict[str, dict[str, int]] = {root: {} for root in first}
    for t, layer in enumerate(graph.layers):
        if held[layer.output] != layer.output or "overlap" in options.without:
            continue
        for root in {held[name] for name in layer.inputs if name in held}:
            distances = [
                overlap_distance(layer, i, graph.tensors[name].shape, graph.tensors[layer.output].shape)
                for i, name in enumerate(layer.inputs)
                if held.get(name) == root
            ]
            if last[root] == t and None not in distances:
                overlaps[root][layer.output] = max(d for d in distances if d is not None)
    return [
        Buffer(
            tensors=tuple(name for name, of in held.items() if of == root),
            size=graph.tensors[root].elements,
            first=first[root],
            last=last[root],
            overlaps=overlaps[root],
        )
        for root in first
    ]


def _placements(requests: Sequence[Buffer], tries: int) -> Iterator[list[Buffer]]:
    """Placements in several orders: large ones first, long-lived ones first, by time, and neighbours of the best."""
    by_size = sorted(requests, key=lambda b: (-b.size, b.first))
    best = by_size
    best_placed = _place(by_size)
    yield best_placed
    for order in (
        sorted(requests, key=lambda b: (b.first, -b.size)),
        sorted(requests, key=lambda b: (-b.first, -b.size)),
        sorted(requests, key=lambda b: (-(b.last - b.first) * b.size, b.first)),
    ):
        placed = _place(order)
        if _extent(placed) < _extent(best_placed):
            best, best_placed = order, placed
            yield placed
    least = _lower_bound(requests)
    chance = random.Random(0)  # noqa: S311 - no secret; the same plan each time
    for _ in range(tries if len(requests) > 2 else 0):
        if _extent(best_placed) <= least:
            return
        order = list(best)
        i, j = chance.randrange(len(order)), chance.randrange(len(order))
        order.insert(j, order.pop(i))
        placed = _place(order)
        if _extent(placed) <= _extent(best_placed):
            best, best_placed = order, placed
            yield placed


def _place(order: Sequence[Buffer]) -> list[Buffer]:
    """Each buffer in turn where it lengthens the arena least, then in the tightest gap; offsets may be negative."""
    placed: list[Buffer] = []
    low = high = 0
    for buffer in order:
        ranges = sorted(r for r in (_forbidden(other, buffer) for other in placed) if r[0] < r[1])
        merged: list[tuple[int, int]] = []
        for start, end in ranges:
            if merged and start < merged[-1][1]:
                merged[-1] = merged[-1][0], max(merged[-1][1], end)
            else:
                merged.append((start, end))
        candidates = [(0, 0)] if not merged else []
        for i, (start, end) in enumerate(merged):
            below = start - merged[i - 1][1] if i else 0
            above = merged[i + 1][0] - end if i + 1 < len(merged) else 0
            candidates += [(start // ALIGNMENT * ALIGNMENT, below), (-(-end // ALIGNMENT) * ALIGNMENT, above)]
        fits = [
            (max(high, x + buffer.size) - min(low, x), room, x)
            for x, room in candidates
            if not any(start < x < end for start, end in merged)
        ]
        _, _, offset = min(fits)
        placed.append(replace(buffer, offset=offset))
        low, high = min(low, offset), max(high, offset + buffer.size)
    return placed


def _forbidden(a: Buffer, b: Buffer) -> tuple[int, int]:
    """Offsets between which ``b`` must not begin, given where ``a`` lies; empty if they do not meet in time."""
    if a.first > b.last or b.first > a.last:
        return 0, 0
    distance = a.overlaps.get(b.tensors[0])
    if distance is not None:  # b is written while a is read
        return a.offset - distance, a.end
    distance = b.overlaps.get(a.tensors[0])
    if distance is not None:  # a is written while b is read
        return a.offset - b.size, a.offset + distance
    return a.offset - b.size, a.end


def _extent(placed: Sequence[Buffer]) -> int:
    return max(buffer.end for buffer in placed) - min(buffer.offset for buffer in placed)


def _lower_bound(requests: Sequence[Buffer]) -> int:
    """No plan is smaller: at each time, what is there, an output over its input counted once."""
    least = 0
    for t in {buffer.first for buffer in requests}:
        alive = [buffer for buffer in requests if buffer.first <= t <= buffer.last]
        total = sum(buffer.size for buffer in alive)
        for buffer in alive:
            shared = [
                min(max(0, buffer.size + other.size - max(buffer.size + d, other.size)), other.size)
                for other in alive
                if (d := buffer.overlaps.get(other.tensors[0])) is not None
            ]
            total -= max(shared, default=0)
        least = max(least, total)
    return least
