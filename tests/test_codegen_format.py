"""The generated C is laid out as firmware_templates/.clang-format says, and so is the C that travels with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.generated import ONE_TO_ONE, Int8s, generate, write
from tests.graphs import classifier, every_kernel
from tests.random_mobilenets import random_chain
from tests.shared import CHECKOUT
from tests.test_codegen_layers import random_graphs
from tinymbn.load import load_model
from tinymbn_codegen.options import Options

TEMPLATES = CHECKOUT / "firmware_templates"

CLANG_FORMAT = Path(sys.executable).parent / "clang-format"
pytestmark = pytest.mark.skipif(not CLANG_FORMAT.exists(), reason="no clang-format of PyPI; its version decides")

SHIFTED = ONE_TO_ONE[:, ::-1]  # not a pixel less 128: a table
PER_CHANNEL = np.concatenate([ONE_TO_ONE, SHIFTED])


def _expect_formatted(files: list[Path]) -> None:
    assert files
    style = f"--style=file:{TEMPLATES / '.clang-format'}"
    command = [str(CLANG_FORMAT), style, "--dry-run", "--Werror", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]


def test_the_runtime_is_formatted() -> None:
    _expect_formatted(sorted((TEMPLATES / "runtime").glob("*.h")))


@pytest.mark.parametrize("name", ["model", "person_detect"])
@pytest.mark.parametrize("pixels", [ONE_TO_ONE, SHIFTED, PER_CHANNEL], ids=["shift", "table", "channels"])
def test_small_models_are_formatted(name: str, pixels: Int8s, tmp_path: Path) -> None:
    for i, graph in enumerate((classifier(), every_kernel())):
        write(generate(graph, Options(name), pixels), tmp_path / str(i))
    _expect_formatted([path for path in sorted(tmp_path.rglob("*.[ch]")) if path.stem.startswith(name)])


def test_long_lists_and_names_of_layers_are_formatted(tmp_path: Path) -> None:
    digits = load_model(CHECKOUT / "tinymbn" / "models" / "digits.npz")
    graphs = [(graph, Options("model")) for graph in (digits, *random_graphs(2))]
    graphs += [(graph, Options("model", kernels="mve")) for graph in (digits, random_chain(48), random_chain(53))]
    for i, (graph, options) in enumerate(graphs):
        write(generate(graph, options), tmp_path / str(i))
    _expect_formatted([path for path in sorted(tmp_path.rglob("*.[ch]")) if path.stem.startswith("model")])
