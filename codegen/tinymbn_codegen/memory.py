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
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tinymbn_codegen.requests import ALIGNMENT, Request

Ranges = list[tuple[int, int]]
Near = list[tuple[int, Ranges]]

NO_LIMIT = 1 << 62


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


def place(
    requests: Sequence[Request], tries: int, conflicts: Conflicts | None = None, limit: int = NO_LIMIT
) -> tuple[tuple[Buffer, ...], int] | None:
    """An offset for each request, and the arena's size in bytes; None where no arena below the limit is found.

    Args:
        requests: what is needed.
        tries: orders of placement to compare; the same number gives the same places.
        conflicts: what is known of these requests from earlier.
        limit: the size from which on an arena is of no use.
    """
    least = least_bytes(requests)
    best: list[int] = []
    if least < limit:
        near = (conflicts or Conflicts()).of(requests)
        for offsets in _placements(requests, near, tries, least, limit):
            best = offsets
    if not best:
        return None
    low = min(best)
    return tuple(Buffer(r, x - low) for r, x in zip(requests, best, strict=True)), _extent(requests, best)


def least_bytes(requests: Sequence[Request]) -> int:
    """What is needed at the fullest moment: no arena is smaller."""
    long = [r for r in requests if r.moments is None]
    sizes = np.concatenate([r.piece_sizes for r in long])
    first, last = np.concatenate([r.first for r in long]), np.concatenate([r.last for r in long])
    moments = int(last.max()) + 3
    begun = np.bincount(first + 1, sizes, moments)  # the input is there from -1
    needed = np.cumsum(begun - np.bincount(last + 2, sizes, moments))
    for r in requests:
        if r.moments is not None:
            needed[r.moments + 1] += r.size
    return int(needed.max())


class Conflicts:
    """For pairs of requests the ranges of distances between their offsets that are forbidden; each is found once."""

    def __init__(self) -> None:
        self._known: dict[Request, dict[Request, Ranges]] = {}

    def of(self, requests: Sequence[Request]) -> list[Near]:
        """For each request the others that it must keep away from, and how far."""
        begin = np.array([r.begin for r in requests])
        until = np.array([r.until for r in requests])
        meet = (begin[:, None] <= until) & (begin <= until[:, None])
        numbers = {r.name: i for i, r in enumerate(requests)}
        for i, r in enumerate(requests):
            for name in r.overlaps:
                meet[i, numbers[name]] = meet[numbers[name], i] = True
        near: list[Near] = [[] for _ in requests]
        for a, b in zip(*(index.tolist() for index in np.nonzero(np.triu(meet, 1))), strict=True):
            ranges = self._between(requests[a], requests[b])
            if ranges:
                near[b].append((a, ranges))
                near[a].append((b, [(-high, -low) for low, high in ranges]))
        return near

    def _between(self, a: Request, b: Request) -> Ranges:
        known = self._known.setdefault(a, {})
        ranges = known.get(b)
        if ranges is None:
            ranges = known[b] = forbidden(a, b)
        return ranges


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


def _placements(
    requests: Sequence[Request], near: Sequence[Near], tries: int, least: int, limit: int
) -> Iterator[list[int]]:
    """Offsets, each time for a smaller arena: large requests first, long ones, by time; then neighbours of the best."""
    every = range(len(requests))
    sizes, begins = [r.size for r in requests], [r.begin for r in requests]
    orders = [
        sorted(every, key=lambda i: (-sizes[i], begins[i])),
        sorted(every, key=lambda i: (begins[i], -sizes[i])),
        sorted(every, key=lambda i: (-begins[i], -sizes[i])),
        sorted(every, key=lambda i: (-(requests[i].until - begins[i]) * sizes[i], begins[i])),
    ]
    best, extent = orders[0], limit
    chance = random.Random(0)  # noqa: S311 - no secret; the same plan each time
    for attempt in range(len(orders) + (tries if len(requests) > 2 else 0)):
        if extent <= least:
            return
        if attempt < len(orders):
            order = orders[attempt]
        else:
            order = list(best)
            order.insert(chance.randrange(len(order)), order.pop(chance.randrange(len(order))))
        offsets = _place(sizes, order, near, extent)
        if offsets is None:
            continue
        made = _extent(requests, offsets)
        if made < extent:
            yield offsets
        best, extent = order, made


def _place(sizes: Sequence[int], order: Sequence[int], near: Sequence[Near], most: int) -> list[int] | None:
    """Each request in turn where it lengthens the arena least, then in the tightest gap; offsets may be negative.

    None as soon as the arena is longer than ``most``.
    """
    offsets: list[int | None] = [None] * len(sizes)
    low = high = 0
    for b in order:
        size = sizes[b]
        taken = []
        for a, ranges in near[b]:
            at = offsets[a]
            if at is not None:
                taken += [(at + x, at + y) for x, y in ranges]
        x = _best_place(_merged(taken), size, low, high)
        offsets[b] = x
        low, high = min(low, x), max(high, x + size)
        if high - low > most:
            return None
    return [x for x in offsets if x is not None]


def _best_place(taken: Ranges, size: int, low: int, high: int) -> int:
    """Where a request of this size lengthens the arena from ``low`` to ``high`` least, then in the tightest gap."""
    if not taken:
        return 0
    # Before all, and behind all.
    before, behind = taken[0][0] // ALIGNMENT * ALIGNMENT, -(-taken[-1][1] // ALIGNMENT) * ALIGNMENT
    best = min(
        (max(high, before + size) - min(low, before), 1 << 40, before),
        (max(high, behind + size) - min(low, behind), 1 << 40, behind),
    )
    for (_, left), (right, _) in pairwise(taken):
        start, stop = -(-left // ALIGNMENT) * ALIGNMENT, right // ALIGNMENT * ALIGNMENT
        if start <= stop:
            for x in (start, stop):
                found = (max(high, x + size) - min(low, x), stop - start, x)
                if found < best:
                    best = found
    return best[2]


def _extent(requests: Sequence[Request], offsets: Sequence[int]) -> int:
    return max(x + r.size for r, x in zip(requests, offsets, strict=True)) - min(offsets)
