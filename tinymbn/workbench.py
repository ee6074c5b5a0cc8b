"""Brings a firmware to where it runs: built in a scratch folder or taken from one, in an emulator or on a board."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tinymbn.board import Board
from tinymbn.board_rules import reachable_bauds
from tinymbn.build import BuildResult, build, read_compiler
from tinymbn.connection import Connection, connect_emulated, connect_port
from tinymbn.errors import BoardError, DeviceError, FirmwareError, LinkError, ToolError
from tinymbn.firmware import write_firmware
from tinymbn.graph import Graph
from tinymbn.ports import find_port
from tinymbn.project_file import made_for, read_project
from tinymbn.toolchain import CompilerName, find_toolchain
from tinymbn_codegen.options import Options


@dataclass(frozen=True)
class Request:
    """Which firmware is wanted, and where.

    Attributes:
        graph: the model.
        board: the board.
        options: of the generator, where it is generated here.
        folder: with an ``.elf`` that runs as it lies there; None: generate and build.
        emulate: run it in the board's emulator.
        port: of the board; None: found by its USB ids.
        baud: to go to; None: the fastest the board's clock can make.
        level: level for a build.
        compiler: for a build; None: any.
    """

    graph: Graph
    board: Board
    options: Options = Options()
    folder: Path | None = None
    emulate: bool = False
    port: str | None = None
    baud: int | None = None
    level: str = "-O2"
    compiler: CompilerName | None = None

    @property
    def emulated(self) -> bool:
        """Whether an emulator runs it: asked for, or all there is."""
        kind = self.board.emulator.kind if self.board.emulator is not None else None
        return self.emulate or kind in ("qemu", "host")


@dataclass(frozen=True)
class Bench:
    """A firmware that answers, and what is known of how it was made.

    Attributes:
        connection: with it.
        compiler: that built it, in one line; empty where nobody knows.
    """

    connection: Connection
    compiler: str


@contextmanager
def open_bench(
    request: Request, *, icount_shift: int | None = None, progress: Callable[[str], None] = lambda what: None
) -> Iterator[Bench]:
    """The firmware, answering.

    Args:
        request: which and where.
        icount_shift: count instructions in QEMU.
        progress: told what is being done.

    Raises:
        BoardError: no emulator runs it, or an emulated board has no port.
        ToolError: it cannot be built, or there is no ``.elf``.
        DeviceError: no board, or several.
        FirmwareError: the folder is for another board.
        LinkError: no answer.
    """
    if request.folder is not None:
        _require_board(request.folder, request.board)
    if not request.emulated:
        port = _find_port(request)
        compiler = read_compiler(request.folder) if request.folder is not None else ""
        progress(f"connecting to {port}")
        with connect_port(port, request.board.baud) as connection:
            _speed_up(request, connection)
            yield Bench(connection, compiler)
        return
    if request.port is not None:
        raise BoardError(f"board {request.board.name}: it is emulated and has no port; leave out --port")
    with _elf(request, progress) as (elf, compiler):
        progress("starting the emulator")
        with connect_emulated(request.board, elf, icount_shift=icount_shift) as connection:
            _speed_up(request, connection)
            yield Bench(connection, compiler)


def _find_port(request: Request) -> str:
    try:
        return find_port(request.board, port=request.port)
    except DeviceError as error:
        if request.board.emulator is None:
            raise
        raise DeviceError(f"{error}; without a board: --emulate") from None


def _speed_up(request: Request, connection: Connection) -> None:
    """Go to the baud rate asked for, or to the fastest of the board's where a line has one; it starts with its own.

    Raises:
        LinkError: the rate asked for cannot be had.
    """
    emulator = request.board.emulator
    if request.baud is not None:
        if not connection.session.set_baud(request.baud):
            raise LinkError(f"board {request.board.name}: {request.baud} baud: the board or the line cannot do it")
    elif not request.emulated or (emulator is not None and emulator.kind == "stm32f7"):
        connection.session.set_baud(max(reachable_bauds(request.board), default=request.board.baud))


@contextmanager
def _elf(request: Request, progress: Callable[[str], None]) -> Iterator[tuple[Path, str]]:
    """The firmware's file and its compiler."""
    if request.folder is not None:
        yield find_elf(request.folder), read_compiler(request.folder)
        return
    with tempfile.TemporaryDirectory(prefix="tinymbn-") as scratch:
        progress("generating")
        folder = Path(scratch) / "firmware"
        write_firmware(request.graph, request.board, request.options, folder)
        progress("building")
        result = build_folder(folder, compiler=request.compiler, level=request.level)
        yield result.target, result.compiler


def build_folder(
    folder: Path,
    *,
    compiler: CompilerName | None = None,
    level: str = "-O2",
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> BuildResult:
    """Build a generated folder with the compiler asked for, or the first there is."""
    project = read_project(folder)
    toolchain = find_toolchain(host=project.build.host, wanted=compiler)
    return build(project, toolchain, level=level, progress=progress)


def find_elf(folder: Path) -> Path:
    """The one ``.elf`` in a folder.

    Raises:
        ToolError: there is none, or more than one.
    """
    found = sorted(folder.glob("*.elf")) if folder.is_dir() else []
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ToolError(f"{folder}: .elf files: {names}; expected one; tinymbn build {folder} makes it")
    return found[0]


def _require_board(folder: Path, board: Board) -> None:
    other = made_for(folder)
    if other not in (None, board.name):
        raise FirmwareError(f'{folder}: made for board "{other}"; expected "{board.name}"')
