"""The arena: no byte is overwritten that is still to be read, and none is wasted that need not be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.graphs import weights
from tests.random_graphs import KINDS, graphs, row_graphs
from tests.replay import NEVER, least_distance, order, problem
from tinymbn.board import load_board
from tinymbn.errors import UnsupportedError
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.layers import (
    Activation,
    Add,
    AnyLayer,
    AveragePool,
    Concat,
    Conv2D,
    Dense,
    Depthwise,
    MaxPool,
    Mean,
    Padding,
    Quantize,
    Requantize,
    Reshape,
    Shape,
    Transpose,
    Window,
)
from tinymbn_codegen.budget import stack_bytes
from tinymbn_codegen.check import check_plan
from tinymbn_codegen.kernels import KERNELS, overlap_distance
from tinymbn_codegen.options import PASSES, Options
from tinymbn_codegen.plan import Place, Plan, make_plan
from tinymbn_codegen.project import firmware_files
from tinymbn_codegen.requests import ALIGNMENT, COUNTERS, scratch_name

any_graph = st.sampled_from(list(KINDS)).flatmap(lambda kind: graphs(kind, 12)) | row_graphs()
kernel_sets = st.sampled_from(["plain", "armv7m"])
any_options = st.builds(
    Options,
    without=st.sets(st.sampled_from(PASSES)).map(frozenset),
    kernels=kernel_sets,
    input=st.sampled_from(["frame", "frame", "rows"]),
)

WITHOUT_STREAMING = Options(without=frozenset({"streaming"}), kernels="plain")


def plan_of(graph: Graph, options: Options | None = None) -> Plan:
    return make_plan(graph, options or Options(kernels="plain"), "00" * 32)


def maybe_plan(graph: Graph, options: Options) -> Plan:
    """With the input as a frame where its rows cannot be taken one by one."""
    try:
        return plan_of(graph, options)
    except UnsupportedError:
        return plan_of(graph, replace(options, input="frame"))


def changed(plan: Plan, change: Callable[[Place], Place]) -> Plan:
    """With every place changed in one way."""
    return replace(
        plan,
        steps=tuple(
            replace(step, inputs=tuple(map(change, step.inputs)), output=change(step.output)) for step in plan.steps
        ),
        input=change(plan.input),
        outputs=tuple(map(change, plan.outputs)),
    )


def moved(plan: Plan, name: str, offset: int) -> Plan:
    """With what a request of this name is for in another place."""
    if name == COUNTERS:
        return replace(plan, counters=offset)
    tensors = next(buffer.request.tensors for buffer in plan.buffers if buffer.request.name == name)
    plan = changed(plan, lambda place: replace(place, offset=offset) if place.tensor.name in tensors else place)
    steps = (replace(step, scratch=offset) if scratch_name(step.index) == name else step for step in plan.steps)
    return replace(plan, steps=tuple(steps))


def refused(plan: Plan) -> bool:
    try:
        check_plan(plan)
    except AssertionError:
        return True
    return False


def offset_of(plan: Plan, name: str) -> int:
    return next(buffer.offset for buffer in plan.buffers if name in (buffer.request.name, *buffer.request.tensors))


def chain(*layers: AnyLayer, shape: tuple[int, ...] = (8, 8, 4)) -> Graph:
    """Each layer reads what the one before it makes."""
    tensors = {"x": Tensor("x", shape, Quant(0.5, 0))}
    for layer in layers:
        shape = layer.output_shape(shape)
        tensors[layer.output] = Tensor(layer.output, shape, Quant(0.5, 0))
    return Graph("chain", tensors, layers, "x", (layers[-1].output,))


def pointwise(name: str, source: str, c_in: int, c_out: int, stride: int = 1) -> Conv2D:
    w = weights(c_out, 1, 1, c_in, channels=c_out)
    return Conv2D(name, (source,), name, weights=w, activation=Activation(), window=Window((1, 1), (stride, stride)))


def depthwise(name: str, source: str, channels: int, stride: int = 1) -> Depthwise:
    w = weights(3, 3, channels, channels=channels)
    window = Window((3, 3), (stride, stride), padding=Padding(1, 1, 1, 1))
    return Depthwise(name, (source,), name, weights=w, activation=Activation(), window=window)


def streaming() -> Plan:
    """Two rings, 1 and 3 rows, between a frame and a map."""
    layers = (pointwise("a", "x", 4, 16), depthwise("b", "a", 16), pointwise("c", "b", 16, 4))
    plan = plan_of(chain(*layers, shape=(12, 8, 4)), Options(kernels="plain"))
    assert [(step.output.slots, step.output.rows) for step in plan.steps] == [(3, 12), (1, 12), (12, 12)]
    return plan


@given(any_graph, any_options)
def test_every_byte_is_there_when_it_is_read(graph: Graph, options: Options) -> None:
    plan = maybe_plan(graph, options)  # which passes its own check
    assert problem(plan) is None
    assert min(buffer.offset for buffer in plan.buffers) == 0
    assert max(buffer.end for buffer in plan.buffers) == plan.arena_bytes
    assert all(buffer.offset % ALIGNMENT == 0 for buffer in plan.buffers)


@given(any_graph, any_options)
def test_the_same_graph_gives_the_same_plan(graph: Graph, options: Options) -> None:
    one, two = maybe_plan(graph, options), maybe_plan(graph, options)
    assert one.segments == two.segments
    assert [buffer.offset for buffer in one.buffers] == [buffer.offset for buffer in two.buffers]
    for a, b in zip(one.steps, two.steps, strict=True):
        assert (a.inputs, a.output, a.scratch, a.kernel) == (b.inputs, b.output, b.scratch, b.kernel)


@pytest.mark.parametrize("name", ["overlap", "streaming"])
@given(any_graph, kernel_sets)
def test_neither_overlap_nor_streaming_ever_costs(name: str, graph: Graph, kernels: str) -> None:
    others = frozenset() if name == "streaming" else frozenset({"streaming"})
    saved = plan_of(graph, Options(without=others, kernels=kernels)).arena_bytes  # type: ignore[arg-type]
    without = Options(without=others | {name}, kernels=kernels)  # type: ignore[arg-type]
    assert saved <= plan_of(graph, without).arena_bytes


@given(any_graph)
def test_the_declared_distance_is_safe_and_at_most_a_piece_too_long(graph: Graph) -> None:
    for layer in graph.layers:
        shapes = [graph.tensors[name].shape for name in layer.inputs]
        output = graph.tensors[layer.output].shape
        if isinstance(layer, Conv2D | Depthwise | AveragePool | MaxPool):  # row by row
            assert overlap_distance(layer, 0, shapes[0], output) is None
            continue
        written, read = order(layer, shapes, output)
        for i, shape in enumerate(shapes):
            declared, least = overlap_distance(layer, i, shape, output), least_distance(written, read[i])
            if declared is None:
                reads_at_any_time = isinstance(layer, Mean | Concat | Transpose | Reshape)
                assert reads_at_any_time or math.prod(shape) < math.prod(output)
                continue
            assert least <= declared
            if not (read[i] == NEVER).any():  # what is never read may count as read
                assert declared <= max(least, 0) + row_bytes(output, shape)


def row_bytes(*shapes: Shape) -> int:
    """One row of each."""
    return sum(math.prod(shape[1:]) if len(shape) > 1 else shape[0] for shape in shapes)


@given(any_graph, any_options, st.data())
def test_the_check_refuses_what_the_replay_refuses_wherever_a_buffer_is_moved(
    graph: Graph, options: Options, data: st.DataObject
) -> None:
    plan = maybe_plan(graph, options)
    victim = data.draw(st.sampled_from(plan.buffers))
    anywhere = data.draw(st.integers(0, plan.arena_bytes // ALIGNMENT)) * ALIGNMENT
    for offset in (victim.offset - ALIGNMENT, victim.offset + ALIGNMENT, anywhere):
        other = moved(plan, victim.request.name, offset)
        if problem(other) is not None:
            assert refused(other)


@given(any_graph, any_options, st.data())
def test_the_check_refuses_what_the_replay_refuses_wherever_a_layer_looks(
    graph: Graph, options: Options, data: st.DataObject
) -> None:
    """One layer alone has a wrong idea of where a tensor is, or how many of its rows there are."""
    plan = maybe_plan(graph, options)
    step = data.draw(st.sampled_from(plan.steps))
    which = data.draw(st.integers(-1, len(step.inputs) - 1))
    place = step.output if which < 0 else step.inputs[which]
    if place.offset is None:
        return
    amount = data.draw(st.sampled_from([-1, 1]))
    wrong = data.draw(
        st.sampled_from(
            [
                replace(place, offset=place.offset + ALIGNMENT * amount),
                replace(place, slots=min(max(place.slots + amount, 1), place.rows)),
                replace(place, row_bytes=max(place.row_bytes + amount, 1)),
            ]
        )
    )
    inputs = tuple(wrong if i == which else p for i, p in enumerate(step.inputs))
    bad = replace(step, inputs=inputs, output=wrong if which < 0 else step.output)
    other = replace(plan, steps=tuple(bad if s is step else s for s in plan.steps))
    if problem(other) is not None:
        assert refused(other)


@given(row_graphs(), any_options, st.data())
def test_a_pass_too_few_is_refused(graph: Graph, options: Options, data: st.DataObject) -> None:
    plan = maybe_plan(graph, options)
    streams = [segment for segment in plan.segments if segment.source is not None]
    if not streams:
        return
    victim = data.draw(st.sampled_from(streams))
    less = replace(victim, passes=victim.passes - 1)
    other = replace(plan, segments=tuple(less if segment is victim else segment for segment in plan.segments))
    assert refused(other)


@given(any_graph)
def test_an_output_one_byte_lower_than_least_is_seen(graph: Graph) -> None:
    """The replay itself: it tells the last safe place from the first unsafe one."""
    layer = graph.layers[0]
    names = [name for name in layer.inputs if name not in graph.constants]
    if len(names) != 1 or isinstance(layer, Conv2D | Depthwise | AveragePool | MaxPool):
        return
    alone = Graph(
        "one layer",
        {name: graph.tensors[name] for name in (*layer.inputs, layer.output)},
        (layer,),
        names[0],
        (layer.output,),
        {name: graph.constants[name] for name in layer.inputs if name in graph.constants},
    )
    shapes = [graph.tensors[name].shape for name in layer.inputs]
    written, read = order(layer, shapes, graph.tensors[layer.output].shape)
    input_bytes, output_bytes = alone.tensors[names[0]].elements, alone.tensors[layer.output].elements
    distance = max(least_distance(written, read[layer.inputs.index(names[0])]), -input_bytes)
    plan = plan_of(alone, Options(without=frozenset({"alias_reshape"})))
    room = replace(plan, arena_bytes=2 * (input_bytes + output_bytes))

    def below(distance: int) -> Plan:
        return moved(moved(room, names[0], input_bytes + distance), layer.output, input_bytes)

    assert problem(below(distance)) is None
    if -input_bytes < distance - 1 < output_bytes:
        assert problem(below(distance - 1)) is not None


def test_a_ring_one_slot_too_small_is_refused() -> None:
    plan = streaming()
    for name, slots in (("a", 2), ("a", 4), ("b", 2)):  # nor one that is larger than its room
        other = changed(plan, lambda p, n=name, s=slots: replace(p, slots=s) if p.tensor.name == n else p)  # type: ignore[misc]
        assert refused(other), (name, slots)
    two = changed(plan, lambda place: replace(place, slots=2) if place.tensor.name == "a" else place)
    assert problem(two) is not None
    assert not refused(plan)


def test_a_map_moved_onto_what_is_read_beside_it_is_refused() -> None:
    """By one row: the output of a row kernel onto the row that it reads."""
    plan = plan_of(chain(pointwise("a", "x", 4, 4)), WITHOUT_STREAMING)
    assert plan.arena_bytes == 256 + 32  # a row ahead of what it has read
    x, a = offset_of(plan, "x"), offset_of(plan, "a")
    assert x - a == 32
    for offset in (a + 4, x):
        other = moved(plan, "a", offset)
        assert refused(other)
        assert problem(other) is not None


def test_counters_over_a_map_are_refused() -> None:
    plan = streaming()
    for name in ("x", "a", "b", "c"):
        other = moved(plan, COUNTERS, offset_of(plan, name))
        assert refused(other), name
        assert problem(other) is not None, name


def test_scratch_over_a_row_that_is_needed_is_refused() -> None:
    plan = streaming()
    end = -(-plan.arena_bytes // ALIGNMENT) * ALIGNMENT

    def with_scratch(offset: int) -> Plan:
        steps = list(plan.steps)
        steps[1] = replace(steps[1], scratch=offset, scratch_bytes=8)
        return replace(plan, steps=tuple(steps), arena_bytes=end + 8)

    assert not refused(with_scratch(end))
    for offset in (offset_of(plan, "a"), offset_of(plan, "b"), offset_of(plan, COUNTERS), end + 4, end + 2, -8):
        assert refused(with_scratch(offset)), offset
        assert offset == end + 2 or problem(with_scratch(offset)) is not None, offset


@pytest.mark.parametrize("slots", [2, 3, 4])
def test_a_kernel_that_takes_three_slots_has_three(slots: int) -> None:
    plan = streaming()
    steps = list(plan.steps)
    steps[1] = replace(steps[1], kernel=KERNELS["dsp_depthwise"])
    plan = replace(plan, steps=tuple(steps), arena_bytes=plan.arena_bytes + 256)
    end = plan.arena_bytes - 512 // 4 * slots
    other = changed(plan, lambda p: replace(p, slots=slots) if p.tensor.name == "a" else p)
    if slots == 4:
        other = moved(replace(other, arena_bytes=end + 512), "a", end)
    assert refused(other) == (slots != 3)


def test_layers_left_out_or_in_another_order_are_refused() -> None:
    plan = plan_of(chain(pointwise("a", "x", 4, 8), pointwise("b", "a", 8, 4)), WITHOUT_STREAMING)
    first, second = plan.segments
    for segments in ((second, first), (first,), (first, second, second)):
        assert refused(replace(plan, segments=segments))


def test_a_reshape_that_moves_is_refused() -> None:
    tensors = {name: Tensor(name, shape, Quant(0.5, 0)) for name, shape in (("x", (4, 4)), ("y", (16,)))}
    plan = plan_of(Graph("reshape", tensors, (Reshape("y", ("x",), "y", (16,)),), "x", ("y",)))
    (step,) = plan.steps
    away = replace(step.output, offset=16)
    other = replace(plan, steps=(replace(step, output=away),), outputs=(away,), arena_bytes=32)
    assert refused(other)
    assert problem(other) is not None


def test_a_plan_with_a_tensor_moved_into_a_live_one_is_refused() -> None:
    graph = chain(pointwise("a", "x", 4, 8), pointwise("b", "a", 8, 4))
    plan = plan_of(graph, WITHOUT_STREAMING)
    for step in (-ALIGNMENT, ALIGNMENT):
        other = moved(plan, "a", offset_of(plan, "a") + step)
        assert refused(other)
        assert problem(other) is not None
    assert not refused(plan)


def test_a_plan_with_an_overlap_one_byte_too_far_is_refused() -> None:
    # Rows of 8 bytes make rows of 4: output row y is written up to 4 y + 4 while row y is read, from 8 y on.
    tensors = {name: Tensor(name, shape, Quant(0.5, 0)) for name, shape in (("x", (8, 4)), ("y", (8, 12)))}
    layer = Dense("y", ("x",), "y", weights=weights(12, 4, channels=12), activation=Activation())
    graph = Graph("dense", tensors, (layer,), "x", ("y",))
    declared = overlap_distance(layer, 0, (8, 4), (8, 12))
    assert declared == 8 * 12 - 7 * 4
    plan = plan_of(graph)
    assert plan.arena_bytes == declared + 32
    assert offset_of(plan, "x") - offset_of(plan, "y") == declared
    other = moved(plan, "x", offset_of(plan, "x") - ALIGNMENT)
    assert refused(other)
    assert problem(other) is not None


@pytest.mark.parametrize(("stride", "expected"), [(1, 8 * 8 * 4 + 2 * 8 * 4), (2, 8 * 8 * 4 + 4 * 4)])
def test_a_depthwise_layer_grows_into_its_input(stride: int, expected: int) -> None:
    # A window of 3x3 looks back one row and may not write over that which it reads; with stride 2 two rows are free
    # for each that is made, of half the length, and the first one has to lie before all.
    graph = chain(depthwise("y", "x", 4, stride))
    assert plan_of(graph).arena_bytes == expected


def test_a_residual_keeps_its_input_until_the_sum() -> None:
    layers = (pointwise("a", "x", 4, 8), pointwise("b", "a", 8, 4))
    graph = chain(*layers)
    total = Add("sum", ("x", "b"), "sum", 2**30, 0, 2**30, 0, 2**30, -18)
    graph = replace(
        graph,
        tensors={**graph.tensors, "sum": Tensor("sum", (8, 8, 4), Quant(0.5, 0))},
        layers=(*layers, total),
        outputs=("sum",),
    )
    plan = plan_of(graph)
    # x stays; of a there is a row, and the sum takes the place of x or b.
    assert plan.arena_bytes == 256 + 256 + 64 + 4
    plan = plan_of(graph, WITHOUT_STREAMING)
    assert plan.arena_bytes <= 256 + 512 + 32
    assert problem(plan) is None


@pytest.mark.parametrize("height", [1, 2, 8])
def test_a_row_kernel_is_not_in_place_even_if_the_map_is_one_row(height: int) -> None:
    tensors = {name: Tensor(name, (height, 4, 2), Quant(0.5, 0)) for name in ("x", "a", "b", "sum", "y")}
    layers = (
        pointwise("a", "x", 2, 2),
        pointwise("b", "a", 2, 2),
        Add("sum", ("a", "b"), "sum", 2**30, 0, 2**30, 0, 2**30, -18),
        pointwise("y", "sum", 2, 2),
    )
    plan = plan_of(Graph("sum", tensors, layers, "x", ("y",)), Options(kernels="dsp"))
    assert [step.kernel.name for step in plan.steps if step.kernel is not None][2] == "dsp_add"
    assert problem(plan) is None


def _is_pointwise(layer: AnyLayer, *_: Tensor) -> bool:
    return isinstance(layer, Conv2D)


def _is_add(layer: AnyLayer, *_: Tensor) -> bool:
    return isinstance(layer, Add)


def test_a_reshape_takes_no_room() -> None:
    tensors = {name: Tensor(name, shape, Quant(0.5, 0)) for name, shape in (("x", (4, 4)), ("y", (16,)))}
    graph = Graph("reshape", tensors, (Reshape("y", ("x",), "y", (16,)),), "x", ("y",))
    assert plan_of(graph).arena_bytes == 16
    assert plan_of(graph, Options(without=frozenset({"alias_reshape"}))).arena_bytes == 32


def test_bytes_with_three_names_are_the_same_bytes() -> None:
    shapes = {"x": (4, 4, 1), "y": (2, 8, 1), "z": (16,), "s": (2, 8, 1)}
    tensors = {name: Tensor(name, shape, Quant(0.5, 0)) for name, shape in shapes.items()}
    layers = (
        Reshape("y", ("x",), "y", (2, 8, 1)),
        Reshape("z", ("x",), "z", (16,)),
        Add("s", ("y", "y"), "s", 2**30, 0, 2**30, 0, 2**30, -18),
    )
    plan = plan_of(Graph("names", tensors, layers, "x", ("s", "z")))
    assert plan.arena_bytes == 32
    assert problem(plan) is None


def test_a_dense_layer_reads_a_row_for_each_of_its_outputs() -> None:
    w = weights(3, 8, channels=3)
    layer = Dense("y", ("x",), "y", weights=w, activation=Activation())
    assert overlap_distance(layer, 0, (8,), (3,)) == 3
    assert overlap_distance(layer, 0, (2, 8), (2, 3)) == 3


def test_a_model_that_computes_nothing_has_a_stack_and_c() -> None:
    tensors = {name: Tensor(name, shape, Quant(0.5, 0)) for name, shape in (("x", (4, 4, 1)), ("y", (16,)))}
    graph = Graph("reshape", tensors, (Reshape("y", ("x",), "y", (16,)),), "x", ("y",))
    plan = plan_of(graph)
    assert stack_bytes(plan, load_board("qemu-m0")) >= 1024
    files = firmware_files(plan, load_board("qemu-m0"), np.arange(-128, 128, dtype=np.int8)[None])
    assert "memcpy(output + 0, model_arena, 16);" in files["model.c"]


def test_an_output_that_stays_on_the_host_is_refused() -> None:
    quant = Quant(0.5, 0)
    tensors = [Tensor("u", (4,), Quant(0.5, 128), "uint8"), Tensor("x", (4,), quant), Tensor("y", (4,), quant)]
    layers = (Quantize("q", ("u",), "x"), Requantize("r", ("x",), "y", 2**30, 1))
    graph = Graph("edge", {tensor.name: tensor for tensor in tensors}, layers, "u", ("y", "u"))
    with pytest.raises(UnsupportedError, match='output "u" is its input before quantisation'):
        plan_of(graph)
