"""Measures one case: generates, builds, runs one picture in QEMU, and compares every byte while it counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.counter import Counter, Counts, read_counts
from benchmarks.footprint import Footprint, functions_of, read_footprint
from tinymbn.board import load_board
from tinymbn.emulators.qemu import ARGUMENTS_VARIABLE
from tinymbn.errors import PlanError, ToolError

_DIFFERS = 9
_HELIUM_CORE = "cortex-m55"
_TIMEOUT_S = 1800  # of one command; plain kernels of a large model take minutes under the plugin


@dataclass(frozen=True)
class Model:
    """A model's file, and what is known of it before it runs.

    Attributes:
        file: it lies there.
        macs: of an inference.
        rows: of its picture.
    """

    file: Path
    macs: int
    rows: int


@dataclass(frozen=True)
class Measurement:
    """What one case takes.

    Attributes:
        case: which.
        macs: of the layers that run, after all optimisations.
        activation_bytes: all that the model keeps in RAM.
        dsp_activation_bytes: the same with kernels for the DSP extension; None where there are none for more than it.
        footprint: of the model, linked.
        flash_bytes: of the whole firmware.
        stack_bytes: the deepest that the firmware went.
        counts: None where there is no plugin.
        difference: the first byte that is not the reference's, in words; empty: all are equal.
        compiler: with its level, in one line.
    """

    case: Case
    macs: int
    activation_bytes: int
    dsp_activation_bytes: int | None
    footprint: Footprint
    flash_bytes: int
    stack_bytes: int
    counts: Counts | None
    difference: str
    compiler: str

    @property
    def equal(self) -> bool:
        """Whether every byte was."""
        return not self.difference


def measure(case: Case, model: Model, picture: Path, counter: Counter | None, scratch: Path) -> Measurement:
    """Generate, build, run.

    Args:
        case: which.
        model: that of the case.
        picture: what it is given.
        counter: None: nothing is counted.
        scratch: an empty folder.

    Raises:
        PlanError: it does not fit the board.
        ToolError: any other failure.
    """
    folder, counts = scratch / "firmware", scratch / "counts.json"
    generated = _tinymbn("codegen", model.file, "--board", case.board, "-o", folder, *case.variant.arguments, "-q")
    built = _tinymbn("build", folder, "-q")
    elf = Path(built["target"])
    functions = functions_of(elf)
    arguments = counter.arguments(elf, functions, counts) if counter is not None else ""
    verify = ("verify", model.file, picture, "-n", 0, "--board", case.board, "--firmware", folder, "-q")
    verdict = _tinymbn(*verify, qemu_arguments=arguments)
    return Measurement(
        case=case,
        macs=sum(layer["macs"] for layer in generated["layers"]),
        activation_bytes=generated["activation_bytes"],
        dsp_activation_bytes=dsp_activation_bytes(case, model),
        footprint=read_footprint(folder, elf),
        flash_bytes=sum(memory["used"] for memory in built["memories"] if memory["kind"] == "flash"),
        stack_bytes=verdict["stack"]["used"],
        counts=read_counts(counts, functions, model.rows) if counter is not None else None,
        difference="" if verdict["equal"] else verdict["first_difference"]["text"],
        compiler=built["compiler"],
    )


def dsp_activation_bytes(case: Case, model: Model) -> int | None:
    """What the model keeps with kernels for the DSP extension, where the board's are for more."""
    if load_board(case.board).core != _HELIUM_CORE or "--kernels" in case.variant.arguments:
        return None
    line = (model.file, "--board", case.board, *case.variant.arguments, "--kernels", "dsp")
    found: int = _tinymbn("plan", *line)["activation_bytes"]
    return found


def _tinymbn(command: str, *arguments: object, qemu_arguments: str = "") -> dict[str, Any]:
    """What a command of tinymbn says in JSON.

    Raises:
        PlanError: the model does not fit the board.
        ToolError: any other failure; bytes that differ are none.
    """
    line = [sys.executable, "-m", "tinymbn", command, *map(str, arguments), "--json"]
    environment = {**os.environ, ARGUMENTS_VARIABLE: qemu_arguments}
    try:
        done = subprocess.run(  # noqa: S603
            line, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        raise ToolError(f"tinymbn {command}: not done within {_TIMEOUT_S} s") from None
    if done.returncode in (0, _DIFFERS):
        values: dict[str, Any] = json.loads(done.stdout)
        return values
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    error = PlanError if done.returncode == PlanError.exit_code else ToolError
    raise error(f"tinymbn {command}: {said[-1].removeprefix('tinymbn: ')}")
