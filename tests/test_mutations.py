"""Damaged files end in a clean error or in a sound graph, and soon.

``pytest tests/test_mutations.py --examples 1000`` tries 20,000 of each kind.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.mutations import damage_bytes, damage_npz, damage_pt2
from tests.pt2_writer import small_network
from tests.shared import SHARED
from tests.tflite_writer import TfliteWriter
from tinymbn import Graph, Interpreter, TinymbnError
from tinymbn.importers.pytorch.exported import import_exported
from tinymbn.importers.tflite.model import from_bytes
from tinymbn.load import load_model
from tinymbn.model_file import to_bytes
from tinymbn.quantize import FloatGraph, FloatInterpreter

# The slowest honest file takes 0.1 s; this is CPU time, which a busy machine does not stretch.
LONGEST_S = 2.0
SHARED_SEEDS = ("mcunet_vww", "vww_96_int8", "ssd_slim_120x160x1_int8", "mobilenet_v1_0.25_128_quant")


def _every_operator() -> bytes:
    """A model of most operators, small enough that thousands of its mutants are quick."""
    w = TfliteWriter()
    rng = np.random.default_rng(0)

    def activation(name: str, *shape: int, scale: float = 0.05, zero_point: int = -3) -> int:
        return w.tensor(name, shape, scale=scale, zero_point=zero_point)

    def weights(name: str, *shape: int, dimension: int) -> int:
        return w.constant(
            name,
            rng.integers(-127, 128, shape, dtype=np.int8),
            scale=[0.01 + 0.001 * i for i in range(shape[dimension])],
            dimension=dimension,
        )

    def biases(name: str, count: int) -> int:
        return w.constant(name, rng.integers(-500, 500, count, dtype=np.int32), scale=0.0005)

    x = w.tensor("input", (1, 9, 8, 3), "float32")
    q = activation("quantized", 1, 9, 8, 3)
    w.operator("QUANTIZE", x, q)
    conv = activation("conv", 1, 5, 4, 6)
    w.operator(
        "CONV_2D",
        [q, weights("conv/w", 6, 3, 3, 3, dimension=0), biases("conv/b", 6)],
        conv,
        padding="SAME",
        stride_h=2,
        stride_w=2,
        dilation_h_factor=1,
        dilation_w_factor=1,
        fused_activation_function="RELU6",
    )
    depthwise = activation("depthwise", 1, 5, 4, 6)
    w.operator(
        "DEPTHWISE_CONV_2D",
        [conv, weights("dw/w", 1, 3, 3, 6, dimension=3), biases("dw/b", 6)],
        depthwise,
        padding="SAME",
        stride_h=1,
        stride_w=1,
        depth_multiplier=1,
        dilation_h_factor=1,
        dilation_w_factor=1,
    )
    added = activation("added", 1, 5, 4, 6)
    w.operator("ADD", [conv, depthwise], added)
    swish = activation("swish", 1, 5, 4, 6)
    w.operator("HARD_SWISH", added, swish)
    gate = activation("gate", 1, 1, 1, 6, scale=1 / 256, zero_point=-128)
    pooled = activation("pooled", 1, 1, 1, 6)
    w.operator("MEAN", [swish, w.constant("axes", [1, 2])], pooled, keep_dims=True)
    w.operator("LOGISTIC", pooled, gate)
    gated = activation("gated", 1, 5, 4, 6)
    w.operator("MUL", [swish, gate], gated)
    padded = activation("padded", 1, 6, 6, 6)
    w.operator("PAD", [gated, w.constant("pads", [[0, 0], [0, 1], [1, 1], [0, 0]])], padded)
    larger = activation("larger", 1, 6, 6, 6)
    w.operator("RESIZE_NEAREST_NEIGHBOR", [gated, w.constant("size", [6, 6])], larger)
    both = activation("both", 1, 6, 6, 12)
    w.operator("CONCATENATION", [padded, larger], both, axis=3)
    moved = activation("moved", 1, 12, 6, 6)
    w.operator("TRANSPOSE", [both, w.constant("permutation", [0, 3, 1, 2])], moved)
    back = activation("back", 1, 6, 6, 12)
    w.operator("TRANSPOSE", [moved, w.constant("permutation2", [0, 2, 3, 1])], back)
    largest = activation("largest", 1, 3, 3, 12)
    w.operator("MAX_POOL_2D", back, largest, padding="VALID", stride_h=2, stride_w=2, filter_height=2, filter_width=2)
    average = activation("average", 1, 2, 2, 12)
    w.operator(
        "AVERAGE_POOL_2D", largest, average, padding="SAME", stride_h=2, stride_w=2, filter_height=3, filter_width=3
    )
    shape, size, wanted = (w.tensor(name, s, "int32") for name, s in (("shape", (4,)), ("size0", ()), ("wanted", (2,))))
    w.operator("SHAPE", average, shape)
    slices = [w.constant(name, [value]) for name, value in (("begin", 0), ("end", 1), ("step", 1))]
    w.operator("STRIDED_SLICE", [shape, *slices], size, shrink_axis_mask=1)
    w.operator("PACK", [size, w.constant("minus_one", -1)], wanted, values_count=2)
    flat = activation("flat", 1, 48)
    w.operator("RESHAPE", [average, wanted], flat)
    logits = activation("logits", 1, 10)
    w.operator("FULLY_CONNECTED", [flat, weights("fc/w", 10, 48, dimension=0), biases("fc/b", 10)], logits)
    scores = activation("scores", 1, 10, scale=1 / 256, zero_point=-128)
    w.operator("SOFTMAX", logits, scores, beta=1.0)
    real = w.tensor("output", (1, 10), "float32")
    w.operator("DEQUANTIZE", scores, real)
    return w.build(x, real)


def _every_other_operator() -> bytes:
    """A legacy uint8 model of those that the first has not, integers computed from shapes among them."""
    w = TfliteWriter()
    rng = np.random.default_rng(1)

    def activation(name: str, *shape: int) -> int:
        return w.tensor(name, shape, "uint8", scale=0.05, zero_point=120)

    x = activation("input", 1, 6, 8, 2)
    relu, relu6 = activation("relu", 1, 6, 8, 2), activation("relu6", 1, 6, 8, 2)
    w.operator("RELU", x, relu)
    w.operator("RELU6", relu, relu6)
    block = w.constant("block", [2, 2])
    batched = w.tensor("batched", (4, 5, 6, 2), "uint8", scale=0.05, zero_point=120)
    inner = w.tensor("inner", (4, 3, 4, 2), "uint8", scale=0.05, zero_point=120)
    dilated = activation("dilated", 1, 6, 8, 2)
    w.operator("SPACE_TO_BATCH_ND", [relu6, block, w.constant("pads", [[2, 2], [2, 2]])], batched)
    weights = w.constant("w", rng.integers(0, 256, (2, 3, 3, 2), dtype=np.uint8), scale=0.01, zero_point=130)
    plain = {"stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1}
    w.operator("CONV_2D", [batched, weights], inner, padding="VALID", **plain)
    w.operator("BATCH_TO_SPACE_ND", [inner, block, w.constant("crops", [[0, 0], [0, 0]])], dilated)
    apart, tiled = activation("apart", 1, 6, 1, 8, 2), activation("tiled", 1, 6, 2, 8, 2)
    w.operator("EXPAND_DIMS", [dilated, w.constant("axis", 2)], apart)
    w.operator("TILE", [apart, w.constant("multiples", [1, 1, 2, 1, 1])], tiled)
    shape, part = w.tensor("shape", (4,), "int32"), w.tensor("part", (1,), "int32")
    w.operator("SHAPE", x, shape)
    w.operator("GATHER", [shape, w.constant("index", [2])], part, axis=0)
    doubled, total = w.tensor("doubled", (1,), "int32"), w.tensor("total", (4,), "int32")
    w.operator("ADD", [w.constant("four", [4]), part], doubled)
    w.operator("CONCATENATION", [w.constant("one", [1]), doubled, w.constant("rest", [8, 2])], total, axis=0)
    upsampled, padded = activation("upsampled", 1, 12, 8, 2), activation("padded", 1, 13, 8, 2)
    w.operator("RESHAPE", [tiled, total], upsampled)
    value = w.constant("value", np.array([7], np.uint8), scale=0.05, zero_point=120)
    w.operator("PADV2", [upsampled, w.constant("pads2", [[0, 0], [1, 0], [0, 0], [0, 0]]), value], padded)
    both = w.tensor("both", (1, 13, 8, 4), "uint8", scale=0.06, zero_point=118)
    w.operator("CONCATENATION", [padded, padded], both, axis=-1)
    largest = w.tensor("largest", (1, 1, 1, 4), "uint8", scale=0.06, zero_point=118)
    squeezed = w.tensor("squeezed", (1, 4), "uint8", scale=0.06, zero_point=118)
    w.operator("REDUCE_MAX", [both, w.constant("axes", [1, 2])], largest, keep_dims=True)
    w.operator("SQUEEZE", largest, squeezed, squeeze_dims=[1, 2])
    signed = w.tensor("signed", (1, 4), scale=0.07, zero_point=-3)
    w.operator("QUANTIZE", squeezed, signed)
    return w.build(x, [squeezed, signed])


def _seeds() -> dict[str, bytes]:
    seeds = {"every operator": _every_operator(), "every other operator": _every_other_operator()}
    for name in SHARED_SEEDS:
        path = SHARED / "models" / f"{name}.tflite"
        if path.is_file():
            seeds[name] = path.read_bytes()
    return seeds


SEEDS = _seeds()


def _load_npz(tmp_path: Path) -> Callable[[bytes], Graph | FloatGraph]:
    path = tmp_path / "damaged.npz"

    def load(data: bytes) -> Graph:
        path.write_bytes(data)
        return load_model(path)

    return load


def _try(load: Callable[[bytes], Graph | FloatGraph], mutants: Callable[[random.Random], bytes], count: int) -> None:
    refused = 0
    slowest = 0.0
    for seed in range(count):
        data = mutants(random.Random(seed))
        start = time.process_time()
        graph, refusal = _load(load, data, seed)
        taken = time.process_time() - start
        slowest = max(slowest, taken)
        assert taken < LONGEST_S, f"mutant {seed} took {taken:.1f} s"
        if graph is None:
            refused += 1
            assert "\n" not in refusal, f"mutant {seed}: more than one line: {refusal}"
            assert len(refusal) < 5000, f"mutant {seed}: {len(refusal)} characters"
        else:
            _run(graph)
    print(f"{count} mutants: {refused} refused, {count - refused} sound graphs, slowest {slowest:.2f} s")
    assert refused > 0


def _load(load: Callable[[bytes], Graph | FloatGraph], data: bytes, seed: int) -> tuple[Graph | FloatGraph | None, str]:
    try:
        return load(data), ""
    except TinymbnError as error:
        return None, str(error)
    except Exception as error:
        raise AssertionError(f"mutant {seed}: {type(error).__name__}: {error}") from error


def _run(graph: Graph | FloatGraph) -> None:
    """What loads also runs; large graphs are left out for time's sake."""
    if isinstance(graph, FloatGraph):
        if graph.macs < 1_000_000 and sum(math.prod(shape) for shape in graph.shapes.values()) < 1_000_000:
            FloatInterpreter(graph).run(np.zeros(graph.input_shape, np.float32))
        return
    if graph.macs < 1_000_000 and sum(tensor.elements for tensor in graph.tensors.values()) < 1_000_000:
        Interpreter(graph).run(np.zeros(graph.input_tensor.shape, graph.input_tensor.dtype))


@pytest.mark.parametrize("name", SEEDS)
def test_a_damaged_tflite_is_refused_or_sound(name: str, pytestconfig: pytest.Config) -> None:
    count = 20 * pytestconfig.getoption("--examples") // len(SEEDS) + 1
    _try(lambda data: from_bytes(data, "damaged.tflite"), lambda rng: damage_bytes(SEEDS[name], rng), count)


@pytest.mark.parametrize("name", SEEDS)
def test_a_damaged_npz_is_refused_or_sound(name: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    count = 20 * pytestconfig.getoption("--examples") // len(SEEDS) + 1
    sound = to_bytes(from_bytes(SEEDS[name], "sound.tflite"))
    _try(_load_npz(tmp_path), lambda rng: damage_npz(sound, rng), count)


def test_a_damaged_pt2_is_refused_or_sound(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    path = tmp_path / "damaged.pt2"
    writer, output = small_network()
    sound = writer.build(output)

    def load(data: bytes) -> FloatGraph:
        path.write_bytes(data)
        return import_exported(path)

    assert load(sound).layers
    _try(load, lambda rng: damage_pt2(sound, rng), 20 * pytestconfig.getoption("--examples"))


@pytest.mark.parametrize("name", SEEDS)
def test_the_seeds_themselves_are_sound(name: str) -> None:
    assert from_bytes(SEEDS[name], "sound.tflite").layers
