"""The fast kernels are compiled once; what is kept is loaded without Numba, and never trusted if it is not whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared import CHECKOUT
from tinymbn.kernels.cache import cache_directory
from tinymbn.kernels.fast import native

PROGRAM = """
import sys
import numpy as np
from tinymbn.interpreter import Interpreter, is_compiled
from tinymbn.load import load_model
from tinymbn.paths import SHIPPED_MODEL
graph = load_model(SHIPPED_MODEL)
before = is_compiled("fast")
scores = Interpreter(graph).run(np.full(graph.input_tensor.shape, 5, np.int8))
print(before, "numba" in sys.modules, scores.tobytes().hex())
"""


def _start(cache: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TINYMBN_CACHE": str(cache)}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.Popen(command, env=environment, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)


def _result(process: subprocess.Popen[str]) -> list[str]:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return output.split()


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that two processes filled at the same time, both of which had to compile."""
    cache = tmp_path_factory.mktemp("cache")
    first, second = _start(cache), _start(cache)
    one, other = _result(first), _result(second)
    assert one[:2] == other[:2] == ["False", "True"]
    assert one[2] == other[2]
    (kept,) = cache.rglob("fast-*/*")
    assert kept.name == "execute.bin"
    return cache


def test_a_later_process_needs_no_numba(warm: Path) -> None:
    assert _result(_start(warm))[:2] == ["True", "False"]


def test_a_damaged_file_is_compiled_again(warm: Path) -> None:
    scores = _result(_start(warm))[2]
    (kept,) = warm.rglob("execute.bin")
    whole = kept.read_bytes()
    middle = len(whole) // 2
    kept.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    assert _result(_start(warm)) == ["False", "True", scores]
    assert _result(_start(warm)) == ["True", "False", scores]


@pytest.mark.parametrize("kept", [b"", b"tinymbn", b"tinymbn kernels 1\n", b"tinymbn kernels 1\n" + bytes(100)])
def test_what_is_not_whole_counts_as_nothing(kept: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "folder", lambda: tmp_path)
    (tmp_path / "execute.bin").write_bytes(kept)
    assert native._read() is None


def test_what_is_kept_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "folder", lambda: tmp_path)
    found = native.ObjectFile("name", b"code\n\0\xff")
    native._write(found)
    assert native._read() == found
    assert [path.name for path in tmp_path.iterdir()] == ["execute.bin"]


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "folder", lambda: tmp_path / "not there")
    native._write(native.ObjectFile("name", b"code"))
    assert native._read() is None
    monkeypatch.setattr(native, "folder", lambda: None)
    native._write(native.ObjectFile("name", b"code"))
    assert native._read() is None


def test_the_folder_hangs_on_sources_versions_and_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYMBN_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "source.py"
    source.write_text("1")
    folders = [
        cache_directory("fast", [source], facts) for facts in (["avx2", "1.0"], ["avx2", "1.1"], ["avx", "21.0"])
    ]
    source.write_text("2")
    folders.append(cache_directory("fast", [source], ["avx2", "1.0"]))
    assert None not in folders
    assert len(set(folders)) == 4
