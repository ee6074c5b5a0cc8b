"""The ways of flashing that a board names, which of them this computer has, and the command of each."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from tinymbn.board import Board, FlashTool
from tinymbn.errors import BoardError, FlashError, OptionError, ToolError
from tinymbn.flashing.drive import find_drive
from tinymbn.flashing.image import ImageKind, image_path

INSTALL = {
    "openocd": "sudo apt-get install openocd",
    "st-flash": "sudo apt-get install stlink-tools",
    "pyocd": "pip install pyocd",
    "probe-rs": "probe-rs from https://probe.rs",
    "picotool": "picotool from https://github.com/raspberrypi/picotool",
}


@dataclass(frozen=True)
class Runner:
    """One way of flashing a board.

    Attributes:
        tool: the program's name, or "copy" for a drive that the board shows.
        arguments: with ``{elf}``, ``{bin}`` or ``{uf2}`` for the image.
        labels: what the drive may be called; nothing for a program.
        path: the program or the drive; None where it is not there.
    """

    tool: str
    arguments: tuple[str, ...]
    labels: tuple[str, ...]
    path: Path | None

    @property
    def image(self) -> ImageKind:
        """What it takes."""
        text = " ".join(self.arguments)
        return "uf2" if "{uf2}" in text else "bin" if "{bin}" in text else "elf"


def runners(board: Board) -> tuple[Runner, ...]:
    """All ways of flashing a board, the first to be tried first.

    Raises:
        BoardError: there is nothing to flash.
        DeviceError: several drives may be the board's.
    """
    return tuple(_runner(tool) for tool in _tools(board))


def choose_runner(board: Board, *, wanted: str | None = None) -> Runner:
    """The way asked for, or the first whose tool is installed or whose drive is there.

    Args:
        board: which one.
        wanted: name of a tool, or "copy"; None: any.

    Raises:
        BoardError: there is nothing to flash.
        OptionError: the board knows no such way.
        ToolError: the tool is not installed, or none is.
        DeviceError: several drives may be the board's.
    """
    tools = [tool for tool in _tools(board) if wanted in (None, tool.tool)]
    if not tools:
        names = ", ".join(tool.tool for tool in board.flash)
        raise OptionError(f'board "{board.name}": it is not flashed by {wanted}; expected one of {names}')
    absent = []
    for tool in tools:  # in order, so that drives are looked for only when it is their turn
        runner = _runner(tool)
        if runner.path is not None:
            return runner
        absent.append(runner)
    missing = ", ".join(_missing(runner) for runner in absent)
    advice = "; or ".join(install_hint(runner) for runner in absent)
    raise ToolError(f'board "{board.name}": nothing here flashes it: {missing}; {advice}')


def _tools(board: Board) -> tuple[FlashTool, ...]:
    if board.flash:
        return board.flash
    if board.emulator is not None:
        raise BoardError(
            f'board "{board.name}": it is emulated, nothing to flash; tinymbn verify --board {board.name} runs it'
        )
    raise BoardError(f'board "{board.name}": no way of flashing in {board.folder}')


def install_hint(runner: Runner) -> str:
    """How to come by the tool or drive."""
    if runner.tool != "copy":
        return INSTALL[runner.tool]
    name = " or ".join(runner.labels)
    if runner.image == "uf2":
        return f"hold BOOTSEL while the board is plugged in, and mount its drive {name}"
    return f"connect the board, and mount its drive {name}"


def command(runner: Runner, elf: Path) -> str:
    """What will be run, as a shell takes it; a copy is written as ``cp`` would do it.

    Raises:
        FlashError: the tool does not take the firmware's file name.
    """
    text = shlex.join(invocation(runner, elf))
    return text if elf.parent.resolve() == Path.cwd() else f"cd {shlex.quote(str(elf.parent))} && {text}"


def invocation(runner: Runner, elf: Path) -> tuple[str, ...]:
    """Name of the tool and its arguments, for the folder that the firmware is in.

    Names relative to that folder keep what a path may hold away from tools with a language of their own: OpenOCD's
    ``program`` takes a file name apart at its spaces, however it is quoted.

    Raises:
        FlashError: the tool does not take the firmware's file name.
    """
    name = image_path(Path(elf.name), runner.image).as_posix()
    if name.startswith("-"):
        name = f"./{name}"
    if runner.tool == "copy":
        return "cp", name, f"{runner.path or runner.labels[0]}/"
    placeholder = f"{{{runner.image}}}"
    if not re.fullmatch(r"[\w./+-]+", name) and any(placeholder in a and a != placeholder for a in runner.arguments):
        raise FlashError(f"{elf}: {runner.tool} takes no such file name; rename it, say, to firmware.elf")
    return runner.tool, *(argument.replace(placeholder, name) for argument in runner.arguments)


def _runner(tool: FlashTool) -> Runner:
    if tool.tool == "copy":
        return Runner(tool.tool, tool.arguments[:1], tool.arguments[1:], find_drive(tool.arguments[1:]))
    program = shutil.which(tool.tool)
    return Runner(tool.tool, tool.arguments, (), Path(program).absolute() if program is not None else None)


def _missing(runner: Runner) -> str:
    return f"no {runner.tool}" if runner.tool != "copy" else f"no drive {' or '.join(runner.labels)}"
