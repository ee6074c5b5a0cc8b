"""The wheel: what is in it, and that it runs where there is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.shared import CHECKOUT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_installs_two_names_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"tinymbn", "tinymbn_codegen"}


def test_the_wheel_has_what_it_needs_to_run(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"tinymbn/py.typed", "tinymbn/models/digits.npz", "tinymbn/boards/README.md"} <= names
    assert {f"tinymbn/boards/stm32f7/{file}" for file in ("board.toml", "board.c", "README.md")} <= names
    for folder in ("layers", "model", "project", "runtime", "link", "board"):
        assert any(name.startswith(f"tinymbn/firmware_templates/{folder}/") for name in names)
    assert {f"tinymbn/samples/{digit}.png" for digit in range(10)} <= names
    assert not {name for name in names if "tests/" in name or "__pycache__" in name}


def test_the_wheel_runs_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def tinymbn(*arguments: str) -> str:
        command = [sys.executable, "-m", "tinymbn", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True, timeout=300
        )
        return done.stdout

    where = [sys.executable, "-c", "import tinymbn; print(tinymbn.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True, timeout=60)
    assert found.stdout.startswith(str(site))
    assert tinymbn("--version").startswith("tinymbn ")
    assert "7" in tinymbn("run", str(site / "tinymbn" / "samples" / "7.png"))
    assert "depthwise" in tinymbn("info")
    assert "stm32f7" in tinymbn("boards")
    assert "bytes" in tinymbn("plan", "--board", "stm32f7")
    tinymbn("codegen", "--board", "stm32f7")
    assert (tmp_path / "firmware-stm32f7" / "board" / "linker.ld").is_file()
