"""What is written into the arena for a layer alone is what it reads, in its layout, as long as it is needed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.firmwares import DIGITS, STREAMED, model
from tests.graphs import every_kernel
from tests.shared import needs_shared
from tinymbn.graph import Graph
from tinymbn_codegen.injection import injections, rows_read_by
from tinymbn_codegen.layouts import Layout, decode, encode, row_bytes
from tinymbn_codegen.options import Options
from tinymbn_codegen.plan import Place, Plan, Step, make_plan

Bytes = NDArray[np.uint8]
Values = dict[str, NDArray[np.int8]]

STREAMING = (
    Options(kernels="plain", optimize="ram"),
    Options(kernels="plain", optimize="ram", input="rows"),
    Options(kernels="plain", without=frozenset({"streaming"})),
)


def noise(graph: Graph) -> Values:
    """Bytes for every tensor, whatever a network would make of them."""
    chance = np.random.default_rng(3)
    return {
        name: chance.integers(-128, 128, tensor.shape).astype(np.int8) for name, tensor in graph.tensors.items()
    } | dict(graph.constants)


def rows_of(place: Place, values: Values) -> Bytes:
    array = values[place.tensor.name]
    return encode(place.layout, array) if array.ndim == 3 else array.reshape(1, -1).view(np.uint8)


def at(place: Place, row: int) -> slice:
    assert place.offset is not None
    begin = place.offset + row % place.slots * place.row_bytes
    return slice(begin, begin + place.row_bytes)


def expect_all_that_is_read(plan: Plan, step: Step, values: Values) -> None:
    """Makes the layer as a board does: what it writes, and its scratch, are garbage here."""
    arena = np.random.default_rng(4).integers(0, 256, plan.arena_bytes).astype(np.uint8)
    read = rows_read_by(plan, step)
    made = 0
    for injection in injections(plan, step, values):
        assert injection.first == made
        for offset, data in injection.pieces:
            assert 0 <= offset <= offset + len(data) <= plan.arena_bytes
            arena[offset : offset + len(data)] = np.frombuffer(data, np.uint8)
        for y in range(injection.first, injection.first + injection.count):
            for place in step.inputs:
                if place.offset is None:
                    continue
                rows, reads = rows_of(place, values), read[place.tensor.name]
                for row in range(int(reads.first[y]), int(reads.last[y]) + 1):
                    assert (arena[at(place, row)] == rows[row]).all(), f"{step.layer.name}: row {y} reads {row}"
            if step.kernel is not None:
                if step.scratch is not None:
                    arena[step.scratch : step.scratch + step.scratch_bytes] += 1
                for row in (y,) if step.kernel.rows else range(step.output.rows):
                    arena[at(step.output, row)] += 1
        made += injection.count
    assert made == step.calls


@pytest.mark.parametrize("options", STREAMING, ids=lambda options: options.text)
@pytest.mark.parametrize("name", [DIGITS, STREAMED, "every kernel"])
def test_each_row_of_each_layer_finds_what_it_reads(name: str, options: Options) -> None:
    graph = every_kernel() if name == "every kernel" else model(name)
    plan = make_plan(graph, options, "")
    values = noise(plan.graph)
    for step in plan.steps:
        expect_all_that_is_read(plan, step, values)


@needs_shared
@pytest.mark.parametrize("options", STREAMING, ids=lambda options: options.text)
@pytest.mark.parametrize("name", ["person_detect", "mcunet_vww", "ssd_slim_120x160x1_int8"])
def test_each_row_of_each_layer_of_trained_models_finds_what_it_reads(name: str, options: Options) -> None:
    plan = make_plan(model(name), options, "")
    values = noise(plan.graph)
    for step in plan.steps:
        expect_all_that_is_read(plan, step, values)


def test_a_layer_that_does_not_stream_gets_its_inputs_whole_and_runs_once() -> None:
    plan = make_plan(model(), Options(kernels="plain", without=frozenset({"streaming"})), "")
    values = noise(plan.graph)
    for step in plan.steps:
        (injection,) = injections(plan, step, values)
        (place,) = step.inputs
        assert (injection.first, injection.count) == (0, step.calls)
        assert injection.pieces == ((place.offset, values[place.tensor.name].tobytes()),)


def test_a_row_is_written_once_and_only_when_it_is_needed() -> None:
    plan = make_plan(model(STREAMED), Options(kernels="plain", optimize="ram"), "")
    step = next(step for step in plan.steps if any(place.streams for place in step.inputs) and step.output.rows > 4)
    (place,) = step.inputs
    found = list(injections(plan, step, noise(plan.graph)))
    assert len(found) == step.output.rows
    assert sum(len(injection.pieces) for injection in found) == place.rows
    assert max(len(injection.pieces) for injection in found) <= place.slots


@pytest.mark.parametrize("layout", ["planar", "pairs"])
@pytest.mark.parametrize("streams", [True, False])
def test_rows_are_written_in_the_layout_that_the_kernel_reads(layout: Layout, streams: bool) -> None:
    options = Options(kernels="plain", optimize="ram", without=frozenset() if streams else frozenset({"streaming"}))
    plan = make_plan(model(STREAMED), options, "")
    index = next(k for k, step in enumerate(plan.steps) if step.layer.kind == "depthwise" and step.output.rows > 8)
    step = plan.steps[index]
    (place,) = step.inputs
    shape = place.tensor.shape
    assert len(shape) == 3
    slots = 3 if streams else shape[0]
    other = replace(place, offset=64, layout=layout, row_bytes=row_bytes(layout, shape), slots=slots)
    changed = replace(step, inputs=(other,))
    changed_plan = replace(plan, steps=(*plan.steps[:index], changed, *plan.steps[index + 1 :]))
    values = noise(plan.graph)
    arena = np.zeros(64 + other.slots * other.row_bytes, np.uint8)
    read = rows_read_by(changed_plan, changed)[place.tensor.name]
    for injection in injections(changed_plan, changed, values):
        for offset, data in injection.pieces:
            arena[offset : offset + len(data)] = np.frombuffer(data, np.uint8)
        for y in range(injection.first, injection.first + injection.count):
            for row in range(int(read.first[y]), int(read.last[y]) + 1):
                (there,) = decode(layout, arena[at(other, row)][np.newaxis], shape)
                assert (there == values[place.tensor.name][row]).all(), f"row {y} reads {row}"
