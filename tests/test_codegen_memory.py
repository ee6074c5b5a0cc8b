"""The arena: no byte is overwritten that is still to be read, and none is wasted that need not be."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.graphs import weights
from tests.random_graphs import KINDS, graphs
from tests.replay import NEVER, least_distance, order, problem
from tinymbn.board import load_board
from tinymbn.errors import UnsupportedError
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.layers import (
    Activation,
    Add,
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
from tinymbn_codegen.kernels import overlap_distance
from tinymbn_codegen.memory import ALIGNMENT, Buffer, check_memory, plan_memory
from tinymbn_codegen.options import Options
from tinymbn_codegen.plan import make_plan
from tinymbn_codegen.project import firmware_files

any_graph = st.sampled_from(list(KINDS)).flatmap(lambda kind: graphs(kind, 12))
options = st.sampled_from(
    [Options(), Options(without=frozenset({"overlap"})), Options(without=frozenset({"alias_reshape"}))]
)


def _moved(buffers: tuple[Buffer, ...], name: str, offset: int) -> tuple[Buffer, ...]:
    return tuple(replace(b, offset=offset) if name in b.tensors else b for b in buffers)


def _refused(buffers: tuple[Buffer, ...]) -> bool:
    try:
        check_memory(buffers)
    except AssertionError:
        return True
    return False


def chain(*layers: Conv2D | Depthwise | AveragePool, shape: tuple[int, ...] = (8, 8, 4)) -> Graph:
    """Each layer reads what the one before it makes."""
    tensors = {"x": Tensor("x", shape, Quant(0.5, 0))}
    for layer in layers:
        shape = layer.output_shape(shape)
        tensors[layer.output] = Tensor(layer.output, shape, Quant(0.5, 0))
    return Graph("chain", tensors, layers, "x", (layers[-1].output,))


def pointwise(name: str, source: str, c_in: int, c_out: int) -> Conv2D:
    w = weights(c_out, 1, 1, c_in, channels=c_out)
    return Conv2D(name, (source,), name, weights=w, activation=Activation(), window=Window((1, 1)))


@given(any_graph, options)
def test_every_tensor_is_whole_when_it_is_read(graph: Graph, chosen: Options) -> None:
    buffers, arena_bytes = plan_memory(graph, chosen)
    assert problem(graph, buffers) is None
    assert min(b.offset for b in buffers) == 0
    assert max(b.end for b in buffers) == arena_bytes
    assert all(b.offset % ALIGNMENT == 0 for b in buffers)


@given(any_graph, options)
def test_the_same_graph_gives_the_same_plan(graph: Graph, chosen: Options) -> None:
    assert plan_memory(graph, chosen) == plan_memory(graph, chosen)


@given(any_graph)
def test_overlap_saves_and_never_costs(graph: Graph) -> None:
    _, with_overlap = plan_memory(graph, Options())
    _, without = plan_memory(graph, Options(without=frozenset({"overlap"})))
    assert with_overlap <= without


@given(any_graph)
def test_the_declared_distance_is_safe_and_at_most_a_piece_too_long(graph: Graph) -> None:
    for layer in graph.layers:
        shapes = [graph.tensors[name].shape for name in layer.inputs]
        output = graph.tensors[layer.output].shape
        written, read = order(layer, shapes, output)
        for i, shape in enumerate(shapes):
            declared, least = overlap_distance(layer, i, shape, output), least_distance(written, read[i])
            if declared is None:
                reads_at_any_time = isinstance(layer, Mean | Concat | Transpose | Reshape)
                assert reads_at_any_time or math.prod(shape) < math.prod(output)
                continue
            assert least <= declared
            if (read[i] == NEVER).any():
                continue  # what is never read may count as read
            if not isinstance(layer, Conv2D | Depthwise | AveragePool | MaxPool):
                assert declared <= max(least, 0) + rows_bytes(output, shape)
            elif layer.window == Window(layer.window.kernel):  # so may padding
                assert declared <= max(least, 0) + output[-1]


def rows_bytes(*shapes: Shape) -> int:
    """One row of each."""
    return sum(math.prod(shape[1:]) if len(shape) > 1 else shape[0] for shape in shapes)


@given(any_graph, st.data())
def test_what_the_planner_lets_pass_is_sound_wherever_a_buffer_is_moved(graph: Graph, data: st.DataObject) -> None:
    buffers, _ = plan_memory(graph, Options())
    victim = data.draw(st.sampled_from(buffers))
    for offset in (victim.offset - ALIGNMENT, victim.offset + ALIGNMENT, data.draw(st.integers(0, 50)) * ALIGNMENT):
        moved = _moved(buffers, victim.tensors[0], offset)
        if offset >= 0 and problem(graph, moved) is not None:
            assert _refused(moved)


@given(any_graph)
def test_an_output_one_byte_lower_than_least_is_seen(graph: Graph) -> None:
    """The replay itself: it tells the last safe place from the first unsafe one."""
    layer = graph.layers[0]
    names = [name for name in layer.inputs if name not in graph.constants]
    if len(names) != 1:
        return
    alone = Graph(
        "one layer",
        {name: graph.tensors[name] for name in (*layer.inputs, layer.output)},
        (layer,),
        names[0],
        (layer.output,),
        {name: graph.constants[name] for name in layer.inputs if name in graph.constants},
    )
    at = layer.inputs.index(names[0])
    shapes = [graph.tensors[name].shape for name in layer.inputs]
    written, read = order(layer, shapes, graph.tensors[layer.output].shape)
    distance = max(least_distance(written, read[at]), -alone.tensors[names[0]].elements)
    input_bytes, output_bytes = alone.tensors[names[0]].elements, alone.tensors[layer.output].elements

    def plan(below: int) -> tuple[Buffer, ...]:
        places = ((names[0], input_bytes, below), (layer.output, output_bytes, 0))
        return tuple(Buffer((name,), size, 0, 0, {}, offset) for name, size, offset in places)

    assert problem(alone, plan(distance)) is None
    if -input_bytes < distance - 1 < output_bytes:
        assert problem(alone, plan(distance - 1)) is not None


def test_a_plan_with_a_tensor_moved_into_a_live_one_is_refused() -> None:
    graph = chain(pointwise("a", "x", 4, 8), pointwise("b", "a", 8, 4))
    plain = Options(without=frozenset({"overlap"}))
    buffers, arena_bytes = plan_memory(graph, plain)
    assert arena_bytes == 8 * 8 * (4 + 8)
    a = next(b for b in buffers if "a" in b.tensors)
    for step in (-ALIGNMENT, ALIGNMENT):
        moved = _moved(buffers, "a", a.offset + step)
        sound = problem(graph, moved) is None
        assert _refused(moved) != sound
    assert not _refused(buffers)


def test_a_plan_with_an_overlap_one_byte_too_far_is_refused() -> None:
    # Each pixel of 4 bytes becomes 8: the last of 64 is written to byte 512 while bytes 252 to 256 are read.
    graph = chain(pointwise("a", "x", 4, 8))
    declared = overlap_distance(graph.layers[0], 0, (8, 8, 4), (8, 8, 8))
    assert declared == 512 - 252
    buffers, arena_bytes = plan_memory(graph, Options())
    assert arena_bytes == declared + 256
    x = next(b for b in buffers if "x" in b.tensors)
    moved = _moved(buffers, "x", x.offset - ALIGNMENT)
    assert _refused(moved)
    assert problem(graph, moved) is not None


@pytest.mark.parametrize(("stride", "expected"), [(1, 8 * 8 * 4 + 9 * 4), (2, 8 * 8 * 4)])
def test_a_depthwise_layer_grows_into_its_input(stride: int, expected: int) -> None:
    # A window of 3x3 looks back one row and one pixel; with stride 2 the output stays behind all by itself.
    w = weights(3, 3, 4, channels=4)
    layer = Depthwise(
        "y",
        ("x",),
        "y",
        weights=w,
        activation=Activation(),
        window=Window((3, 3), (stride,) * 2, padding=Padding(1, 1, 1, 1)),
    )
    _, arena_bytes = plan_memory(chain(layer), Options())
    assert arena_bytes <= expected + 4


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
    buffers, arena_bytes = plan_memory(graph, Options())
    # x stays; a grows from nothing, b into a, and the sum takes the place of either.
    assert arena_bytes <= 256 + 512 + 16
    assert problem(graph, buffers) is None


def test_a_reshape_takes_no_room() -> None:
    tensors = {name: Tensor(name, shape, Quant(0.5, 0)) for name, shape in (("x", (4, 4)), ("y", (16,)))}
    graph = Graph("reshape", tensors, (Reshape("y", ("x",), "y", (16,)),), "x", ("y",))
    assert plan_memory(graph, Options())[1] == 16
    assert plan_memory(graph, Options(without=frozenset({"alias_reshape"})))[1] == 32


def test_a_dense_layer_reads_a_row_for_each_of_its_outputs() -> None:
    w = weights(3, 8, channels=3)
    layer = Dense("y", ("x",), "y", weights=w, activation=Activation())
    assert overlap_distance(layer, 0, (8,), (3,)) == 3
    assert overlap_distance(layer, 0, (2, 8), (2, 3)) == 3


def test_a_model_that_computes_nothing_has_a_stack_and_c() -> None:
    tensors = {name: Tensor(name, shape, Quant(0.5, 0)) for name, shape in (("x", (4, 4, 1)), ("y", (16,)))}
    graph = Graph("reshape", tensors, (Reshape("y", ("x",), "y", (16,)),), "x", ("y",))
    plan = make_plan(graph, Options(), "00" * 32)
    assert stack_bytes(plan, load_board("qemu-m0")) >= 1024
    files = firmware_files(plan, load_board("qemu-m0"), np.arange(-128, 128, dtype=np.int8)[None])
    assert "memcpy(output + 0, model_arena, 16);" in files["model.c"]


def test_an_output_that_stays_on_the_host_is_refused() -> None:
    quant = Quant(0.5, 0)
    tensors = [Tensor("u", (4,), Quant(0.5, 128), "uint8"), Tensor("x", (4,), quant), Tensor("y", (4,), quant)]
    layers = (Quantize("q", ("u",), "x"), Requantize("r", ("x",), "y", 2**30, 1))
    graph = Graph("edge", {tensor.name: tensor for tensor in tensors}, layers, "u", ("y", "u"))
    with pytest.raises(UnsupportedError, match='output "u" is its input before quantisation'):
        make_plan(graph, Options(), "00" * 32)
