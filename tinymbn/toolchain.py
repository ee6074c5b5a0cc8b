"""Finds a compiler: gcc for the target, else zig, which PyPI has."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

from tinymbn.errors import ToolError
from tinymbn.paths import FIRMWARE_TEMPLATES

ZIG_HEADERS = FIRMWARE_TEMPLATES / "zig"  # zig has no C library for bare metal

CompilerName = Literal["gcc", "zig"]

_VERSION_TIMEOUT_S = 60  # zig unpacks its cache the first time


@dataclass(frozen=True)
class Toolchain:
    """A compiler with its linker and archiver.

    Attributes:
        name: which sort of flags it takes.
        compiler: the command.
        archiver: the command.
        version: one line, for reports.
    """

    name: CompilerName
    compiler: tuple[str, ...]
    archiver: tuple[str, ...]
    version: str


def find_toolchain(*, host: bool, wanted: CompilerName | None = None) -> Toolchain:
    """The compiler asked for, or the first of gcc and zig that is there.

    Args:
        host: for this PC, not for Cortex-M.
        wanted: None: any.

    Raises:
        ToolError: there is none.
    """
    prefix = "" if host else "arm-none-eabi-"
    gcc = shutil.which(f"{prefix}gcc") or (shutil.which("cc") if host else None)
    if gcc is not None and wanted != "zig":
        archiver = shutil.which(f"{prefix}ar") or f"{prefix}ar"
        return Toolchain("gcc", (gcc,), (archiver,), _first_line([gcc, "--version"]))
    if wanted != "gcc":
        zig = _zig()
        if zig is not None:
            headers = () if host else ("-isystem", str(ZIG_HEADERS))
            return Toolchain("zig", (*zig, "cc", *headers), (*zig, "ar"), f"zig {_first_line([*zig, 'version'])}")
    package = "gcc" if host else "gcc-arm-none-eabi libnewlib-arm-none-eabi"
    if wanted == "zig":
        raise ToolError("zig: not installed; try: pip install ziglang")
    raise ToolError(f"{prefix}gcc: not installed; try: sudo apt-get install {package}; or: pip install ziglang")


def _zig() -> tuple[str, ...] | None:
    if importlib.util.find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang")
    zig = shutil.which("zig")
    return (zig,) if zig is not None else None


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(f"{command[0]}: does not run: {error}") from error
    return (done.stdout.splitlines() or ["unknown version"])[0]
