"""The link's C as a process on this machine: built with sanitizers, reached through a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import tempfile
import tty
from functools import cache
from pathlib import Path
from types import TracebackType

import pytest

from tests.link_model import LAYER_BYTES, OUTPUT_BYTES
from tests.shared import CHECKOUT
from tinymbn_codegen.link_files import SMALLEST_RX_MAX, link_files

SOURCES = CHECKOUT / "tests" / "fuzz"
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Wpedantic", "-Werror"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def lay_out(folder: Path, rx_max: int = SMALLEST_RX_MAX) -> list[Path]:
    """Puts the link, a stand-in board and a stand-in model into a folder; gives the C files without a main()."""
    for name, text in link_files(rx_max, len(LAYER_BYTES), OUTPUT_BYTES).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "board").mkdir()
    shutil.copy(CHECKOUT / "firmware_templates" / "board" / "board.h", folder / "board")
    shutil.copy(SOURCES / "board_config.h", folder / "board")
    shutil.copy(SOURCES / "fake_model.c", folder)
    return [folder / "fake_model.c", *sorted((folder / "link").glob("*.c"))]


def compile_c(compiler: str, folder: Path, sources: list[Path], output: Path, *options: str) -> None:
    """Compiles and links, warnings being errors."""
    command = [compiler, *WARNINGS, *options, "-I", str(folder), *map(str, sources), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def build_board(folder: Path, rx_max: int, compiler: str = "gcc", *, input_stays: bool = True) -> Path:
    """The stand-in board as a program, with a place of its own for the frame or without."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    sources = [*lay_out(folder, rx_max), folder / "main.c", SOURCES / "pc_board.c"]
    frame = f"-DINPUT_STAYS={int(input_stays)}"
    compile_c(compiler, folder, sources, folder / "board.elf", "-O1", "-g", frame, *SANITIZERS)
    return folder / "board.elf"


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tinymbn-link-")  # until the tests end


def board_program(rx_max: int = SMALLEST_RX_MAX, *, input_stays: bool = True) -> Path:
    """The stand-in board, built by the first test that asks."""
    return _built(rx_max, input_stays)


@cache
def _built(rx_max: int, input_stays: bool) -> Path:
    folder = Path(_folder().name) / f"firmware-{rx_max}-{input_stays}"
    return build_board(folder, rx_max, input_stays=input_stays)


class PtyBoard:
    """A running board behind a pseudo-terminal."""

    def __init__(self, program: Path, environment: dict[str, str] | None = None, *, wait: bool = False) -> None:
        self._program = program
        self._environment = environment or {}
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._process = None if wait else self._start()

    def __enter__(self) -> PtyBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        os.close(self._master)
        os.close(self._slave)

    def reset(self) -> None:
        """Kills the board, if it runs, and starts it; bytes under way stay under way."""
        self._stop()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self._program], stdin=self._master, stdout=self._master, env={**os.environ, **self._environment}
        )

    def _stop(self) -> None:
        """Ends the process; one that a sanitizer has ended fails the test."""
        if self._process is None:
            return
        code = self._process.poll()
        self._process.kill()
        self._process.wait(5)
        assert code in (None, -signal.SIGKILL), f"the board ended with {code}"
