"""In what order rows are made, how many of each map are needed at a time, and until when: small cases by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from tests.graphs import weights
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.layers import (
    Activation,
    Add,
    AnyLayer,
    Conv2D,
    Depthwise,
    MaxPool,
    Mean,
    Padding,
    Reshape,
    Window,
)
from tinymbn_codegen.assignment import Choice
from tinymbn_codegen.kernels import KERNELS
from tinymbn_codegen.schedule import NEVER, Scheduler, Segment, Timeline, rows_read


@dataclass(frozen=True)
class Case:
    """A layer that reads a map which streams, one row of it in each pass.

    Attributes:
        height: of the map.
        kernel: rows of the window.
        stride, dilation, top, bottom: of the window.
        slots: rows of the map that are needed at a time.
        passes: until all is made.
        unread: rows that nobody reads.
    """

    height: int
    kernel: int
    stride: int
    dilation: int
    top: int
    bottom: int
    slots: int
    passes: int
    unread: tuple[int, ...] = ()


CASES = (
    Case(8, 3, 1, 1, 1, 1, slots=3, passes=9),  # the last row reads 6 and 7, but 7 is the turn of the one before
    Case(8, 3, 1, 1, 0, 0, slots=3, passes=8),
    Case(8, 3, 1, 1, 1, 0, slots=3, passes=8),
    Case(8, 3, 1, 1, 0, 1, slots=3, passes=9),
    Case(8, 3, 2, 1, 0, 1, slots=3, passes=8),
    Case(8, 3, 2, 1, 1, 1, slots=3, passes=8),
    Case(7, 3, 2, 1, 1, 1, slots=3, passes=7),
    Case(9, 3, 2, 1, 0, 0, slots=3, passes=9),
    Case(8, 3, 2, 1, 0, 0, slots=3, passes=8, unread=(7,)),
    Case(8, 3, 3, 1, 0, 0, slots=3, passes=8, unread=(6, 7)),
    Case(8, 5, 1, 1, 2, 2, slots=5, passes=10),
    Case(8, 5, 2, 1, 2, 2, slots=5, passes=8),
    Case(8, 3, 1, 2, 2, 2, slots=5, passes=10),
    Case(8, 2, 2, 1, 0, 0, slots=2, passes=8),
    Case(8, 1, 1, 1, 0, 0, slots=1, passes=8),
    Case(8, 1, 2, 1, 0, 0, slots=1, passes=8, unread=(1, 3, 5, 7)),
    Case(1, 3, 1, 1, 1, 1, slots=1, passes=1),
    Case(2, 3, 1, 1, 1, 1, slots=2, passes=3),
    Case(2, 3, 2, 1, 0, 1, slots=2, passes=2),
)


class Chain:
    """A graph that grows: maps of one channel whose rows are all that matters."""

    def __init__(self, height: int) -> None:
        self.tensors = {"x": Tensor("x", (height, 4, 1), Quant(0.5, 0))}
        self.layers: list[AnyLayer] = []
        self.outputs: tuple[str, ...] = ()

    def _add(self, layer: AnyLayer) -> None:
        shapes = [self.tensors[name].shape for name in layer.inputs]
        self.tensors[layer.output] = Tensor(layer.output, layer.output_shape(*shapes), Quant(0.5, 0))
        self.layers.append(layer)

    def pointwise(self, name: str, source: str) -> None:
        w = weights(1, 1, 1, 1, channels=1)
        self._add(Conv2D(name, (source,), name, weights=w, activation=Activation(), window=Window((1, 1))))

    def depthwise(self, name: str, source: str, case: Case | None = None) -> None:
        case = case or CASES[0]
        w = weights(case.kernel, 1, 1, channels=1)
        padding = Padding(case.top, case.bottom, 0, 0)
        window = Window((case.kernel, 1), (case.stride, 1), (case.dilation, 1), padding)
        self._add(Depthwise(name, (source,), name, weights=w, activation=Activation(), window=window))

    def add(self, name: str, a: str, b: str) -> None:
        self._add(Add(name, (a, b), name, 2**30, 0, 2**30, 0, 2**30, -18))

    def pool(self, name: str, source: str) -> None:
        self._add(MaxPool(name, (source,), name, window=Window((2, 2), (2, 2)), activation=Activation()))

    def mean(self, name: str, source: str) -> None:
        self._add(Mean(name, (source,), name, (0, 1), False, 2**30, 0))

    def graph(self) -> Graph:
        last = self.layers[-1].output
        outputs = self.outputs or (last,)
        return Graph("chain", self.tensors, tuple(self.layers), "x", outputs)

    def choices(self) -> list[Choice]:
        """Every layer but a MEAN with a row kernel, the ADD too."""
        return [
            Choice(KERNELS["dsp_add" if isinstance(layer, Add) else layer.kind], ("nhwc",), "nhwc", 0)
            for layer in self.layers
        ]

    def timeline(self, *streamed: str, rows_in: bool = False) -> Timeline:
        return Scheduler(self.graph(), self.choices(), rows_in=rows_in).timeline(streamed)


def times(timeline: Timeline) -> list[list[int]]:
    return [made.tolist() for made in timeline.made]


def test_a_window_of_three_by_hand() -> None:
    chain = Chain(4)
    chain.pointwise("a", "x")
    chain.depthwise("b", "a")
    timeline = chain.timeline("a")
    # Passes: a0 | a1 b0 | a2 b1 | a3 b2 | b3
    assert times(timeline) == [[0, 1, 3, 5], [2, 4, 6, 7]]
    assert timeline.segments == (Segment((0, 1), "x", 4, 5),)
    assert timeline.written["a"].tolist() == [0, 1, 3, 5]
    assert timeline.read["a"].tolist() == [4, 6, 7, 7]
    assert timeline.read["x"].tolist() == [0, 1, 3, 5]
    assert timeline.written["x"].tolist() == [NEVER] * 4
    assert timeline.rings == {"a": 3}
    assert timeline.end == 8


def test_without_streaming_one_layer_runs_after_the_other() -> None:
    chain = Chain(4)
    chain.pointwise("a", "x")
    chain.depthwise("b", "a")
    chain.mean("c", "b")
    timeline = chain.timeline()
    assert times(timeline) == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert [segment.layers for segment in timeline.segments] == [(0,), (1,), (2,)]
    assert all(segment.source is None for segment in timeline.segments)
    assert timeline.read["a"].tolist() == [5, 6, 7, 7]
    assert timeline.read["b"].tolist() == [8] * 4


@pytest.mark.parametrize("case", CASES, ids=str)
def test_slots_and_passes(case: Case) -> None:
    chain = Chain(case.height)
    chain.pointwise("a", "x")
    chain.depthwise("b", "a", case)
    timeline = chain.timeline("a")
    assert timeline.rings == {"a": case.slots}
    assert timeline.segments[0].passes == case.passes
    assert tuple(np.flatnonzero(timeline.read["a"] == NEVER).tolist()) == case.unread


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_window_is_read_before_it_is_there_nor_after_it_is_gone(case: Case) -> None:
    """The same, row by row: the ring holds each row that a window covers, and one slot less would not."""
    chain = Chain(case.height)
    chain.pointwise("a", "x")
    chain.depthwise("b", "a", case)
    timeline = chain.timeline("a")
    written, made = timeline.made

    def missing(slots: int) -> bool:
        for y, event in enumerate(made.tolist()):
            there = {int(row) % slots: int(row) for row in np.flatnonzero(written < event)}
            for k in range(case.kernel):
                row = y * case.stride - case.top + k * case.dilation
                if 0 <= row < case.height and there.get(row % slots) != row:
                    return True
        return False

    assert not missing(case.slots)
    # With dilation the rows between are counted as needed.
    assert case.slots == 1 or missing(case.slots - 1) or case.dilation > 1


def test_a_chain_makes_a_row_of_each_layer_as_soon_as_it_can() -> None:
    chain = Chain(8)
    chain.depthwise("a", "x", Case(8, 3, 2, 1, 0, 1, 0, 0))
    chain.pointwise("b", "a")
    chain.depthwise("c", "b")
    chain.pointwise("d", "c")
    timeline = chain.timeline("a", "b", "c")
    # a is made in passes 2, 4, 6 and 7, b with it; c in 4, 6, 7 and 8, d with it.
    assert times(timeline) == [[0, 2, 6, 10], [1, 3, 7, 11], [4, 8, 12, 14], [5, 9, 13, 15]]
    assert timeline.rings == {"a": 1, "b": 3, "c": 1}
    assert timeline.segments == (Segment((0, 1, 2, 3), "x", 8, 9),)


@pytest.mark.parametrize(("reversed_", "expected"), [(False, 5), (True, 5)])
def test_of_two_readers_the_slower_decides(reversed_: bool, expected: int) -> None:
    chain = Chain(8)
    chain.pointwise("a", "x")
    cases: Sequence[Case] = (Case(8, 3, 1, 1, 1, 1, 0, 0), Case(8, 5, 1, 1, 2, 2, 0, 0))
    for name, case in zip("bc", reversed(cases) if reversed_ else cases, strict=True):
        chain.depthwise(name, "a", case)
    chain.outputs = ("b", "c")
    timeline = chain.timeline("a")
    assert timeline.rings == {"a": expected}
    assert [segment.layers for segment in timeline.segments] == [(0, 1, 2)]


@pytest.mark.parametrize(("windows", "expected"), [(0, 1), (1, 2), (2, 3), (3, 4), (5, 6)])
def test_a_residual_keeps_the_rows_that_its_branch_is_behind(windows: int, expected: int) -> None:
    chain = Chain(12)
    chain.pointwise("a", "x")
    chain.pointwise("b0", "a")
    for i in range(windows):
        chain.depthwise(f"b{i + 1}", f"b{i}")
    chain.add("sum", "a", f"b{windows}")
    inner = [f"b{i}" for i in range(windows + 1)]
    timeline = chain.timeline("a", *inner)
    # The sum's row y comes `windows` passes after row y of a.
    assert timeline.rings["a"] == expected
    assert len(timeline.segments) == 1


def test_a_map_across_others_joins_all_that_lies_between() -> None:
    chain = Chain(8)
    for name, source in (("a", "x"), ("b", "a"), ("c", "b"), ("d", "c")):
        chain.pointwise(name, source)
    chain.add("sum", "a", "c")
    chain.add("y", "sum", "d")
    layers = [segment.layers for segment in chain.timeline("a").segments]
    assert layers == [(0, 1, 2, 3, 4), (5,)]
    layers = [segment.layers for segment in chain.timeline("b", "sum").segments]
    assert layers == [(0,), (1, 2), (3,), (4, 5)]
    layers = [segment.layers for segment in chain.timeline("b", "c").segments]
    assert layers == [(0,), (1, 2, 3, 4), (5,)]


def test_maps_within_a_segment_may_be_whole() -> None:
    chain = Chain(6)
    for name, source in (("a", "x"), ("b", "a"), ("c", "b")):
        chain.pointwise(name, source)
    chain.add("sum", "a", "c")
    timeline = chain.timeline("a")
    assert timeline.rings == {"a": 1}
    assert times(timeline)[3] == [3, 7, 11, 15, 19, 23]  # all four make a row in each pass


def test_a_segment_waits_for_the_rows_of_its_first_input_alone() -> None:
    """The other operand of its first layer is whole, and there."""
    chain = Chain(4)
    chain.pointwise("a", "x")
    chain.pointwise("b", "x")
    chain.add("sum", "a", "b")
    chain.depthwise("c", "sum")
    timeline = chain.timeline("sum")
    assert timeline.segments[2] == Segment((2, 3), "a", 4, 5)
    assert times(timeline)[2:] == [[8, 9, 11, 13], [10, 12, 14, 15]]


def test_the_input_comes_row_by_row() -> None:
    chain = Chain(4)
    chain.depthwise("a", "x")
    chain.pointwise("b", "a")
    timeline = chain.timeline("a", rows_in=True)
    # Passes: x0 | x1 a0 b0 | x2 a1 b1 | x3 a2 b2 | a3 b3
    assert times(timeline) == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert timeline.written["x"].tolist() == [0, 0, 2, 4]
    assert timeline.rings == {"a": 1, "x": 3}
    assert timeline.segments == (Segment((0, 1), "x", 4, 5),)


def test_rows_that_nobody_reads_come_while_the_first_layers_run() -> None:
    """They take their place in the ring before the next layer begins, not at the end of all."""
    chain = Chain(8)
    chain.depthwise("a", "x", Case(8, 1, 4, 1, 0, 0, 0, 0))
    chain.depthwise("b", "a", Case(2, 1, 1, 1, 0, 0, 0, 0))
    timeline = chain.timeline(rows_in=True)
    assert times(timeline) == [[0, 1], [2, 3]]
    assert timeline.written["x"].tolist() == [0, 1, 1, 1, 1, 2, 2, 2]
    assert timeline.rings == {"x": 1}
    assert timeline.segments[0].passes == 8


@pytest.mark.parametrize("how", ["output", "name"])
def test_an_input_that_is_also_wanted_later_is_whole(how: str) -> None:
    chain = Chain(8)
    chain.depthwise("a", "x")
    if how == "output":
        chain.outputs = ("a", "x")
    else:
        chain._add(Reshape("y", ("x",), "y", (32,)))
    assert chain.timeline(rows_in=True).rings == {"x": 8}


def test_an_input_that_is_read_by_rows_and_as_a_whole_is_whole() -> None:
    chain = Chain(8)
    chain.depthwise("a", "x")
    chain.mean("m", "x")
    assert chain.timeline(rows_in=True).rings == {"x": 8}


@pytest.mark.parametrize(("height", "kernel"), [(1, 1), (1, 3), (2, 3), (3, 3)])
def test_maps_of_a_few_rows(height: int, kernel: int) -> None:
    case = Case(height, kernel, 1, 1, kernel // 2, kernel // 2, 0, 0)
    chain = Chain(height)
    chain.depthwise("a", "x", case)
    chain.depthwise("b", "a", case)
    timeline = chain.timeline("a", rows_in=True)
    assert timeline.rings == {"x": min(height, kernel), "a": min(height, kernel)}
    assert timeline.end == 2 * height


def test_what_is_known_of_a_segment_is_the_same_object_in_every_schedule() -> None:
    chain = Chain(8)
    for name, source in (("a", "x"), ("b", "a"), ("c", "b"), ("d", "c")):
        chain.pointwise(name, source)
    scheduler = Scheduler(chain.graph(), chain.choices())
    one, two = scheduler.timeline({"a", "c"}), scheduler.timeline({"c"})
    assert one.made[2] is two.made[2]
    assert one.end == two.end == 32


def test_rows_read_of_windows_and_of_whole_tensors() -> None:
    chain = Chain(5)
    chain.depthwise("a", "x")
    chain.pool("b", "a")
    chain.mean("c", "b")
    found = rows_read(chain.graph(), chain.choices())
    reads = [(each[0].first.tolist(), each[0].last.tolist(), each[0].reader.tolist()) for each in found]
    assert reads == [
        ([0, 0, 1, 2, 3], [1, 2, 3, 4, 4], [1, 2, 3, 4, 4]),
        ([0, 2], [1, 3], [0, 0, 1, 1, NEVER]),
        ([0], [1], [0, 0]),
    ]
