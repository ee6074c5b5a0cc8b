"""Emulated boards: a firmware's image in, a port that pyserial opens out."""

from __future__ import annotations

from pathlib import Path

from tinymbn.board import Board
from tinymbn.emulators.host import HostMachine
from tinymbn.emulators.machine import Machine
from tinymbn.emulators.qemu import QemuMachine
from tinymbn.emulators.virtual import VirtualMachine
from tinymbn.errors import BoardError, ToolError
from tinymbn.files import require_file

__all__ = ["Machine", "start"]


def start(board: Board, elf: Path, *, icount_shift: int | None = None) -> Machine:
    """The board's firmware in its emulator, held before its first instruction.

    Use it in a ``with`` statement, in the main thread, so that no emulator is left over whatever happens. Open the
    machine's ``port``, then call its ``release``.

    Args:
        board: which one.
        elf: the firmware as linked for this board; a raw image of its flash will do, except for the host.
        icount_shift: QEMU counts instructions, each as ``2**icount_shift`` ns; other emulators ignore it.

    Raises:
        BoardError: no emulator runs this board's firmware.
        ToolError: the emulator is missing or too old, or cannot load the firmware.
    """
    emulator = board.emulator
    if emulator is None:
        raise BoardError(
            f"board {board.name}: no emulator runs its firmware; flash a real one, and leave out --emulate"
        )
    require_file(elf, ToolError, "a linked firmware")
    elf = elf.resolve()  # no name that begins with a dash, no surprise if the folder changes
    if emulator.kind == "qemu":
        return QemuMachine(emulator.machine or "", elf, icount_shift)
    if emulator.kind == "host":
        return HostMachine(elf)
    return VirtualMachine("tinymbn.emulators.virtual_stm32f7", emulator.machine or "nucleo-f746zg", elf, board.baud)
