"""A session with a firmware: on a board at a serial port, or in an emulator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tinymbn import emulators
from tinymbn.board import Board
from tinymbn.emulators import Machine
from tinymbn.errors import DeviceError, FirmwareError, LinkError
from tinymbn.link.messages import Hello
from tinymbn.link.session import Session, open_session


@dataclass(frozen=True)
class Connection:
    """A firmware that answers.

    Attributes:
        session: with it.
        hello: what it said of itself.
        machine: the emulator it runs in; None for a real board.
        elf: what runs there; None for a real board.
    """

    session: Session
    hello: Hello
    machine: Machine | None = None
    elf: Path | None = None


@contextmanager
def connect_port(port: str, baud: int) -> Iterator[Connection]:
    """The firmware at a serial port.

    Raises:
        DeviceError: no such port, or nothing was received from it.
        LinkError: what was received is no answer.
        FirmwareError: it speaks another version of the protocol.
    """
    with open_session(port, baud) as session:
        yield Connection(session, session.hello())


@contextmanager
def connect_emulated(board: Board, elf: Path, *, icount_shift: int | None = None) -> Iterator[Connection]:
    """The firmware in the board's emulator.

    Raises:
        ToolError: there is no emulator, or it does not take the firmware.
        LinkError: the firmware does not answer, or died; the text says what the emulator knows.
    """
    with emulators.start(board, elf, icount_shift=icount_shift) as machine:
        try:
            with open_session(machine.port, board.baud, opened=machine.release) as session:
                yield Connection(session, session.hello(), machine, elf)
        except (LinkError, DeviceError) as error:
            # That a dead emulator does not answer goes without saying.
            told = [machine.exit_reason() or str(error), *machine.findings()[:3]]
            raise LinkError(f"{board.name} in its emulator: {'; '.join(told)}") from error


def require_identity(board: Board, hello: Hello, version: str) -> None:
    """Nothing where the firmware is of this board and this version of tinymbn.

    Raises:
        FirmwareError: it is not.
    """
    if hello.board != board.name:
        raise FirmwareError(
            f'board: firmware of "{hello.board}" answers; expected "{board.name}"; flash it, or say --board'
        )
    if hello.version != version:
        raise FirmwareError(
            f"board {board.name}: firmware of tinymbn {hello.version} answers; this is {version}; "
            "generate and flash it again"
        )
