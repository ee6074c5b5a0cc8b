"""The generated C builds to the same program by every compiler, level and build tool, and into libraries."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from dataclasses import replace as replaced
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import Run
from tests.firmwares import DIGITS, copy, firmware, model, replace, run_verify
from tests.graphs import classifier
from tinymbn.board import load_board
from tinymbn.build import memory_usage
from tinymbn.elf import Section, function_at, read_sections
from tinymbn.errors import PlanError, ToolError
from tinymbn.firmware import write_firmware
from tinymbn.graph import Graph
from tinymbn.interpreter import Interpreter
from tinymbn.project_file import Region
from tinymbn.stimuli import stimuli
from tinymbn.toolchain import CompilerName
from tinymbn.workbench import build_folder
from tinymbn_codegen.options import Options

needs_zig = pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="no ziglang")
ALL = 100  # --examples

LEVELS = ("-O0", "-O1", "-O2", "-O3", "-Os")
SOME = [("gcc", "qemu-m3", "-O0"), ("gcc", "qemu-m3", "-Os"), ("gcc", "host", "-O3")]
SOME_ZIG = [("zig", "qemu-m3", "-O2"), ("zig", "host", "-O0")]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("board", ["qemu-m0", "qemu-m3", "qemu-m55", "stm32f7", "host"])
@pytest.mark.parametrize("compiler", ["gcc", pytest.param("zig", marks=needs_zig)])
def test_every_compiler_and_level_makes_the_same_bytes(
    compiler: CompilerName, board: str, level: str, request: pytest.FixtureRequest
) -> None:
    if (compiler, board, level) not in SOME + SOME_ZIG and request.config.getoption("--examples") < ALL:
        pytest.skip(f"with --examples {ALL} or more")
    verdict = run_verify(board, firmware(board, DIGITS, Options(), level, compiler))
    assert verdict.equal, verdict.first_difference and verdict.first_difference.text
    assert verdict.stack is not None
    if board != "host":
        assert 0 < verdict.stack.used_bytes < verdict.stack.reserved_bytes


@needs_zig
def test_zig_links_for_every_board(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    thorough = request.config.getoption("--examples") >= ALL
    boards = ("nrf52840dk", "nucleo-f446re", "nucleo-h743zi", "nucleo-l4r5zi", "pico", "stm32f746g-disco")
    some = ("pico2", "nucleo-n657x0-q", "ek-ra8d1")
    for board in (*some, *boards) if thorough else some:
        write_firmware(model(), load_board(board), Options(), tmp_path / board)
        assert build_folder(tmp_path / board, compiler="zig").target.is_file()


# ------------------------------------------------------------------------------------------------- make and cmake


@pytest.mark.parametrize("board", ["qemu-m3", "host"])
def test_make_builds_the_same_program(board: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if board == "host" and request.config.getoption("--examples") < ALL:
        pytest.skip(f"with --examples {ALL} or more")
    folder = copy(firmware(board), tmp_path / "made")
    shutil.rmtree(folder / "build")
    (folder / "firmware.elf").unlink()
    subprocess.run(["make", "-C", folder], check=True, capture_output=True)
    assert run_verify(board, folder, count=2).equal
    if board != "host":
        own, theirs = (read_sections(f / "firmware.elf") for f in (folder, firmware(board)))
        assert own == theirs


@pytest.mark.parametrize("board", ["qemu-m3", "pico"])
def test_make_offers_the_flash_tools_that_the_board_has_and_no_others(board: str, run: Run) -> None:
    assert run("codegen", "--board", board, "-o", "made", "-q").code == 0
    told = Path("made", "Makefile").read_text().partition("CC =")[0]
    offered = re.findall(r"#   make (flash\S*) +onto the board, by (\S+)", told)
    tools = [tool.tool for tool in load_board(board).flash if any("{elf}" in part for part in tool.arguments)]
    assert offered == [("flash" if tool == tools[0] else f"flash-{tool}", tool) for tool in tools]
    for target, tool in offered:
        done = subprocess.run(["make", "-n", "-C", "made", target], capture_output=True, text=True, check=True)
        assert f"\n{tool} " in done.stdout
    assert ("tinymbn flash" in Path("made", "README.md").read_text()) == bool(tools)


def test_make_goes_on_where_tinymbn_build_ended(tmp_path: Path) -> None:
    folder = copy(firmware("qemu-m3"), tmp_path / "made")
    before = {path: path.stat().st_mtime_ns for path in (folder / "build").rglob("*.o")}
    replace(folder / "link" / "text.h", "\n#endif", "\n/* edited */\n#endif")
    subprocess.run(["make", "-C", folder], check=True, capture_output=True)
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert "text.o" in changed  # what includes it, and nothing else
    assert "model_layers.o" not in changed


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake")
@pytest.mark.parametrize("board", ["qemu-m3", "host"])
def test_cmake_builds_the_same_program(board: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if board == "host" and request.config.getoption("--examples") < ALL:
        pytest.skip(f"with --examples {ALL} or more")
    folder = copy(firmware(board), tmp_path / "made")
    (folder / "firmware.elf").unlink()
    # As the file's own head says.
    head = (folder / "CMakeLists.txt").read_text().partition("cmake_minimum_required")[0]
    commands = " && ".join(line.strip("# ") for line in head.splitlines() if line.startswith("#   "))
    shutil.rmtree(folder / "build")
    done = subprocess.run(["sh", "-ec", commands], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder / "build" / "firmware.elf").rename(folder / "firmware.elf")
    assert run_verify(board, folder, count=2).equal


# ------------------------------------------------------------------------------------------------------ libraries

PROGRAM = """
#include <stdio.h>
#include "one.h"
#include "two.h"

static int8_t one_output[ONE_OUTPUT_BYTES], two_output[TWO_OUTPUT_BYTES];

int main(void)
{
    if (fread(one_input(), 1, ONE_INPUT_BYTES, stdin) != ONE_INPUT_BYTES ||
        fread(two_input(), 1, TWO_INPUT_BYTES, stdin) != TWO_INPUT_BYTES) {
        return 1;
    }
    one_run(one_input(), one_output);
    two_run(two_input(), two_output);
    fwrite(one_output, 1, ONE_OUTPUT_BYTES, stdout);
    fwrite(two_output, 1, TWO_OUTPUT_BYTES, stdout);
    return 0;
}
"""


def last_stimulus(graph: Graph) -> np.ndarray:
    return list(stimuli(graph, [], 3, 0))[-1].values


@pytest.mark.parametrize("tool", ["tinymbn", "make"])
def test_two_libraries_of_two_names_link_into_one_program(tool: str, tmp_path: Path) -> None:
    graphs = {"one": model(), "two": classifier()}
    for name, graph in graphs.items():
        write_firmware(graph, load_board("host"), Options(name=name), tmp_path / name, library=True)
        if tool == "tinymbn":
            assert build_folder(tmp_path / name).target == tmp_path / name / f"lib{name}.a"
        else:
            subprocess.run(["make", "-C", tmp_path / name], check=True, capture_output=True)
    (tmp_path / "main.c").write_text(PROGRAM)
    command = ["gcc", "-std=c11", "-Wall", "-Werror", "-Ione", "-Itwo", "main.c", "-o", "both"]
    subprocess.run([*command, "one/libone.a", "two/libtwo.a"], cwd=tmp_path, check=True)
    inputs = {name: last_stimulus(graph) for name, graph in graphs.items()}
    done = subprocess.run(
        [tmp_path / "both"], input=b"".join(x.tobytes() for x in inputs.values()), capture_output=True, check=True
    )
    expected = [Interpreter(graph).run(inputs[name]).tobytes() for name, graph in graphs.items()]
    assert done.stdout == b"".join(expected)


def test_a_library_for_a_chip_has_no_main_and_no_board(run: Run) -> None:
    assert run("codegen", "--board", "stm32f7", "--library", "-o", "lib", "-q").code == 0
    assert {path.name for path in Path("lib").iterdir() if path.is_dir()} == set()
    done = run("build", "lib")
    assert done.code == 0
    assert done.out.startswith("lib/libmodel.a: ")
    symbols = subprocess.run(["arm-none-eabi-nm", "-u", "lib/libmodel.a"], capture_output=True, text=True, check=True)
    undefined = {line.split()[1] for line in symbols.stdout.splitlines() if line.strip().startswith("U ")}
    outside = {name for name in undefined if not name.startswith("model_")}
    assert outside <= {"memcpy", "memset", "__aeabi_lmul", "__aeabi_memcpy", "__aeabi_ldivmod"}
    told = run("flash", "lib", "--dry-run")
    assert told.code == 2
    assert "there is nothing to flash" in told.err


# ---------------------------------------------------------------------------------------------------------- names

HOSTILE = (
    '$(shell touch injected)\n\tall: ; touch injected" # ]] ) ${X} `touch injected` ; touch injected\n*/ <script> | \\'
)


def hostile() -> Graph:
    """A model that is called what no build file wants to read."""
    graph = classifier()
    tensors = {f"{HOSTILE}{name}": replaced(t, name=f"{HOSTILE}{name}") for name, t in graph.tensors.items()}
    layers = tuple(
        replaced(
            layer,
            name=f"{HOSTILE}{layer.name}",
            inputs=tuple(f"{HOSTILE}{name}" for name in layer.inputs),
            output=f"{HOSTILE}{layer.output}",
        )
        for layer in graph.layers
    )
    return Graph(
        name=HOSTILE,
        tensors=tensors,
        layers=layers,
        input=f"{HOSTILE}{graph.input}",
        outputs=tuple(f"{HOSTILE}{name}" for name in graph.outputs),
        constants={f"{HOSTILE}{name}": values for name, values in graph.constants.items()},
        labels=(HOSTILE.replace("\n", " "), "b", "c"),
    )


@pytest.fixture(scope="module")
def hostile_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "firmware"
    write_firmware(hostile(), load_board("host"), Options(), folder)
    return folder


def test_names_of_a_model_do_nothing_in_make(hostile_folder: Path) -> None:
    subprocess.run(["make"], cwd=hostile_folder, check=True, capture_output=True)
    assert (hostile_folder / "firmware.elf").is_file()
    assert not list(hostile_folder.parent.rglob("injected"))


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake")
def test_names_of_a_model_do_nothing_in_cmake(hostile_folder: Path, tmp_path: Path) -> None:
    subprocess.run(["cmake", "-S", hostile_folder, "-B", tmp_path / "b"], check=True, capture_output=True)
    assert not [*hostile_folder.parent.rglob("injected"), *tmp_path.rglob("injected")]


def test_names_of_a_model_do_nothing_in_the_readme(hostile_folder: Path) -> None:
    text = (hostile_folder / "README.md").read_text()
    for piece in ("<script>", "`touch", "$(", "\ttouch", "|\\"):
        assert piece not in text
    title = text.splitlines()[0]
    assert re.fullmatch(r"# [A-Za-z0-9 _.:;,()/-]+", title), title


def test_names_of_a_model_come_back_from_plan_json_as_they_were(hostile_folder: Path) -> None:
    plan = json.loads((hostile_folder / "plan.json").read_text())
    assert plan["model"]["name"] == HOSTILE
    assert [layer["name"] for layer in plan["layers"]] == [layer.name for layer in hostile().layers]
    build = json.dumps(plan["build"])
    assert "touch" not in build
    assert all(re.fullmatch(r"[A-Za-z0-9_./]+", name) for name in plan["files"])


# ------------------------------------------------------------------------------------------------ what build checks


def test_a_frame_above_what_its_kernel_declares_is_an_error_and_leaves_no_firmware(tmp_path: Path) -> None:
    folder = copy(firmware("qemu-m3"), tmp_path / "deep")
    file = folder / "model_layers.c"
    text, count = re.subn(
        r"(TINYMBN_LAYER model_layer_13_average\([^{]*{\n)",
        r"\1    volatile char room[600];\n    room[9] = 1;\n",
        file.read_text(),
    )
    assert count == 1
    file.write_text(text)
    with pytest.raises(ToolError, match=r"^model_layer_13_average: takes \d+ bytes of stack; its kernel declares \d+$"):
        build_folder(folder)
    assert not list(folder.glob("*.elf"))


def test_a_path_above_what_is_reserved_is_an_error(tmp_path: Path) -> None:
    folder = copy(firmware("qemu-m3"), tmp_path / "deep")
    replace(
        folder / "main.c",
        "int main(void)\n{\n",
        "int main(void)\n{\n    volatile char room[2000];\n    room[9] = 1;\n",
    )
    with pytest.raises(ToolError, match=r"takes up to \d+ bytes of stack; the plan reserves \d+$"):
        build_folder(folder)


def test_a_stack_without_a_bound_is_an_error(tmp_path: Path) -> None:
    folder = copy(firmware("qemu-m3"), tmp_path / "deep")
    replace(
        folder / "main.c",
        "int main(void)\n{\n",
        "int main(void)\n{\n    volatile char room[board_cycles() + 1];\n    room[0] = 1;\n",
    )
    with pytest.raises(ToolError, match=r"main\.c:\d+:\d+:main: its stack has no bound"):
        build_folder(folder)


@pytest.mark.parametrize("compiler", ["gcc", pytest.param("zig", marks=needs_zig)])
def test_a_firmware_larger_than_its_memory_is_a_plan_error(compiler: CompilerName, tmp_path: Path) -> None:
    folder = copy(firmware("qemu-m0"), tmp_path / "large")
    replace(folder / "main.c", "int main(void)\n{\n", "char room[20000];\n\nint main(void)\n{\n    room[9] = 1;\n")
    with pytest.raises(PlanError, match=r"firmware\.elf: ram: does not fit by [\d,]+ bytes; see tinymbn plan"):
        build_folder(folder, compiler=compiler)


def test_a_warning_of_the_compiler_is_passed_on(tmp_path: Path) -> None:
    folder = copy(firmware("qemu-m3"), tmp_path / "sloppy")
    replace(folder / "main.c", "int main(void)\n{\n", "int main(void)\n{\n    int forgotten;\n")
    assert "unused variable" in build_folder(folder).warnings


def test_usage_counts_what_lies_in_ram_and_its_image_in_flash() -> None:
    flash, ram = Region("flash", 0x08000000, 0x1000, "flash"), Region("ram", 0x20000000, 0x800, "ram")
    sections = (
        Section(".text", 0x08000000, 0x100, 0x08000000),
        Section(".data", 0x20000000, 0x10, 0x08000100),
        Section(".bss", 0x20000010, 0x20, None),
    )
    assert [(u.name, u.used, u.size) for u in memory_usage(sections, (flash, ram))] == [
        ("flash", 0x110, 0x1000),
        ("ram", 0x30, 0x800),
    ]


def test_an_address_is_told_by_its_function() -> None:
    elf = firmware("qemu-m3") / "firmware.elf"
    table = subprocess.run(["arm-none-eabi-nm", "-S", elf], capture_output=True, text=True, check=True).stdout
    line = next(line for line in table.splitlines() if line.endswith(" model_run"))
    begin, size = (int(number, 16) for number in line.split()[:2])
    assert function_at(elf, begin & ~1) == function_at(elf, (begin & ~1) + size - 2) == "model_run"
    assert function_at(elf, 0x60000000) is None
