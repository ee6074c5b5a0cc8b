"""Replays a plan byte by byte: what each call of the generated C reads and writes, and what each byte of the arena is.

Written from the templates, not from ``check``, ``schedule`` or ``kernels.overlap_distance``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.layers import (
    Add,
    AnyLayer,
    AveragePool,
    Concat,
    Conv2D,
    Dense,
    Depthwise,
    Lookup,
    MaxPool,
    Mean,
    Mul,
    Pad,
    Requantize,
    Reshape,
    ResizeNearest,
    Shape,
    Softmax,
    Transpose,
)
from tinymbn_codegen.plan import Place, Plan, Step
from tinymbn_codegen.schedule import Segment

Times = NDArray[np.int64]
Bytes = NDArray[np.int64]

NEVER = -1
ANYWHERE = -(2**40)  # a distance that nothing needs

_RUBBISH = -1
_FIRST_COUNTER = -100_000


class SpoiltError(Exception):
    """A call reads what is not there."""


def problem(plan: Plan) -> str | None:
    """What goes wrong when the plan runs; None: nothing does."""
    try:
        _Run(plan).run()
    except SpoiltError as wrong:
        return str(wrong)
    return None


class _Run:
    """The arena as it runs: each byte is numbered, over all tensors, by what it is."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._arena = np.full(plan.arena_bytes, _RUBBISH, np.int64)
        self._first: dict[str, int] = {}  # the number of a tensor's first byte
        number = 0
        for place in (plan.input, *(step.output for step in plan.steps)):
            self._first[place.tensor.name] = number
            number += place.rows * place.row_bytes
        for step in plan.steps:
            if step.kernel is None:  # the same bytes under another name
                self._first[step.output.tensor.name] = self._first[step.inputs[0].tensor.name]

    def run(self) -> None:
        plan = self._plan
        if plan.options.input == "frame":
            for y in range(plan.input.rows):
                self._write(plan.input, y)
        for segment in plan.segments:
            if segment.source is not None:
                self._stream(segment)
                continue
            for k in segment.layers:
                self._all_of(plan.steps[k])
        for place in plan.outputs:
            if place.offset is not None:
                for y in range(place.rows):
                    self._read(place, y, "an output")

    def _all_of(self, step: Step) -> None:
        if step.kernel is None:
            return  # no C at all: who reads it finds the bytes or does not
        if step.kernel.rows:
            for y in range(step.output.rows):
                self._row(step, y)
        else:
            self._whole(step)

    def _stream(self, segment: Segment) -> None:
        """``stream_NN`` of model.c.j2, as often as ``model_run`` and ``model_feed_row`` call it."""
        plan = self._plan
        steps = [plan.steps[k] for k in segment.layers]
        makers = {step.output.tensor.name: i for i, step in enumerate(steps)}
        made = [0] * len(steps)
        assert plan.counters is not None
        counters = slice(plan.counters, plan.counters + 2 * len(steps))
        numbers = _FIRST_COUNTER - np.arange(2 * len(steps))
        self._put(counters, numbers)
        fed = plan.options.input == "rows" and segment.layers[0] == 0
        for number in range(1, segment.passes + 1):
            if fed and number <= plan.input.rows:
                self._write(plan.input, number - 1)
            given = min(number, segment.source_rows)
            for i, step in enumerate(steps):
                self._expect(counters, numbers, "the counters")
                y = made[i]
                if y == step.output.rows:
                    continue
                there = True
                for place in step.inputs:
                    name = place.tensor.name
                    last = _waits_for(step.layer, y, place.rows)
                    if makers.get(name, i) < i:
                        there &= last < made[makers[name]]
                    elif name == segment.source:
                        there &= last < given
                if there:
                    self._row(step, y)
                    made[i] += 1
                    self._expect(counters, numbers, "the counters")
        for n, step in zip(made, steps, strict=True):
            if n != step.output.rows:
                raise SpoiltError(f"{step.layer.name} makes {n} rows of {step.output.rows}")

    def _row(self, step: Step, y: int) -> None:
        """A row kernel reads and writes in any order: what it reads, its scratch and its row share no byte."""
        assert step.kernel is not None
        if step.scratch is not None:
            self._put(slice(step.scratch, step.scratch + step.scratch_bytes), _RUBBISH)
        self._write(step.output, y)
        if step.scratch is not None and self._meets(step.output, y, step.scratch, step.scratch_bytes):
            raise SpoiltError(f"{step.layer.name} writes over its scratch")
        for place in step.inputs:
            rows = _under(step.layer, y, place.rows)
            for row in rows:
                self._read(place, row, step.layer.name)
            if step.kernel.slots:
                self._slots(step, place, y, rows)

    def _meets(self, place: Place, y: int, start: int, size: int) -> bool:
        at = self._bytes(place, y)
        return bool(at.start < start + size and start < at.stop)

    def _slots(self, step: Step, place: Place, y: int, rows: Sequence[int]) -> None:
        """The kernel gets three slots, which hold every row that it may read, and are in the arena."""
        assert place.offset is not None
        assert isinstance(step.layer, Depthwise)
        first = 0
        if place.slots == place.rows > 3:
            top = y * step.layer.window.stride[0] - step.layer.window.padding.top
            first = min(max(top, 0), place.rows - 3)
        start = place.offset + first * place.row_bytes
        self._inside(slice(start, start + 3 * place.row_bytes), place.tensor.name)
        if any(not start <= self._bytes(place, row).start < start + 3 * place.row_bytes for row in rows):
            raise SpoiltError(f"{step.layer.name} reads a row of {place.tensor.name} beyond its three slots")

    def _whole(self, step: Step) -> None:
        """A kernel of whole tensors, byte by byte in its order."""
        assert step.kernel is not None
        assert step.output.offset is not None
        if step.scratch is not None:
            self._put(slice(step.scratch, step.scratch + step.scratch_bytes), _RUBBISH)
            if any(self._meets(step.output, y, step.scratch, step.scratch_bytes) for y in range(step.output.rows)):
                raise SpoiltError(f"{step.layer.name} writes over its scratch")
        for place in step.inputs:
            if place.offset is not None:
                for y in range(place.rows):
                    self._read(place, y, step.layer.name)
        shapes, output = [place.tensor.shape for place in step.inputs], step.output.tensor.shape
        written, read = order(step.layer, shapes, output)
        for place, last_read in zip(step.inputs, read, strict=True):
            if place.offset is None:
                continue
            if place.layout != "nhwc":  # read in an order of its own
                last_read = np.full(place.rows * place.row_bytes, len(written))
            start = max(place.offset, step.output.offset)
            stop = min(place.offset + len(last_read), step.output.offset + len(written))
            if start >= stop:
                continue
            when_written = written[start - step.output.offset : stop - step.output.offset]
            if (when_written < last_read[start - place.offset : stop - place.offset]).any():
                raise SpoiltError(f"{step.layer.name} overwrites {place.tensor.name} before it has read it")
        for y in range(step.output.rows):
            self._write(step.output, y)

    def _bytes(self, place: Place, y: int) -> slice:
        assert place.offset is not None
        start = place.offset + y % place.slots * place.row_bytes
        return slice(start, start + place.row_bytes)

    def _numbers(self, place: Place, y: int) -> Bytes:
        return self._first[place.tensor.name] + y * place.row_bytes + np.arange(place.row_bytes)

    def _write(self, place: Place, y: int) -> None:
        self._put(self._bytes(place, y), self._numbers(place, y))

    def _read(self, place: Place, y: int, who: str) -> None:
        if place.offset is not None:
            self._expect(self._bytes(place, y), self._numbers(place, y), f"{who} reads row {y} of {place.tensor.name}")

    def _put(self, where: slice, numbers: Bytes | int) -> None:
        self._inside(where, "a write")
        self._arena[where] = numbers

    def _expect(self, where: slice, numbers: Bytes, what: str) -> None:
        self._inside(where, what)
        if (self._arena[where] != numbers).any():
            raise SpoiltError(f"{what}: overwritten")

    def _inside(self, where: slice, what: str) -> None:
        if where.start < 0 or where.stop > len(self._arena):
            raise SpoiltError(f"{what}: outside the arena")


def _under(layer: AnyLayer, y: int, height: int) -> list[int]:
    """The rows of an input that row y of the output is made of, ascending."""
    if not isinstance(layer, Conv2D | Depthwise | AveragePool | MaxPool):
        return [y]
    window = layer.window
    rows = (y * window.stride[0] - window.padding.top + k * window.dilation[0] for k in range(window.kernel[0]))
    return [row for row in rows if 0 <= row < height]


def _waits_for(layer: AnyLayer, y: int, height: int) -> int:
    """The row of an input that has to be there before row y of the output is made: where its window ends."""
    if not isinstance(layer, Conv2D | Depthwise | AveragePool | MaxPool):
        return y
    end = y * layer.window.stride[0] - layer.window.padding.top + layer.window.extent[0] - 1
    return min(end, height - 1)


def order(layer: AnyLayer, shapes: Sequence[Shape], output: Shape) -> tuple[Times, list[Times]]:
    """When each byte of the output is written, and when each byte of each input is read for the last time.

    Of layers whose kernels take whole tensors. Time counts in steps; what is read and written in one step is read
    first.
    """
    count = math.prod(output)
    written = np.arange(count)
    read = [np.full(math.prod(shape), NEVER) for shape in shapes]
    match layer:
        case Dense():
            for row in range(math.prod(shapes[0][:-1])):
                read[0][row * shapes[0][-1] : (row + 1) * shapes[0][-1]] = (row + 1) * output[-1] - 1
        case Requantize() | Lookup() | Softmax():
            read[0][:] = written
        case Add() | Mul():
            for times, shape in zip(read, shapes, strict=True):
                np.maximum.at(times, np.broadcast_to(_indices(shape), output).ravel(), written)
        case Pad():
            inside = np.pad(_indices(shapes[0]), layer.pads, constant_values=-1).ravel()
            read[0][inside[inside >= 0]] = written[inside >= 0]
        case ResizeNearest():
            from_pixel = _indices(shapes[0])[layer.rows][:, layer.columns]
            np.maximum.at(read[0], from_pixel.ravel(), written)
        case Transpose():
            read[0][_indices(shapes[0]).transpose(layer.permutation).ravel()] = written
        case Mean():
            kept = np.zeros(shapes[0], np.int64)
            size = [1 if axis in layer.axes else n for axis, n in enumerate(shapes[0])]
            read[0][:] = (kept + np.arange(count).reshape(size)).ravel()
        case Concat() | Reshape() | AveragePool():  # in any order: nothing may be overwritten
            for times in read:
                times[:] = count
        case _:
            raise AssertionError(f"{layer.kind} has no kernel of whole tensors")
    return written, read


def _indices(shape: Shape) -> NDArray[Any]:
    return np.arange(math.prod(shape)).reshape(shape)


def least_distance(written: Times, read: Times) -> int:
    """How far below an input an output has to begin so as to overwrite only what has been read.

    ANYWHERE if all is read before the first byte is written.
    """
    # Byte i of the input is spoilt by output bytes written before its last read: those below ``early[i]``.
    early = np.searchsorted(written, read)
    needed = (read != NEVER) & (early > 0)
    return int(np.max((early - np.arange(len(read)))[needed], initial=ANYWHERE))
