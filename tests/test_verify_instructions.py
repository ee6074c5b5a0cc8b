"""``TINYMBN_QEMU_ARGS`` hands a tracing plugin to the emulator; what it counts is what profile says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import Run
from tests.firmwares import PICTURES, firmware
from tests.shared import SHARED, needs_shared

TOOL = SHARED / "tools" / "m4cost" / "m4cost.py"
MOST_APART = 32  # instructions between the two looks at the counter that are not the function's


@needs_shared
def test_a_plugin_counts_the_instructions_of_the_run_that_profile_tells(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counts = firmware("qemu-m4"), tmp_path / "count.json"
    if shutil.which("gcc") is None:
        pytest.skip("no gcc for the plugin")
    command = [sys.executable, str(TOOL), "args", str(folder / "firmware.elf"), "model_run", "-o", str(counts)]
    arguments = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    total = json.loads(run("profile", PICTURES[0], "--firmware", folder, "--json").out)["total"]
    monkeypatch.setenv("TINYMBN_QEMU_ARGS", arguments)
    assert run("verify", PICTURES[0], "--firmware", folder, "-n", 0).code == 0
    counted = json.loads(counts.read_text())["regions"]["1"]
    assert counted["calls"] == 1
    assert abs(counted["insn"] - total) <= MOST_APART


def test_arguments_that_are_no_list_are_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = firmware("qemu-m4")
    monkeypatch.setenv("TINYMBN_QEMU_ARGS", "'unfinished")
    done = run("verify", "--firmware", folder)
    assert done.code == 5
    assert "TINYMBN_QEMU_ARGS: not a list of arguments" in done.err


def test_arguments_that_qemu_dislikes_are_told_in_its_words(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = firmware("qemu-m4")
    monkeypatch.setenv("TINYMBN_QEMU_ARGS", "-no-such-option")
    done = run("verify", "--firmware", folder)
    assert done.code == 5
    assert "no-such-option" in done.err
