"""Streamed plans: how much RAM they take, and that their C makes the interpreter's bytes, frame and row by row."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.generated import SANITIZERS, WARNINGS, Model, compile_c, expect_reference, generate, program, run, write
from tests.replay import problem
from tests.shared import SHARED, needs_shared
from tinymbn import import_tflite
from tinymbn.errors import UnsupportedError
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.interpreter import Interpreter
from tinymbn.layers import (
    Activation,
    AnyLayer,
    AveragePool,
    Conv2D,
    Dense,
    Depthwise,
    MaxPool,
    Padding,
    Reshape,
    Weights,
    Window,
)
from tinymbn_codegen.options import Input, KernelSet, Options
from tinymbn_codegen.plan import Plan, make_plan

FIGURES: tuple[tuple[str, KernelSet, Input, int], ...] = (
    ("person_detect", "plain", "frame", 13_846),
    ("person_detect", "plain", "rows", 12_976),
    ("vww_96_int8", "plain", "frame", 28_040),
    ("vww_96_int8", "plain", "rows", 13_558),
    ("mobilenet_v1_0.25_128_quant", "plain", "frame", 49_670),
    ("mobilenet_v1_0.25_128_quant", "plain", "rows", 20_112),
)
"""Model, kernels, input and the most bytes that its arena may have; without streaming it is twice that and more."""


@cache
def shared_model(name: str) -> Graph:
    return import_tflite(SHARED / "models" / f"{name}.tflite")


@needs_shared
@pytest.mark.parametrize(("name", "kernels", "input_", "most"), FIGURES)
def test_the_arena_of_known_models(name: str, kernels: KernelSet, input_: Input, most: int) -> None:
    graph = shared_model(name)
    plan = make_plan(graph, Options(kernels=kernels, input=input_), "00")
    assert plan.arena_bytes <= most
    whole = make_plan(graph, Options(kernels=kernels, without=frozenset({"streaming"})), "00")
    assert plan.arena_bytes < 0.8 * whole.arena_bytes


class Network:
    """Random weights, and scales that keep the values spread over the range."""

    def __init__(self, *shape: int) -> None:
        self._noise = np.random.default_rng(7)
        self.tensors = {"x": Tensor("x", shape, Quant(0.5, -3))}
        self.constants: dict[str, NDArray[np.int8]] = {}
        self.layers: list[AnyLayer] = []
        self.last = "x"

    def constant(self, *shape: int) -> str:
        self.constants["constant"] = self._noise.integers(-128, 128, shape).astype(np.int8)
        self.tensors["constant"] = Tensor("constant", shape, Quant(0.5, 5))
        return "constant"

    def _weights(self, *shape: int, channels: int) -> Weights:
        values = self._noise.integers(-128, 128, shape).astype(np.int8)
        bias = self._noise.integers(-1000, 1000, channels).astype(np.int32)
        shift = -5 - round(np.log2(np.sqrt(values.size / channels)))
        return Weights(
            values, bias, np.full(channels, 2**30, np.int32), np.full(channels, shift, np.int8), zero_point=0
        )

    def add(self, layer: AnyLayer) -> None:
        shapes = [self.tensors[name].shape for name in layer.inputs]
        self.last = layer.output
        self.tensors[self.last] = Tensor(self.last, layer.output_shape(*shapes), Quant(0.5, len(self.layers) - 5))
        self.layers.append(layer)

    def conv(self, channels: int, window: Window, source: str | None = None) -> None:
        source, name = source or self.last, f"y{len(self.layers)}"
        w = self._weights(channels, *window.kernel, self.tensors[source].shape[2], channels=channels)
        self.add(Conv2D(name, (source,), name, weights=w, activation=Activation(), window=window))

    def depthwise(self, window: Window, source: str | None = None) -> None:
        source, name = source or self.last, f"y{len(self.layers)}"
        channels = self.tensors[source].shape[2]
        w = self._weights(*window.kernel, channels, channels=channels)
        self.add(Depthwise(name, (source,), name, weights=w, activation=Activation(-128, 120), window=window))

    def graph(self, name: str, *outputs: str) -> Graph:
        return Graph(name, self.tensors, tuple(self.layers), "x", outputs or (self.last,), self.constants)


AROUND = Padding(1, 1, 1, 1)
BEHIND = Padding(0, 1, 0, 1)
POINT = Window((1, 1))


def mobilenet() -> Graph:
    """Every stride and padding, odd heights, pools, and a vector in the end."""
    net = Network(25, 10, 3)
    net.conv(8, Window((3, 3), (2, 2), padding=BEHIND))
    net.depthwise(Window((3, 3), padding=AROUND))
    net.conv(12, POINT)
    net.depthwise(Window((3, 3), (2, 2), padding=BEHIND))
    net.conv(16, POINT)
    net.depthwise(Window((5, 3), padding=Padding(2, 2, 1, 1)))
    net.conv(16, POINT)
    net.add(MaxPool("pool", (net.last,), "pool", window=Window((2, 1), (2, 1)), activation=Activation()))
    height, width, _ = net.tensors["pool"].shape
    window = Window((height, width))
    net.add(AveragePool("average", ("pool",), "average", window=window, activation=Activation(), unsigned=False))
    net.add(Reshape("flat", ("average",), "flat", (16,)))
    net.add(Dense("scores", ("flat",), "scores", weights=net._weights(5, 16, channels=5), activation=Activation()))
    return net.graph("mobilenet")


def two_readers() -> Graph:
    """A map that is read by windows of two heights, one dilated, and both results are handed out."""
    net = Network(20, 6, 4)
    net.conv(12, POINT)
    kept = net.last
    net.depthwise(Window((3, 3), padding=AROUND), kept)
    net.conv(3, POINT)
    one = net.last
    net.depthwise(Window((3, 1), dilation=(2, 1), padding=Padding(2, 2, 0, 0)), kept)
    net.conv(2, Window((1, 1), (3, 2)))
    return net.graph("two readers", one, net.last)


def rows_left_over() -> Graph:
    """A stride leaves rows of the input that nobody reads but the outputs; they still come."""
    net = Network(6, 4, 4)
    net.conv(4, Window((1, 1), (4, 1)))
    net.conv(8, POINT)
    net.conv(4, POINT)
    return net.graph("rows left over", net.last, "x")


def unread_rows() -> Graph:
    net = Network(19, 4, 3)
    net.conv(4, Window((3, 3), (4, 2), padding=Padding(1, 0, 1, 1)))
    net.conv(8, POINT)
    net.depthwise(Window((3, 3), (2, 1), padding=Padding(0, 0, 1, 1)))
    net.conv(4, POINT)
    return net.graph("unread rows")


def from_a_constant() -> Graph:
    """Layers that stream from a map in flash."""
    net = Network(4, 4, 2)
    net.conv(2, POINT)
    one = net.last
    net.conv(12, Window((3, 3), padding=AROUND), net.constant(16, 6, 2))
    net.depthwise(Window((3, 3), padding=AROUND))
    net.conv(2, POINT)
    return net.graph("from a constant", one, net.last)


NETWORKS = (mobilenet, two_readers, rows_left_over, unread_rows, from_a_constant)


def streamed(plan: Plan) -> int:
    """Maps of which only a ring exists."""
    return sum(step.output.streams for step in plan.steps)


def network_models() -> list[Model]:
    """Each with the frame in the arena and row by row; the first with other kernels, too."""
    made = []
    for make in NETWORKS:
        name = make.__name__
        made.append(generate(make(), Options(f"{name}_frame", kernels="plain")))
        made.append(generate(make(), Options(f"{name}_rows", kernels="plain", input="rows")))
    made.append(generate(mobilenet(), Options("scalar_frame", kernels="armv7m")))
    return made


def test_the_networks_stream() -> None:
    """So that the other tests test what they should: maps of which only a ring exists, and slots of the input."""
    found = {}
    for make in NETWORKS:
        frame, rows = (make_plan(make(), Options(kernels="plain", input=how), "00") for how in get_args(Input))
        assert frame.input.slots == frame.input.rows
        found[make.__name__] = streamed(frame), streamed(rows), rows.input.slots
    assert found == {
        "mobilenet": (4, 3, 3),
        "two_readers": (3, 3, 1),
        "rows_left_over": (1, 2, 6),  # its input is an output
        "unread_rows": (1, 2, 3),
        "from_a_constant": (2, 2, 1),
    }


def test_streamed_layers_make_the_references_bytes(tmp_path: Path) -> None:
    models = network_models()
    executable = program(models, tmp_path, "-O1", *SANITIZERS)
    noise = np.random.default_rng(0)
    inputs = []
    for i, model in enumerate(models):
        assert problem(model.plan) is None
        inputs.append((i, noise.integers(-128, 128, model.plan.input.tensor.shape, dtype=np.int8)))
    for (i, x), ran in zip(inputs, run(executable, models, inputs), strict=True):
        expect_reference(models[i], x, ran)


_FEEDER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "@.h"
#include "@_layers.h"

/* Frames one after the other, each row in the ring's place or in one of its own; after each its output. */
int main(void)
{
    int8_t output[MODEL_OUTPUT_BYTES];
    int way, frame = 0;
    memset(@_arena, 0x5a, MODEL_ARENA_BYTES);
    while ((way = getchar()) != EOF) {
        for (int32_t y = 0; y < MODEL_INPUT_ROWS; y++) {
            const int in_place = way == 'p' || (way == 'b' && y % 2 == 0);
            int8_t *row = in_place ? @_input_row(y) : malloc(MODEL_INPUT_ROW_BYTES);
            if (fread(row, 1, MODEL_INPUT_ROW_BYTES, stdin) != MODEL_INPUT_ROW_BYTES) {
                return 3;
            }
            memset(output, 0x11 * ++frame, sizeof output);
            @_feed_row(y, row, output);
            if (!in_place) {
                free(row);
            }
        }
        fwrite(output, 1, sizeof output, stdout);
    }
    return 0;
}
"""


@pytest.mark.parametrize("make", NETWORKS[:4])
def test_rows_are_fed_in_the_rings_place_or_from_elsewhere_frame_after_frame(
    make: Callable[[], Graph], tmp_path: Path
) -> None:
    model = generate(make(), Options(input="rows"))
    sources = write(model, tmp_path)
    feeder = tmp_path / "feeder.c"
    feeder.write_text(_FEEDER.replace("@", model.name))
    target = tmp_path / "feeder"
    compile_c(["gcc", *WARNINGS, "-O1", *SANITIZERS, "-I", *map(str, (tmp_path, "-o", target, feeder, *sources))])
    noise = np.random.default_rng(1)
    sent, expected = b"", b""
    for way in b"eppebbpe":
        x = noise.integers(-128, 128, model.plan.input.tensor.shape, dtype=np.int8)
        sent += bytes([way]) + x.tobytes()
        values = {"x": x} | {layer.output: made for layer, made in Interpreter(model.graph).steps(x)}
        expected += b"".join(values[name].tobytes() for name in model.graph.outputs)
    done = subprocess.run([target], check=False, input=sent, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()[:4000]
    assert done.stdout == expected


def test_an_input_that_cannot_come_row_by_row_is_refused() -> None:
    tensors = {name: Tensor(name, (4,), Quant(0.5, 0)) for name in "xy"}
    graph = Graph("vector", tensors, (Reshape("y", ("x",), "y", (4,)),), "x", ("y",))
    with pytest.raises(UnsupportedError, match="does not take the input row by row"):
        make_plan(graph, Options(input="rows"), "00")
