"""The C of random graphs makes the interpreter's bytes: every layer kind, with every pass and choice on and off."""

from __future__ import annotations

import itertools
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings

from tests.generated import SANITIZERS, Model, expect_reference, expect_references, generate, program, run
from tests.random_graphs import KINDS, graphs
from tinymbn.errors import UnsupportedError
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.layers import (
    Activation,
    Add,
    AnyLayer,
    Conv2D,
    Dense,
    Depthwise,
    Mean,
    Mul,
    Requantize,
    Weights,
    Window,
)
from tinymbn_codegen.kernels import KERNELS
from tinymbn_codegen.options import PASSES, Options


def random_graphs(count: int) -> list[Graph]:
    """``count`` random graphs around each layer kind; always the same."""
    found: list[Graph] = []
    for kind in KINDS:

        @settings(max_examples=count, phases=[Phase.generate])
        @given(graphs(kind))
        def collect(graph: Graph) -> None:
            found.append(graph)

        collect()
    return found


@pytest.fixture(scope="module")
def models(pytestconfig: pytest.Config) -> list[Model]:
    """Each graph twice: as anyone would have it, and with some passes off or plain kernels."""
    chance = random.Random(0)
    made = []
    for i, graph in enumerate(random_graphs(max(1, pytestconfig.getoption("--examples") // 5))):
        made.append(generate(graph, Options(f"m{i}")))
        without = frozenset(name for name in PASSES if chance.random() < 0.6)
        made.append(generate(graph, Options(f"n{i}", without, chance.choice(("armv7m", "plain")))))
        with suppress(UnsupportedError):
            made.append(generate(graph, Options(f"r{i}", kernels=chance.choice(("dsp", "plain")), input="rows")))
    return made


def test_every_layer_and_output_is_the_references(models: list[Model], tmp_path: Path) -> None:
    expect_references(models, tmp_path, 40)


def test_the_random_models_have_every_kernel(models: list[Model]) -> None:
    used = {step.kernel.name for model in models for step in model.plan.steps if step.kernel is not None}
    missing = set(KERNELS) - used
    assert all(name.startswith(("dsp_", "mve_")) for name in missing), (
        missing
    )  # tests/test_codegen_mobilenets.py has those


def extremes(output_zero: int) -> Graph:
    """A channel for each bias, multiplier and shift at the ends of their ranges, in every kind that has them."""
    biases, multipliers = (-(2**31), -(2**30), -1, 0, 1, 2**31 - 1), (0, 1, 2**30, 2**31 - 1)
    every = list(itertools.product(biases, multipliers, (-31, -30, -1, 0, 1, 2, 29, 30)))
    count = len(every)

    def constants(shape: tuple[int, ...]) -> Weights:
        bias, multiplier, shift = np.array(every, np.int64).T
        values = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
        return Weights(values, bias.astype(np.int32), multiplier.astype(np.int32), shift.astype(np.int8), -128)

    tensors = {"x": Tensor("x", (2, 2, 1), Quant(0.5, -128))}
    layers: list[AnyLayer] = []
    for kind, shape in ((Conv2D, (count, 1, 1, 1)), (Depthwise, (1, 1, count)), (Dense, (count, 1))):
        window: dict[str, Any] = {} if kind is Dense else {"window": Window((1, 1))}
        name = kind.kind
        layers.append(kind(name, ("x",), name, weights=constants(shape), activation=Activation(), **window))
    for i, (_, multiplier, shift) in enumerate(every[: len(every) // len(biases)]):
        layers.append(Requantize(f"requantize {i}", ("x",), f"r{i}", multiplier, shift))
        layers.append(Mul(f"mul {i}", ("x", "x"), f"m{i}", multiplier, shift))
        layers.append(Mean(f"mean {i}", ("x",), f"a{i}", (0, 1), False, multiplier, shift))
        if shift <= 0:
            layers.append(Add(f"add {i}", ("x", "x"), f"s{i}", *(multiplier, shift) * 2, 2**31 - 1, 0))
    for layer in layers:
        made = layer.output_shape(*[(2, 2, 1)] * len(layer.inputs))
        tensors[layer.output] = Tensor(layer.output, made, Quant(0.5, output_zero))
    return Graph("extremes", tensors, tuple(layers), "x", (layers[-1].output,))


def test_the_largest_and_smallest_numbers_overflow_as_the_references_do(tmp_path: Path) -> None:
    every_channel = frozenset({"dead_channels"})  # most are constants, or are read by nothing
    models = [generate(extremes(zero), Options(f"m{i}", every_channel)) for i, zero in enumerate((-128, 127))]
    executable = program(models, tmp_path, "-O1", *SANITIZERS)
    noise = np.random.default_rng(0)
    inputs = [(i, noise.choice(np.array([-128, -127, 0, 127], np.int8), (2, 2, 1))) for i in (0, 1) for _ in range(20)]
    for (i, x), ran in zip(inputs, run(executable, models, inputs), strict=True):
        expect_reference(models[i], x, ran)
