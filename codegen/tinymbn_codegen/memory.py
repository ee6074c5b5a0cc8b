"""Where everything lies in the arena: best fit over lifetimes, row by row.

A buffer holds a map whole, a ring of its rows, or what a kernel needs for itself. Its *pieces*, a row or a slot of the
ring each, are needed from one moment to another, and pieces of two buffers that are needed at one moment share no byte.
So rings lie over the rows of the frame that have been consumed by the time when they begin.

An event (``schedule``) has two moments: at 2 t its kernel reads what it may overwrite, at 2 t + 1 it reads all else and
writes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymbn_codegen.requests import ALIGNMENT, Request

Ranges = list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Buffer:
    """A piece of the arena.

    Attributes:
        request: what it is for.
        offset: from the arena's start.
    """

    request: Request
    offset: int

    @property
    def end(self) -> int:
        """The offset of the first byte behind it."""
        return self.offset + self.request.size


def place(requests: Sequence[Request], tries: int) -> tuple[tuple[Buffer, ...], int]:
    """An offset for each request, and the arena's size in bytes.

    Args:
        requests: what is needed.
        tries: orders of placement to compare; the same number gives the same places.
    """
    conflicts = _Conflicts(requests)
    least = least_bytes(requests)
    best: list[int] = []
    extent = 0
    for offsets in _placements(requests, conflicts, tries, least):
        best, extent = offsets, _extent(requests, offsets)
    low = min(best)
    return tuple(Buffer(r, x - low) for r, x in zip(requests, best, strict=True)), extent


def least_bytes(requests: Sequence[Request]) -> int:
    """What is needed at the fullest moment: no arena is smaller."""
    long = [r for r in requests if r.moments is None]
    sizes = np.concatenate([r.piece_sizes for r in long])
    first, last = np.concatenate([r.first for r in long]), np.concatenate([r.last for r in long])
    change = np.zeros(int(last.max()) + 3, np.int64)
    np.add.at(change, first + 1, sizes)  # the input is there from -1
    np.add.at(change, last + 2, -sizes)
    needed = np.cumsum(change)
    for r in requests:
        if r.moments is not None:
            needed[r.moments + 1] += r.size
    return int(needed.max())


class _Conflicts:
    """For each pair of requests, the ranges of distances between their offsets that are forbidden, found once."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._requests = requests
        self._known: list[list[Ranges | None]] = [[None] * len(requests) for _ in requests]

    def between(self, a: int, b: int) -> Ranges:
        """Open ranges in which ``offset of b - offset of a`` must not lie, ascending and apart."""
        found = self._known[a][b]
        if found is None:
            found = self._known[a][b] = forbidden(self._requests[a], self._requests[b])
            self._known[b][a] = [(-high, -low) for low, high in reversed(found)]
        return found


def forbidden(a: Request, b: Request) -> Ranges:
    """Open ranges in which the offset of ``b`` less that of ``a`` must not lie, ascending and apart."""
    if a.moments is not None and b.moments is not None:
        return [] if a.moment_set.isdisjoint(b.moment_set) else [(-b.size, a.size)]
    ranges = [] if a.begin > b.until or b.begin > a.until else _meeting(a, b)
    distance = a.overlaps.get(b.name)
    if distance is not None:  # b is written while a is read
        ranges.append((-distance, a.size))
    distance = b.overlaps.get(a.name)
    if distance is not None:
        ranges.append((-b.size, distance))
    return _merged(ranges)


def _meeting(a: Request, b: Request) -> Ranges:
    """Distances at which two pieces that are needed at one moment would share a byte."""
    if len(a.first) == len(b.first) == 1:
        return [(-b.size, a.size)]
    i, j = np.nonzero((a.first[:, None] <= b.last) & (b.first <= a.last[:, None]))
    if len(i) == 0:
        return []
    if len(i) == len(a.first) * len(b.first):
        return [(-b.size, a.size)]
    low = a.piece_offsets[i] - b.piece_offsets[j] - b.piece_sizes[j]
    high = a.piece_offsets[i] + a.piece_sizes[i] - b.piece_offsets[j]
    return _merged_arrays(low, high)


def _merged_arrays(low: NDArray[np.int64], high: NDArray[np.int64]) -> Ranges:
    order = np.argsort(low, kind="stable")
    low, reach = low[order], np.maximum.accumulate(high[order])
    begins = np.concatenate(([True], low[1:] >= reach[:-1]))
    ends = np.concatenate((begins[1:], [True]))
    return list(zip(low[begins].tolist(), reach[ends].tolist(), strict=True))


def _merged(ranges: Ranges) -> Ranges:
    if len(ranges) < 2:
        return ranges
    found: Ranges = []
    for low, high in sorted(ranges):
        if found and low < found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    return found


def _placements(requests: Sequence[Request], conflicts: _Conflicts, tries: int, least: int) -> Iterator[list[int]]:
    """Offsets, each time for a smaller arena: large requests first, long ones, by time; then neighbours of the best."""
    every = range(len(requests))

    def size(i: int) -> int:
        return requests[i].size

    def begin(i: int) -> int:
        return requests[i].begin

    orders = [
        sorted(every, key=lambda i: (-size(i), begin(i))),
        sorted(every, key=lambda i: (begin(i), -size(i))),
        sorted(every, key=lambda i: (-begin(i), -size(i))),
        sorted(every, key=lambda i: (-(requests[i].until - begin(i)) * size(i), begin(i))),
    ]
    best, extent = orders[0], 1 << 62
    chance = random.Random(0)  # noqa: S311 - no secret; the same plan each time
    for attempt in range(len(orders) + (tries if len(requests) > 2 else 0)):
        if extent <= least:
            return
        if attempt < len(orders):
            order = orders[attempt]
        else:
            order = list(best)
            order.insert(chance.randrange(len(order)), order.pop(chance.randrange(len(order))))
        offsets = _place(requests, order, conflicts)
        made = _extent(requests, offsets)
        if made < extent:
            yield offsets
        if made <= extent:
            best, extent = order, made


def _place(requests: Sequence[Request], order: Sequence[int], conflicts: _Conflicts) -> list[int]:
    """Each request in turn where it lengthens the arena least, then in the tightest gap; offsets may be negative."""
    offsets = [0] * len(requests)
    placed: list[int] = []
    low = high = 0
    for b in order:
        taken = _merged([(offsets[a] + x, offsets[a] + y) for a in placed for x, y in conflicts.between(a, b)])
        size = requests[b].size
        best: tuple[int, int, int] | None = None
        for i in range(len(taken) + 1):
            # The gap before range i: from the end of the one before to its begin, both included.
            start = -(-taken[i - 1][1] // ALIGNMENT) * ALIGNMENT if i else None
            stop = taken[i][0] // ALIGNMENT * ALIGNMENT if i < len(taken) else None
            if start is not None and stop is not None and start > stop:
                continue
            room = stop - start if start is not None and stop is not None else 1 << 40
            for x in dict.fromkeys(x for x in (start, stop) if x is not None) or (0,):
                found = (max(high, x + size) - min(low, x), room, x)
                if best is None or found < best:
                    best = found
        assert best is not None
        offsets[b] = best[2]
        placed.append(b)
        low, high = min(low, best[2]), max(high, best[2] + size)
    return offsets


def _extent(requests: Sequence[Request], offsets: Sequence[int]) -> int:
    return max(x + r.size for r, x in zip(requests, offsets, strict=True)) - min(offsets)
