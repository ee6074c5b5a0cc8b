"""The vector kernels give the bytes of the plain ones: any graph, each set of instructions, any number of threads."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.engines import SEVERAL, assert_engines_agree, edge_networks, random_input, random_networks, run_elsewhere
from tests.graphs import every_kernel
from tests.random_graphs import KINDS, describe, graphs
from tests.shared import SHARED, needs_shared
from tinymbn import Graph, Interpreter, load_model
from tinymbn.graph import Quant, Tensor
from tinymbn.host.lowering import lower
from tinymbn.host.weighted import Scaling
from tinymbn.kernels.fast import host, instruction_set
from tinymbn.kernels.fast.parameters import Code
from tinymbn.layers import Activation, AnyLayer, Dequantize, Lookup, Pad, Transpose
from tinymbn.paths import SHIPPED_MODEL

MODELS = [path for path in sorted((SHARED / "models").glob("*.tflite")) if "float" not in path.name]


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(data=st.data())
def test_a_layer_of_any_kind_among_others(kind: str, data: st.DataObject) -> None:
    graph = data.draw(graphs(kind))
    note(describe(graph))
    assert_engines_agree(graph, random_input(graph, data.draw(st.integers(0, 1000))))


def test_networks_at_the_edges_of_kernels() -> None:
    for graph in edge_networks():
        assert_engines_agree(graph, *(random_input(graph, seed) for seed in range(SEVERAL)))


def test_random_networks(pytestconfig: pytest.Config) -> None:
    for graph in random_networks(0, pytestconfig.getoption("--examples")):
        assert_engines_agree(graph, *(random_input(graph, seed) for seed in range(SEVERAL)))


@needs_shared
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_real_models(path: Path) -> None:
    graph = load_model(path)
    seeds = range(2, 3) if graph.macs > 100_000_000 else range(3)
    assert_engines_agree(graph, *(random_input(graph, seed) for seed in seeds), threads=2)


def test_a_real_output_that_is_made_early_outlives_what_follows() -> None:
    quant = Quant(0.5, 3)
    names = ["x", "early", "y0", "y1", "y2", "late"]
    tensors = [Tensor(name, (4, 5, 8), quant) for name in names]
    tensors += [Tensor("early real", (4, 5, 8), None, "float32"), Tensor("late real", (4, 5, 8), None, "float32")]
    table = np.arange(-128, 128).astype(np.int8)[::-1].copy()
    layers: list[AnyLayer] = [Lookup("0", ("x",), "early", "hard_swish", table)]
    layers += [Dequantize("1", ("early",), "early real")]
    chain = ["x", "y0", "y1", "y2", "late"]
    for k, (read, made) in enumerate(pairwise(chain)):
        layers.append(Lookup(f"chain {k}", (read,), made, "hard_swish", np.roll(table, k + 1)))
    layers += [Dequantize("last", ("late",), "late real")]
    outputs = ("early real", "late real")
    graph = Graph("two", {tensor.name: tensor for tensor in tensors}, tuple(layers), "x", outputs)
    assert_engines_agree(graph, *(random_input(graph, seed) for seed in range(3)))


@needs_shared
def test_a_padded_map_is_the_map_with_its_border() -> None:
    """Padding moves no bytes; the transposition does."""
    graph = load_model(SHARED / "models" / "mcunet_vww.tflite")
    kinds = [type(layer) for layer in graph.layers]
    assert Pad in kinds
    codes = lower(graph, host.SET, 1).program.table[:, 0].tolist()
    assert codes.count(Code.MOVE) == kinds.count(Transpose)


def test_a_map_that_is_padded_several_times_over_is_in_its_place_under_each_name() -> None:
    pads = {
        "a": ("x", (1, 0), (0, 2)),
        "b": ("x", (0, 0), (0, 0)),
        "c": ("a", (2, 1), (1, 0)),
        "d": ("x", (0, 3), (4, 0)),
    }
    for order in ("abcd", "dacb", "badc"):
        shapes: dict[str, tuple[int, ...]] = {"x": (2, 3, 8)}
        layers: list[AnyLayer] = []
        for name in order:
            read, vertical, horizontal = pads[name]
            layers.append(Pad(name, (read,), name, (vertical, horizontal, (0, 0)), 5))
            shapes[name] = layers[-1].output_shape(shapes[read])
        tensors = {name: Tensor(name, shape, Quant(0.5, 5)) for name, shape in shapes.items()}
        graph = Graph("pads", tensors, tuple(layers), "x", tuple(order))
        assert_engines_agree(graph, *(random_input(graph, seed) for seed in range(3)))


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_share_an_inference_and_a_batch(threads: int) -> None:
    for graph in [every_kernel(), load_model(SHIPPED_MODEL), *random_networks(100, 6)]:
        assert_engines_agree(graph, *(random_input(graph, seed) for seed in range(5)), threads=threads)


def test_an_interpreter_may_be_used_from_several_threads_at_once() -> None:
    graph = load_model(SHIPPED_MODEL)
    inputs = [random_input(graph, seed) for seed in range(20)]
    expected = Interpreter(graph, "plain").run(np.stack(inputs))
    for threads in (1, 2):
        interpreter = Interpreter(graph, threads=threads)
        wrong: list[int] = []

        def work(interpreter: Interpreter = interpreter, wrong: list[int] = wrong) -> None:
            for _ in range(10):
                wrong.extend(k for k, x in enumerate(inputs) if not np.array_equal(interpreter.run(x), expected[k]))
                wrong.extend(np.flatnonzero((interpreter.run(np.stack(inputs)) != expected).any(axis=1)))

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(timeout=120)
        assert not any(worker.is_alive() for worker in workers)
        assert not wrong


def test_no_threads_are_refused() -> None:
    with pytest.raises(ValueError, match="0 threads; expected 1 or more"):
        Interpreter(every_kernel(), threads=0)


# --------------------------------------------------------------------------------------------- instruction sets

FEATURES = {
    "generic": "",
    "sse2": "+sse2",
    "avx2": "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2",
}


@pytest.mark.parametrize("name", FEATURES)
def test_each_set_of_instructions_gives_the_same_bytes(name: str, pytestconfig: pytest.Config) -> None:
    needed = {feature for feature in FEATURES[name].split(",") if feature}
    if not needed <= set(host.FEATURES.split(",")):
        pytest.skip(f"this processor has no {name}")
    made = run_elsewhere("generic", FEATURES[name], 200, pytestconfig.getoption("--examples"))
    assert made.startswith(f"{name}: ")
    assert made.endswith("bytes equal\n")


def test_the_best_set_of_instructions_is_chosen() -> None:
    assert instruction_set.best("") is instruction_set.GENERIC
    assert instruction_set.best("+neon,+dotprod") is instruction_set.GENERIC
    assert instruction_set.best("+sse2,-avx2") is instruction_set.SSE2
    assert instruction_set.best("+sse2,+avx2,-avx512f") is instruction_set.AVX2
    several = "+sse2,+avx2,+avx512f,+avx512bw,+avx512vl"
    assert instruction_set.best(several) is instruction_set.AVX2
    assert instruction_set.best(f"{several},+avx512vnni") is instruction_set.AVX512_VNNI


# --------------------------------------------------------------------------------------------- proofs


def scaling(bias: int, multiplier: int, shift: int, weight: int = 0) -> Scaling:
    return Scaling(
        np.array([[weight]]),
        np.array([bias], np.int32),
        np.array([multiplier], np.int32),
        np.array([shift], np.int8),
        Activation(),
    )


@pytest.mark.parametrize(
    ("given_scaling", "fits"),
    [
        (scaling(2**30, 2**31 - 1, -31), False),  # 2**30 before the shift, and half of its 2**31
        (scaling(2**30 - 2**22, 2**31 - 1, -22), True),
        (scaling(1000, 2**31 - 1, -23), False),  # the zero point before the shift
        (scaling(-(2**31), 2**31 - 1, 0), False),
        (scaling(2**30 - 1, 2**31 - 1, 0), True),
        (scaling(2**30, 2**30, 0), False),  # twice that is no int32
        (scaling(0, 2**30, 1), False),  # a left shift
        (scaling(2**31 - 1, 2**31 - 1, -1, weight=127), False),  # an accumulator that wraps
    ],
)
def test_vectors_rescale_only_what_is_proven(given_scaling: Scaling, fits: bool) -> None:
    assert given_scaling.fits_vectors(0) == fits
