"""Firmwares that tests share: each is generated and built once, by the first test that asks for it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace as replace_fields
from fractions import Fraction
from functools import cache
from pathlib import Path

import pytest

from tests.shared import SHARED
from tinymbn.board import known_boards, load_board
from tinymbn.firmware import write_firmware
from tinymbn.graph import Graph
from tinymbn.layers import AnyLayer, Conv2D, Dense, Depthwise
from tinymbn.load import load_model
from tinymbn.paths import SAMPLE_PICTURES, SHIPPED_MODEL
from tinymbn.stimuli import stimuli
from tinymbn.toolchain import CompilerName
from tinymbn.verdict import Verdict
from tinymbn.verify import identify, verify
from tinymbn.workbench import Request, build_folder, open_bench
from tinymbn_codegen.options import Options
from tinymbn_codegen.rescale import rescale

DIGITS = "digits"
STREAMED = "digits at 48x48"  # with --optimize ram it streams from layer 2 to 7, and more of it fed by rows
EMULATED = tuple(board.name for board in known_boards() if board.emulator is not None)
PICTURES = tuple(sorted(SAMPLE_PICTURES.glob("*.png")))[:2]


def require_tools(board_name: str) -> None:
    """Skips the test, in one line, where the board's firmware can be neither built nor run."""
    board = load_board(board_name)
    if shutil.which("gcc" if board.is_host else "arm-none-eabi-gcc") is None:
        pytest.skip("no compiler")
    if board.emulator is not None and board.emulator.kind == "qemu" and shutil.which("qemu-system-arm") is None:
        pytest.skip("no qemu-system-arm")
    if board.emulator is not None and board.emulator.kind == "stm32f7":
        pytest.importorskip("unicorn")


@cache
def model(name: str = DIGITS) -> Graph:
    """The model that ships, as it is or larger, or one of ``../shared/models``."""
    return _larger(model(), 48) if name == STREAMED else load_model(model_file(name))


def _larger(graph: Graph, size: int) -> Graph:
    """The same network for larger pictures, its own weights included."""
    scaled = rescale(graph, Fraction(1), size, size)
    layers: list[AnyLayer] = []
    for layer, old in zip(scaled.layers, graph.layers, strict=True):
        if isinstance(layer, Conv2D | Depthwise | Dense):
            assert isinstance(old, Conv2D | Depthwise | Dense)
            layer = replace_fields(layer, weights=old.weights)
        layers.append(layer)
    return replace_fields(scaled, layers=tuple(layers))


def model_file(name: str) -> Path:
    """Where a model lies."""
    return SHIPPED_MODEL if name == DIGITS else SHARED / "models" / f"{name}.tflite"


@cache
def _root() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tinymbn-firmwares-")  # until the tests end


@cache
def firmware(
    board: str,
    model_name: str = DIGITS,
    options: Options = Options(),  # noqa: B008 - frozen
    level: str = "-O2",
    compiler: CompilerName | None = None,
) -> Path:
    """The folder of a firmware, built; nobody changes it: see ``copy``."""
    require_tools(board)
    folder = Path(tempfile.mkdtemp(prefix=f"{board}-", dir=_root().name))
    write_firmware(model(model_name), load_board(board), options, folder)
    build_folder(folder, level=level, compiler=compiler)
    return folder


def copy(folder: Path, to: Path) -> Path:
    """A firmware to change, its objects as fresh as they were."""
    return Path(shutil.copytree(folder, to))


def make(folder: Path) -> None:
    """Builds what has changed in a folder, by its Makefile, as whoever edits it does."""
    done = subprocess.run(["make", "-C", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def replace(file: Path, old: str, new: str, count: int = 1) -> None:
    """Edits a source; what is replaced has to be there, so often."""
    text = file.read_text()
    assert text.count(old) == count, f"{file.name}: {text.count(old)} times: {old}"
    file.write_text(text.replace(old, new))


def run_verify(
    board: str,
    folder: Path,
    model_name: str = DIGITS,
    *,
    pictures: Sequence[Path] = (),
    count: int = 3,
    seed: int = 0,
) -> Verdict:
    """What verify finds in a firmware, in the board's emulator."""
    return verify_graph(board, folder, model(model_name), pictures=pictures, count=count, seed=seed)


def verify_graph(
    board: str, folder: Path, graph: Graph, *, pictures: Sequence[Path] = (), count: int = 3, seed: int = 0
) -> Verdict:
    """The same of any graph's firmware."""
    request = Request(graph=graph, board=load_board(board), folder=folder, emulate=True)
    with open_bench(request) as bench:
        identity = identify(bench.connection, graph, request.board)
        return verify(bench.connection, identity, stimuli(graph, pictures, count, seed))


def expect_equal(board: str, folder: Path, graph: Graph, seed: int) -> None:
    """Build a graph's firmware; assert that every byte is the reference's, and that the stack is within its bound."""
    build_folder(folder)
    verdict = verify_graph(board, folder, graph, count=4, seed=seed)
    assert verdict.equal, f"seed {seed}: {verdict.first_difference and verdict.first_difference.text}"
    assert verdict.stack is not None
    assert verdict.stack.used_bytes <= verdict.stack.reserved_bytes


def mistakes(remarks: Sequence[str]) -> list[str]:
    """What an emulator remarked, but for bytes that a computer too busy for it made it lose; the link repeats them."""
    return [remark for remark in remarks if " bytes lost " not in remark]
