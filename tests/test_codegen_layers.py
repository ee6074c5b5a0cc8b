"""The C of random graphs makes the interpreter's bytes: every layer kind, with every pass and choice on and off."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings

from tests.generated import SANITIZERS, Model, expect_reference, generate, program, run
from tests.random_graphs import KINDS, describe, graphs
from tinymbn.graph import Graph
from tinymbn_codegen.kernels import KERNELS
from tinymbn_codegen.options import PASSES, Options

_BATCH = 40  # models in one program


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
        made.append(generate(graph, Options(f"n{i}", without, chance.choice(("chosen", "plain")))))
    return made


def test_every_layer_and_output_is_the_references(models: list[Model], tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for start in range(0, len(models), _BATCH):
        batch = models[start : start + _BATCH]
        folder = tmp_path / str(start)
        folder.mkdir()
        executable = program(batch, folder, "-O1", *SANITIZERS)
        inputs = []
        for i, model in enumerate(batch):
            shape = model.plan.input.tensor.shape
            inputs.append((i, noise.integers(-128, 128, shape, dtype=np.int8)))
            inputs.append((i, noise.choice(np.array([-128, 127], np.int8), shape)))
        for (i, x), ran in zip(inputs, run(executable, batch, inputs), strict=True):
            try:
                expect_reference(batch[i], x, ran)
            except AssertionError as error:
                pytest.fail(f"{batch[i].name}: {error}\n{describe(batch[i].graph)}\nin {folder}")


def test_the_random_models_have_every_kernel(models: list[Model]) -> None:
    used = {step.kernel.name for model in models for step in model.plan.steps if step.kernel is not None}
    assert used == set(KERNELS)
