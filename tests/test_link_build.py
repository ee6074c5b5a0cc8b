"""The link's C compiles without a warning for the PC and every core, needs no library, and stays small."""

from __future__ import annotations

import re
import shutil
import subprocess
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.link_board import WARNINGS, compile_c, lay_out
from tests.shared import CHECKOUT
from tinymbn_codegen.link_files import LARGEST_RX_MAX, SMALLEST_RX_MAX, link_files, link_ram_bytes

LINK = CHECKOUT / "firmware_templates" / "link"
CORES = ("cortex-m0", "cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
# Functions of the board, and those that every firmware brings along.
SUPPLIED = re.compile(r"(board_|tinymbn_the_model|__aeabi_|__gnu_thumb1_|(memcpy|memset|memmove|memcmp)$)")
LARGEST_STACK_BYTES = 160  # of one function

needs_arm_gcc = pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="no arm-none-eabi-gcc here")


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_arm_gcc
@pytest.mark.parametrize("core", CORES)
def test_every_core_compiles_without_a_warning_and_needs_nothing_but_the_board(core: str, tmp_path: Path) -> None:
    sources = [*lay_out(tmp_path)[1:], tmp_path / "main.c"]
    gcc = ["arm-none-eabi-gcc", *WARNINGS, f"-mcpu={core}", "-mthumb", "-Os", "-ffreestanding", "-fstack-usage"]
    _run(*gcc, "-r", "-nostdlib", *sources, "-o", "link.o", cwd=tmp_path)
    undefined = _run("arm-none-eabi-nm", "-u", "link.o", cwd=tmp_path).split()[1::2]
    assert [name for name in undefined if not SUPPLIED.match(name)] == []
    stacks = [line.split("\t") for path in tmp_path.rglob("*.su") for line in path.read_text().splitlines()]
    assert stacks
    assert [s for s in stacks if int(s[1]) > LARGEST_STACK_BYTES or s[2] not in ("static", "dynamic,bounded")] == []


@needs_arm_gcc
@pytest.mark.parametrize("rx_max", [SMALLEST_RX_MAX, 1024])
@pytest.mark.parametrize(("layers", "output_bytes"), [(3, 10), (31, 3), (60, 6708)])
def test_the_static_memory_is_not_more_than_said(rx_max: int, layers: int, output_bytes: int, tmp_path: Path) -> None:
    lay_out(tmp_path)
    for name, text in link_files(rx_max, layers, output_bytes).items():
        (tmp_path / name).write_text(text)
    sources = sorted((tmp_path / "link").glob("*.c"))
    gcc = ["arm-none-eabi-gcc", "-std=c11", "-mcpu=cortex-m0", "-mthumb", "-O0", "-r", "-nostdlib"]
    _run(*gcc, *sources, "-o", "link.o", cwd=tmp_path)
    _, data, bss, *_ = _run("arm-none-eabi-size", "link.o", cwd=tmp_path).splitlines()[1].split()
    assert int(data) + int(bss) <= link_ram_bytes(rx_max, layers, output_bytes)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_pc_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    sources = [*lay_out(tmp_path), tmp_path / "main.c", Path(__file__).parent / "fuzz" / "pc_board.c"]
    compile_c(compiler, tmp_path, sources, tmp_path / "board.elf", "-O2")


def test_modules_include_those_below_alone_in_the_order_of_the_documentation() -> None:
    included: dict[str, set[str]] = {}
    for path in sorted(LINK.glob("*.[ch]")):
        found = re.findall(r'^#include "(?:link/)?(\w+)\.h"$', path.read_text(), re.MULTILINE)
        included.setdefault(path.stem, set()).update(set(found) - {path.stem, "link_config"})
    order = list(TopologicalSorter(included).static_order())  # a circle raises CycleError
    section = (CHECKOUT / "docs" / "link.md").read_text().partition("## The board's modules")[2].partition("\n## ")[0]
    rows = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in section.splitlines() if line.startswith("| `")]
    row = {module: number for number, names in enumerate(reversed(rows)) for module in names}
    assert sorted(row) == sorted(order)
    assert [f"{m} includes {n}" for m in included for n in included[m] if row[n] >= row[m]] == []


def test_the_files_are_the_same_each_time_and_carry_the_sizes() -> None:
    files = link_files(LARGEST_RX_MAX, 5, 7)
    assert files == link_files(LARGEST_RX_MAX, 5, 7)
    assert list(files) == sorted(files)
    assert {"main.c", "link/server.c", "link/tinymbn_model.h"} <= set(files)
    config = files["link/link_config.h"]
    assert "LINK_RX_MAX 2048" in config
    assert "LINK_LAYERS 5" in config
    assert "LINK_OUTPUT_BYTES 7" in config


@pytest.mark.parametrize("wrong", [(SMALLEST_RX_MAX - 1, 1, 1), (LARGEST_RX_MAX + 1, 1, 1), (128, 0, 1), (128, 1, 0)])
def test_impossible_sizes_are_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(AssertionError):
        link_files(*wrong)
