"""What has to be written into the arena so that a layer can run alone: its inputs, where and as the plan has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymbn_codegen.assignment import Choice
from tinymbn_codegen.layouts import encode
from tinymbn_codegen.plan import Place, Plan, Step
from tinymbn_codegen.schedule import Reads, rows_read


@dataclass(frozen=True)
class Injection:
    """Rows of a layer, and what has to lie in the arena when they are made.

    Attributes:
        first: of the rows.
        count: how many; of a layer that is not made by rows there is one.
        pieces: offset and bytes.
    """

    first: int
    count: int
    pieces: tuple[tuple[int, bytes], ...]


def injections(plan: Plan, step: Step, values: Mapping[str, NDArray[np.int8]]) -> Iterator[Injection]:
    """All rows of a layer in order, each with what it reads and those before it did not.

    Where the layer streams, its inputs never lie in the arena as a whole, and what lies beside them comes and goes: so
    row by row. What was written for an earlier row is still there if it is still needed, as in a run.

    Args:
        plan: of the model.
        step: the layer.
        values: of all its inputs, by name.
    """
    inputs = {place.tensor.name: place for place in step.inputs if place.offset is not None}
    encoded = {name: _rows(place, values[name]) for name, place in inputs.items()}
    if next(segment for segment in plan.segments if step.index in segment.layers).source is None:
        whole = tuple((_offset(place, 0), encoded[name].tobytes()) for name, place in inputs.items())
        yield Injection(0, step.calls, whole)
        return
    there = dict.fromkeys(inputs, 0)
    reads = rows_read_by(plan, step)
    for y in range(step.calls):
        pieces = []
        for name, place in inputs.items():
            first, last = max(int(reads[name].first[y]), there[name]), int(reads[name].last[y])
            pieces += [(_offset(place, row), encoded[name][row].tobytes()) for row in range(first, last + 1)]
            there[name] = max(there[name], last + 1)
        yield Injection(y, 1, tuple(pieces))


def rows_read_by(plan: Plan, step: Step) -> dict[str, Reads]:
    """Which rows of each input, by name, each row of a layer reads."""
    choices = [
        Choice(other.kernel, tuple(place.layout for place in other.inputs), other.output.layout, other.scratch_bytes)
        for other in plan.steps
    ]
    found = rows_read(plan.graph, choices)[step.index]
    return {place.tensor.name: reads for place, reads in zip(step.inputs, found, strict=True)}


def _rows(place: Place, values: NDArray[np.int8]) -> NDArray[np.uint8]:
    """The rows of a tensor as they lie in memory, (rows, row_bytes)."""
    if values.ndim == 3:
        return encode(place.layout, values)
    return np.ascontiguousarray(values).reshape(place.rows, place.row_bytes).view(np.uint8)


def _offset(place: Place, row: int) -> int:
    assert place.offset is not None
    return place.offset + row % place.slots * place.row_bytes
