"""Firmware for the emulators' tests: the boards' own files and a main() that echoes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tinymbn.board import Board
from tinymbn_codegen.board_files import LINK_FLAGS, board_files, board_sources

GCC = "arm-none-eabi-gcc"
ECHO = Path(__file__).with_name("echo.c")

needs_gcc = pytest.mark.skipif(shutil.which(GCC) is None, reason=f"no {GCC}")
needs_qemu = pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="no qemu-system-arm")

Changes = Mapping[str, tuple[str, str]]
"""File of the board: a text in it, and what stands there instead."""


def build_echo(board: Board, folder: Path, changes: Changes | None = None) -> Path:
    """The echo firmware as an ELF file, or as a program of this computer; with changes to the board's files."""
    files = board_files(board, stack_bytes=2048)
    for name, (old, new) in (changes or {}).items():
        assert files[name].count(old) == 1, f"{name}: {files[name].count(old)} times {old!r}"
        files[name] = files[name].replace(old, new)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    if board.is_host:
        command = ["cc", "-O1", "-g", "-fsanitize=address,undefined", "-D_POSIX_C_SOURCE=200809L"]
    else:
        command = [GCC, *board.gcc_flags, "-O1", "-ffunction-sections", "-fdata-sections"]
    command += ["-std=c11", "-Iboard", str(ECHO), *board_sources(board)]
    command += [*([] if board.is_host else [*LINK_FLAGS, "-lgcc"]), "-o", "echo.elf"]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "echo.elf"
