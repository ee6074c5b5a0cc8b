"""A linked firmware in, flashed onto a board: by the first tool that is there, or by a copy to the board's drive.

Choose a way with ``choose_runner``, show what ``command`` says, then ``flash``. A dry run leaves out the last: the
first two read no firmware, write nothing and start nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tinymbn.board import Board
from tinymbn.errors import ToolError
from tinymbn.flashing.drive import copy_image
from tinymbn.flashing.image import Image, make_image
from tinymbn.flashing.runners import Runner, choose_runner, command, install_hint, invocation, runners
from tinymbn.flashing.tool import run_tool

__all__ = ["FlashResult", "Image", "Runner", "choose_runner", "command", "flash", "install_hint", "runners"]

TIMEOUT_S = 120.0  # the largest image over the slowest probe takes a third of it


@dataclass(frozen=True)
class FlashResult:
    """What was done.

    Attributes:
        tool: by which.
        command: as a shell takes it.
        seconds: it took.
        image: the file that was handed over.
        image_bytes: its size.
        sha256: of the file, in hexadecimal.
        outcome: in a few words, what shows that it succeeded.
        output: the end of what the tool said.
    """

    tool: str
    command: str
    seconds: float
    image: Path
    image_bytes: int
    sha256: str
    outcome: str
    output: str


def flash(board: Board, elf: Path, runner: Runner, *, timeout_s: float = TIMEOUT_S) -> FlashResult:
    """Bring a firmware onto a board.

    An image that the runner wants instead of the ELF file is written beside it, to ``build/``.

    Args:
        board: which one.
        elf: the firmware as linked for it.
        runner: one of the board's.
        timeout_s: after which the tool is ended.

    Raises:
        ToolError: there is no such firmware, or the runner's tool is not installed or cannot be started.
        FlashError: the firmware is not for this board, or the tool or drive did not take it in time.
        OutputError: the image cannot be written.
    """
    if runner.path is None:
        raise ToolError(f"{runner.tool}: not here; {install_hint(runner)}")
    shown = command(runner, elf)
    image = make_image(board, elf, runner.image)
    begin = time.monotonic()
    if runner.tool == "copy":
        outcome, output = copy_image(image.path, runner.path, timeout_s), ""
    else:
        output = run_tool(invocation(runner, elf), runner.path, elf.parent, timeout_s)
        outcome = f"{runner.tool} reports success"
    seconds = time.monotonic() - begin
    return FlashResult(runner.tool, shown, seconds, image.path, image.size, image.sha256, outcome, output)
