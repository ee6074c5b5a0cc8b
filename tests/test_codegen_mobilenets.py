"""Random MobileNets through the whole generator: every set of kernels, whole frames and rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tests.generated import SANITIZERS, Model, expect_reference, generate, program, run
from tests.random_mobilenets import random_mobilenet
from tinymbn_codegen.kernels import KERNELS
from tinymbn_codegen.options import Input, KernelSet, Optimize, Options

_BATCH = 10  # models in one program
_SETS: tuple[KernelSet, ...] = ("dsp", "dsp", "armv7m", "armv6m", "plain")


def _models(seeds: Iterable[int]) -> list[Model]:
    made = []
    for seed in seeds:
        kernels: KernelSet = _SETS[seed % len(_SETS)]
        rows: Input = "rows" if seed % 3 == 0 else "frame"
        optimize: Optimize = ("speed", "balanced", "ram")[seed % 7 % 3]
        options = Options(f"m{seed}", frozenset(), kernels, optimize, rows)
        made.append(generate(random_mobilenet(seed), options))
    return made


def test_every_layer_equals_the_references(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """With C models of the DSP instructions, under sanitizers."""
    count = max(20, pytestconfig.getoption("--examples") // 2)
    noise = np.random.default_rng(0)
    used: Counter[str] = Counter()
    for start in range(0, count, _BATCH):
        batch = _models(range(start, start + _BATCH))
        used.update(step.kernel.name for model in batch for step in model.plan.steps if step.kernel is not None)
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
                pytest.fail(f"seed {start + i}, {batch[i].plan.options.text}: {error}\nin {folder}")
    special = {name for name in KERNELS if name.startswith(("dsp_", "scalar_"))}
    assert special <= set(used), f"never used: {special - set(used)}"
