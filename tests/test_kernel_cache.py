"""Compiled kernels are kept between processes, and the copies are not trusted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared import CHECKOUT

PROGRAM = """
import numpy as np
from tinymbn.kernels import jit
from tinymbn.kernels.mul import mul
before = jit.is_compiled()
out = np.empty(2, np.int8)
mul(np.array([3, -4], np.int8), np.array([5, 6], np.int8), 2**30, 1, 0, 0, 1, (-128, 127), out)
print(before, out.tolist(), sum(mul.stats.cache_hits.values()))
"""


def _run(cache: Path) -> str:
    environment = {**os.environ, "TINYMBN_CACHE": str(cache)}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, env=environment, cwd=CHECKOUT, check=True, capture_output=True, text=True, timeout=300
    )
    return done.stdout.strip()


def test_the_second_process_compiles_nothing(tmp_path: Path) -> None:
    assert _run(tmp_path) == "False [16, -23] 0"
    assert _run(tmp_path) == "True [16, -23] 1"


@pytest.mark.parametrize("pattern", ["*.nbc", "*.nbi"])
@pytest.mark.parametrize("kept", [0, 50])
def test_a_damaged_copy_is_compiled_again(tmp_path: Path, pattern: str, kept: int) -> None:
    _run(tmp_path)
    (damaged,) = tmp_path.rglob(pattern)
    damaged.write_bytes(damaged.read_bytes()[:kept])
    assert _run(tmp_path).endswith("[16, -23] 0")
    assert _run(tmp_path).endswith("[16, -23] 1")


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert _run(tmp_path / "file" / "cache") == "False [16, -23] 0"
