"""Runs a finished plan on its constants alone, byte by byte, and stops at whatever would read what it should not.

It knows nothing of how the plan was found: an arena whose every byte says which row of which tensor lies there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinymbn.layers import AveragePool, Conv2D, Depthwise, MaxPool
from tinymbn_codegen.kernels import overlap_distance
from tinymbn_codegen.requests import ALIGNMENT, COUNTER_BYTES, tensor_row_bytes
from tinymbn_codegen.schedule import Segment, map_rows

if TYPE_CHECKING:
    from tinymbn_codegen.plan import Place, Plan, Step

_NOBODY = -1
_SPOILT = -2
_COUNTERS = -3


def check_plan(plan: Plan) -> None:
    """Assert that every row that a kernel reads is there, whole, when it reads it."""
    _check_places(plan)
    _Replay(plan).run()


def _check_places(plan: Plan) -> None:
    """Everything lies within the arena, with room for what it is, and each tensor in one place alone."""
    found: dict[str, Place] = {}
    for place in (plan.input, *plan.outputs, *(p for step in plan.steps for p in (*step.inputs, step.output))):
        tensor, name = place.tensor, place.tensor.name
        assert found.setdefault(name, place) == place, f"{name} lies in two places"
        assert place.rows == map_rows(tensor.shape), name
        assert place.row_bytes == tensor_row_bytes(plan.graph, name, place.layout), name
        assert 0 < place.slots <= place.rows, name
        if place.offset is not None:
            _check_room(plan, place.offset, place.slots * place.row_bytes, name)
    for step in plan.steps:
        if step.kernel is None:  # its bytes are in their place already
            (source,) = step.inputs
            assert (step.output.offset, step.output.streams, source.streams) == (source.offset, False, False)
            continue
        assert (step.scratch is None) == (step.scratch_bytes == 0)
        if step.scratch is not None:
            _check_room(plan, step.scratch, step.scratch_bytes, f"scratch of layer {step.index}")
        if step.kernel.slots:  # whose three rows are at fixed distances
            (source,) = step.inputs
            assert source.slots == 3 or not source.streams, f"{source.tensor.name} has {source.slots} slots"
            assert source.offset is not None
            _check_room(plan, source.offset, 3 * source.row_bytes, f"the slots of {source.tensor.name}")
    longest = _most_counters(plan)
    assert (plan.counters is None) == (longest == 0)
    if plan.counters is not None:
        _check_room(plan, plan.counters, COUNTER_BYTES * longest, "the counters")


def _check_room(plan: Plan, offset: int, size: int, what: str) -> None:
    assert offset % ALIGNMENT == 0, f"{what} begins at {offset}"
    assert 0 <= offset <= plan.arena_bytes - size, f"{what} ends beyond the arena"


def _most_counters(plan: Plan) -> int:
    """One for each layer of a segment that streams."""
    return max((len(segment.layers) for segment in plan.segments if segment.source is not None), default=0)


class _Replay:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._owner = np.full(plan.arena_bytes, _NOBODY, np.int64)
        self._marks: dict[str, int] = {}  # of the first row of each tensor; the others follow
        # One mark for all rows of tensors that share their bytes: shapes differ, bytes do not.
        renaming = [step for step in plan.steps if step.kernel is None]
        self._whole = {place.tensor.name for step in renaming for place in (*step.inputs, step.output)}
        marks = 0
        for place in (plan.input, *(step.output for step in plan.steps)):
            self._marks[place.tensor.name] = marks
            marks += place.rows
        for step in renaming:
            self._marks[step.output.tensor.name] = self._marks[step.inputs[0].tensor.name]

    def run(self) -> None:
        """Every segment, then the outputs."""
        plan = self._plan
        if plan.counters is not None:
            counters = slice(plan.counters, plan.counters + COUNTER_BYTES * _most_counters(plan))
            self._owner[counters] = _COUNTERS
        if plan.options.input == "frame":
            for y in range(plan.input.rows):
                self._write(plan.input, y)
        ran: list[int] = []
        for segment in plan.segments:
            ran += segment.layers
            steps = [plan.steps[k] for k in segment.layers]
            if segment.source is not None:
                self._stream(segment, steps)
                continue
            (step,) = steps
            for y in range(self._calls(step)):
                self._call(step, y)
        assert ran == list(range(len(plan.steps))), "layers are left out, or come twice"
        for place in plan.outputs:
            if place.offset is not None:
                for y in range(place.rows):
                    self._require(place, y, "an output")
        if plan.counters is not None:
            assert (self._owner[counters] == _COUNTERS).all(), "the counters have been overwritten"

    def _stream(self, segment: Segment, steps: list[Step]) -> None:
        """One row of the source after the other; after each, each layer makes one row if it can."""
        made = [0] * len(steps)
        numbers = {step.output.tensor.name: i for i, step in enumerate(steps)}
        source = next(place for place in steps[0].inputs if place.tensor.name == segment.source)
        comes = source == self._plan.input and self._plan.options.input == "rows"
        assert segment.passes >= source.rows == segment.source_rows, "rows of the source are left"
        for turn in range(segment.passes):
            given = min(turn + 1, source.rows)
            if comes and turn < source.rows:
                self._write(source, turn)
            for i, step in enumerate(steps):
                if made[i] >= self._calls(step):
                    continue
                there = []
                for place, (_, last) in zip(step.inputs, self._rows(step, made[i]), strict=True):
                    name = place.tensor.name
                    if name in numbers and numbers[name] < i:
                        there.append(last < made[numbers[name]])
                    elif name == segment.source:
                        there.append(last < given)
                if all(there):
                    self._call(step, made[i])
                    made[i] += 1
        assert made == [self._calls(step) for step in steps], f"segment {segment.layers} has rows left to make"

    @staticmethod
    def _calls(step: Step) -> int:
        return step.output.rows if step.kernel is not None and step.kernel.rows else 1

    def _rows(self, step: Step, y: int) -> list[tuple[int, int]]:
        """The first and the last row of each input that row y reads."""
        layer = step.layer
        found = []
        for place in step.inputs:
            if step.kernel is None or not step.kernel.rows:
                found.append((0, place.rows - 1))
            elif isinstance(layer, Conv2D | Depthwise | AveragePool | MaxPool):
                top = y * layer.window.stride[0] - layer.window.padding.top
                bottom = top + (layer.window.kernel[0] - 1) * layer.window.dilation[0]
                found.append((max(top, 0), min(bottom, place.rows - 1)))
            else:
                found.append((y, y))
        return found

    def _call(self, step: Step, y: int) -> None:
        """The kernel spoils its scratch, reads, and writes; over what it reads only where it does so behind it."""
        if step.scratch is not None:
            self._owner[step.scratch : step.scratch + step.scratch_bytes] = _SPOILT
        by_rows = step.kernel is not None and step.kernel.rows
        if not by_rows:
            self._require_inputs(step, y, also_following=True)
        for row in (y,) if by_rows else range(step.output.rows):
            self._write(step.output, row)
        if step.scratch is not None:
            scratch = self._owner[step.scratch : step.scratch + step.scratch_bytes]
            assert (scratch == _SPOILT).all(), f"{step.layer.name} writes over its scratch"
        if step.kernel is not None:
            self._require_inputs(step, y, also_following=False)

    def _require_inputs(self, step: Step, y: int, *, also_following: bool) -> None:
        for operand, (place, (first, last)) in enumerate(zip(step.inputs, self._rows(step, y), strict=True)):
            if place.offset is None or (not also_following and self._follows(step, operand)):
                continue
            for row in range(first, last + 1):
                self._require(place, row, step.layer.name)

    def _follows(self, step: Step, operand: int) -> bool:
        """Whether the output begins far enough below this input for a kernel that writes behind what it has read."""
        place, output = step.inputs[operand], step.output
        assert place.offset is not None
        assert output.offset is not None
        if step.kernel is None or step.kernel.rows:
            return False
        distance = overlap_distance(step.layer, operand, place.tensor.shape, output.tensor.shape)
        return distance is not None and place.offset - output.offset >= distance

    def _write(self, place: Place, row: int) -> None:
        at = self._at(place, row)
        self._owner[at : at + place.row_bytes] = self._mark(place, row)

    def _require(self, place: Place, row: int, who: str) -> None:
        at = self._at(place, row)
        mark = self._mark(place, row)
        there = self._owner[at : at + place.row_bytes]
        assert (there == mark).all(), f"{who} reads row {row} of {place.tensor.name}, which is not there"

    def _mark(self, place: Place, row: int) -> int:
        name = place.tensor.name
        return self._marks[name] + (0 if name in self._whole else row)

    @staticmethod
    def _at(place: Place, row: int) -> int:
        assert place.offset is not None
        return place.offset + row % place.slots * place.row_bytes
