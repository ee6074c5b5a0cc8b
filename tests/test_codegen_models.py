"""Real models: every byte of every layer of their C is the interpreter's, on noise and on a smooth field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.generated import Int8s, expect_reference, generate, program, run
from tests.shared import CHECKOUT, SHARED, needs_shared
from tinymbn.load import load_model
from tinymbn_codegen.options import PASSES, Options
from tinymbn_codegen.plan import Plan

SMALL = ("person_detect", "vww_96_int8", "ssd_slim_120x160x1_int8")
LARGE = (
    "mcunet_vww",
    "mobilenet_v1_0.25_128_quant",
    "tf2_mobilenet_v2_1.0_224_ptq",
    "v1_a050_160_random",
    "v1_a100_224_random",
)


def _inputs(plan: Plan) -> list[Int8s]:
    shape = plan.input.tensor.shape
    y, x, c = np.indices(shape)
    smooth = 127 * np.sin(y / shape[0] * 5 + c) * np.cos(x / shape[1] * 4)
    return [np.random.default_rng(0).integers(-128, 128, shape, dtype=np.int8), smooth.astype(np.int8)]


def _expect_exact(path: Path, folder: Path) -> None:
    """As anyone has it, and with all passes off and plain kernels."""
    graph = load_model(path)
    models = [generate(graph, Options("model")), generate(graph, Options("plain", frozenset(PASSES), "plain"))]
    inputs = [(i, x) for i, model in enumerate(models) for x in _inputs(model.plan)]
    executable = program(models, folder, "-O2")
    for (i, x), ran in zip(inputs, run(executable, models, inputs), strict=True):
        expect_reference(models[i], x, ran)


def test_the_model_that_ships_is_exact(tmp_path: Path) -> None:
    _expect_exact(CHECKOUT / "tinymbn" / "models" / "digits.npz", tmp_path)


@needs_shared
@pytest.mark.parametrize("name", SMALL)
def test_small_models_are_exact(name: str, tmp_path: Path) -> None:
    _expect_exact(SHARED / "models" / f"{name}.tflite", tmp_path)


@needs_shared
@pytest.mark.parametrize("name", LARGE)
def test_large_models_are_exact(name: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--examples") < 100:
        pytest.skip("large models are for --examples 100 and more")
    _expect_exact(SHARED / "models" / f"{name}.tflite", tmp_path)
