"""Which maps exist whole, and of which only a ring of rows: a search for the smallest arena."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from tinymbn.graph import Graph
from tinymbn_codegen.assignment import Choice
from tinymbn_codegen.memory import NO_LIMIT, Buffer, Conflicts, place
from tinymbn_codegen.options import Options
from tinymbn_codegen.requests import Request, RequestMaker, held_by, slotted_maps
from tinymbn_codegen.schedule import Scheduler, Timeline, map_rows

_QUICK = 2  # orders of placing buffers, beyond the obvious ones, while sets of maps are compared
_BEST = 4  # sets for which more are compared in the end
_EFFORT = 44  # sets that are compared, times layers, for each order that is tried in the end: well below a second
_PATIENCE = 6  # how much more of both where RAM matters most
_SINGLE_ROW = ("mve_depthwise", ["mve_pointwise"])


@dataclass(frozen=True, eq=False)
class Arrangement:
    """A schedule and its memory.

    Attributes:
        timeline: in what order rows are made.
        buffers: of the arena.
        arena_bytes: its size.
    """

    timeline: Timeline
    buffers: tuple[Buffer, ...]
    arena_bytes: int


def arrange(graph: Graph, choices: Sequence[Choice], options: Options, tries: int) -> Arrangement:
    """The schedule whose arena is the smallest that a search finds; the same arguments give the same one.

    Args:
        graph: int8 alone.
        choices: a kernel for each layer.
        options: what was asked for.
        tries: orders of placing buffers to compare, for each of the best sets of streamed maps.
    """
    return _Search(graph, choices, options).best(tries)


class _Search:
    """Flips one map at a time, from whole to ring or back, and keeps what makes the arena smaller."""

    def __init__(self, graph: Graph, choices: Sequence[Choice], options: Options) -> None:
        self._graph, self._choices, self._options = graph, choices, options
        self._scheduler = Scheduler(graph, choices, rows_in=options.input == "rows")
        self._maker = RequestMaker(graph, choices, options)
        self._slotted = slotted_maps(graph, choices)
        self._valid_sets: dict[frozenset[str], frozenset[str]] = {}
        self._known: dict[frozenset[str], tuple[Timeline, list[Request]]] = {}
        self._conflicts = Conflicts()
        self._sizes: dict[frozenset[str], int] = {}
        self._left = 0

    def best(self, tries: int) -> Arrangement:
        """The smallest arena that is found."""
        able = self._able()
        if self._options.optimize == "ram":
            tries *= _PATIENCE
        effort = _EFFORT * tries // len(self._graph.layers)
        ends, alone = [], self._valid(frozenset())
        for fixed in dict.fromkeys((frozenset(self._single_rows()), frozenset(self._pairs()))):
            free = [name for name in able if name not in fixed]
            every, least = (self._valid(frozenset(s)) for s in (able, fixed.intersection(able)))
            self._left = effort // 2
            ends.append(self._first_better(least, free))
            self._left += effort // 2
            ends.append(self._first_better(self._steepest(every, free), free))
            alone = least
        # Another set may be better once more orders are tried; that nothing streams is always one of them.
        sets = dict.fromkeys([*sorted(ends, key=self._size), *sorted(self._sizes, key=self._size)[:_BEST], alone])
        found: Arrangement | None = None
        for streamed in (*sets, self._valid(frozenset())):
            timeline, requests = self._known[streamed]
            placed = place(requests, tries, self._conflicts, found.arena_bytes if found is not None else NO_LIMIT)
            if placed is not None:
                found = Arrangement(timeline, *placed)
        assert found is not None, "the first has no limit"
        return found

    def _pairs(self) -> Iterator[str]:
        """Rows of words that only one layer reads: never worth to be whole."""
        for layer, choice in zip(self._graph.layers, self._choices, strict=True):
            if choice.target == "pairs":
                yield layer.output

    def _single_rows(self) -> Iterator[str]:
        """What lies between a depthwise layer and its pointwise one: hardly ever worth to be whole."""
        readers: dict[str, list[str]] = {}
        for layer, choice in zip(self._graph.layers, self._choices, strict=True):
            for name in layer.inputs:
                readers.setdefault(name, []).append(choice.kernel.name if choice.kernel is not None else "")
        for layer, choice in zip(self._graph.layers, self._choices, strict=True):
            made_by = choice.kernel.name if choice.kernel is not None else ""
            if choice.target == "pairs" or (made_by, readers.get(layer.output)) == _SINGLE_ROW:
                yield layer.output

    def _steepest(self, current: frozenset[str], free: Sequence[str]) -> frozenset[str]:
        """Flips the map that saves most, until none saves."""
        while self._left >= len(free):
            size = self._size(current)
            others = [self._valid(current ^ {name}) for name in free]
            self._left -= len(others)
            closest = min(others, key=lambda other: self._size(other, size), default=current)
            if self._size(closest, size) >= size:
                break
            current = closest
        return current

    def _first_better(self, current: frozenset[str], free: Sequence[str]) -> frozenset[str]:
        """Flips the next map that saves anything, until none saves."""
        unchanged = 0
        for name in cycle(free):
            if unchanged == len(free) or self._left <= 0:
                break
            other = self._valid(current ^ {name})
            self._left -= 1
            unchanged += 1
            if self._size(other, self._size(current)) < self._size(current):
                current, unchanged = other, 0
        return current

    def _size(self, streamed: frozenset[str], limit: int = NO_LIMIT) -> int:
        """Of the arena; or something not below the limit where it is not found to be below."""
        known = self._sizes.get(streamed)
        if known is None:
            found = place(self._known[streamed][1], _QUICK, self._conflicts, limit)
            if found is None:
                return limit
            known = self._sizes[streamed] = found[1]
        return known

    def _able(self) -> list[str]:
        """Maps that can be streamed: made and read by row kernels alone, in one place, and by nobody else."""
        graph, choices = self._graph, self._choices
        if "streaming" in self._options.without:
            return []
        held = held_by(graph, self._options)
        shared = {root for name, root in held.items() if name != root}
        readers: dict[str, list[int]] = {}
        for k, layer in enumerate(graph.layers):
            for name in layer.inputs:
                readers.setdefault(name, []).append(k)
        return [
            layer.output
            for layer, choice in zip(graph.layers, choices, strict=True)
            if choice.rows
            and layer.output not in graph.outputs
            and held[layer.output] == layer.output
            and layer.output not in shared
            and layer.output in readers
            and all(choices[k].rows for k in readers[layer.output])
            and map_rows(graph.tensors[layer.output].shape) > 1
        ]

    def _valid(self, streamed: frozenset[str]) -> frozenset[str]:
        """Without the maps that cannot be rings after all."""
        found = self._valid_sets.get(streamed)
        if found is None:
            found = self._valid_sets[streamed] = self._find_valid(streamed)
        return found

    def _find_valid(self, streamed: frozenset[str]) -> frozenset[str]:
        """Without maps whose segment is broken, or whose ring would be no smaller than the map."""
        while True:
            allowed = self._unbroken(streamed)
            if allowed in self._known:
                return allowed
            timeline = self._scheduler.timeline(allowed)
            wrong = {
                name
                for name, slots in timeline.rings.items()
                if name in allowed
                and (slots >= map_rows(self._graph.tensors[name].shape) or (name in self._slotted and slots > 3))
            }
            if not wrong:
                requests = self._maker.requests(timeline)
                self._known[allowed] = timeline, requests
                return allowed
            streamed = allowed - wrong

    def _unbroken(self, streamed: frozenset[str]) -> frozenset[str]:
        """Without maps between whose maker and last reader a layer stands that makes no rows."""
        makers = {layer.output: k for k, layer in enumerate(self._graph.layers)}
        last: dict[str, int] = {}
        for k, layer in enumerate(self._graph.layers):
            for name in layer.inputs:
                last[name] = k
        return frozenset(
            name for name in streamed if all(self._choices[k].rows for k in range(makers[name], last[name] + 1))
        )
