"""plan, codegen, build, verify and profile as a user meets them: what they leave, what they say, how they exit."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import Outcome, Run
from tests.firmwares import DIGITS, copy, firmware, make, model, replace
from tests.graphs import classifier
from tests.shared import CHECKOUT, SHARED, needs_shared
from tinymbn.board import known_boards
from tinymbn.model_file import save_model
from tinymbn.paths import BOARDS
from tinymbn.ports import Port
from tinymbn_codegen.options import Options

NOTHING_ANSWERS_S = 4.5  # of 5; the rest is for the start of Python
TICKS_APART = 64  # instructions: each row of a layer is begun and ended by a look at the counter


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def told(done: Outcome, code: int, *texts: str) -> None:
    """One line on standard error with the exit code of its kind."""
    assert done.code == code, done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("tinymbn: ")]
    for text in texts:
        assert text in line, line


# ------------------------------------------------------------------------------------------------------ codegen


def test_codegen_twice_gives_the_same_bytes(run: Run) -> None:
    assert run("codegen", "--board", "stm32f7", "-o", "one").code == 0
    assert run("codegen", "--board", "stm32f7", "-o", "two").code == 0
    assert run("codegen", "--board", "stm32f7", "-o", "two").code == 0
    files = tree(Path("one"))
    assert files == tree(Path("two"))
    assert set(json.loads(files["plan.json"])["files"]) == set(files)


def test_codegen_says_where_and_what_comes_next(run: Run) -> None:
    done = run("codegen", "--board", "qemu-m4")
    count = len(tree(Path("firmware-qemu-m4")))
    assert done.out == f"firmware-qemu-m4: {count} files\nnext: tinymbn build firmware-qemu-m4\n"
    assert done.err == "model: digits.npz, which ships with tinymbn\n"


def test_another_name_leaves_no_stale_files_and_keeps_the_users_own(run: Run) -> None:
    folder = Path("firmware-qemu-m4")
    run("codegen", "--board", "qemu-m4")
    (folder / "notes.txt").write_text("mine")
    (folder / "link" / "mine.c").write_text("int mine;")
    assert run("codegen", "--board", "qemu-m4", "--name", "digit", "-q").code == 0
    files = tree(folder)
    assert not [name for name in files if name.startswith("model") and name != "model_link.c"]
    assert {"digit.c", "digit_weights.c", "notes.txt", "link/mine.c"} <= set(files)
    assert files["notes.txt"] == b"mine"


@pytest.mark.parametrize("content", ["foreign.c", "plan.json"])
def test_a_folder_of_somebody_elses_is_refused_and_left_alone(content: str, run: Run) -> None:
    Path("taken").mkdir()
    (Path("taken") / content).write_text('{"mine": 1}')
    told(run("codegen", "--board", "host", "-o", "taken"), 2, "taken: holds files that tinymbn codegen did not make")
    assert tree(Path("taken")) == {content: b'{"mine": 1}'}


def test_files_outside_that_a_plan_names_stay(run: Run) -> None:
    Path("outside.txt").write_text("mine")
    run("codegen", "--board", "host", "-o", "out", "-q")
    plan = json.loads(Path("out/plan.json").read_text())
    plan["files"] += ["../outside.txt", str(Path("outside.txt").resolve())]
    Path("out/plan.json").write_text(json.dumps(plan))
    assert run("codegen", "--board", "host", "-o", "out", "-q").code == 0
    assert Path("outside.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (("--board", "stm32f8"), ('no board "stm32f8"', "known boards", "stm32f7")),
        (("--board", "host", "--name", "1st"), ('name "1st"',)),
        (("--board", "host", "--name", "a;b"), ('name "a;b"',)),
        (("--board", "host", "--name", "main"), ('name "main"',)),
        (("--board", "host", "--without", "everything"), ('pass "everything"', "fold_padding")),
        ((), ("--board is missing", "stm32f7")),
    ],
)
def test_what_does_not_exist_is_exit_code_2(arguments: tuple[str, ...], texts: tuple[str, ...], run: Run) -> None:
    told(run("codegen", *arguments, "-o", "out"), 2, *texts)
    assert not Path("out").exists()


@needs_shared
def test_what_does_not_fit_is_exit_code_4_and_names_what_would(run: Run) -> None:
    done = run("codegen", SHARED / "models" / "person_detect.tflite", "--board", "qemu-m0", "-o", "out")
    told(done, 4, "on qemu-m0", "does not fit by ", "largest that would: ", " of its channels at ")
    assert not Path("out").exists()


# -------------------------------------------------------------------------------------------------------- build


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, and no zig from PyPI."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("tinymbn.toolchain.importlib.util.find_spec", lambda name: None)
    return folder


def test_no_compiler_is_exit_code_5_and_says_how_to_get_one(run: Run, tools: Path) -> None:
    run("codegen", "--board", "stm32f7", "-q")
    texts = ("arm-none-eabi-gcc: not installed", "apt-get install gcc-arm-none-eabi", "pip install ziglang")
    told(run("build"), 5, *texts)
    told(run("build", "--compiler", "zig"), 5, "zig: not installed", "pip install ziglang")


def test_an_error_in_an_edited_file_is_exit_code_5_with_its_place(run: Run, tmp_path: Path) -> None:
    folder = copy(firmware("qemu-m3"), tmp_path / "edited")
    replace(folder / "main.c", "int main(void)\n{", "int main(void)\n{\n    undeclared++;")
    told(run("build", folder), 5, "main.c: arm-none-eabi-gcc failed: main.c:", "undeclared")
    assert not list(folder.glob("*.elf"))
    told(run("verify", "--firmware", folder), 5, ".elf files: none; expected one; tinymbn build")


def test_two_elf_files_are_exit_code_5(run: Run, tmp_path: Path) -> None:
    folder = copy(firmware("qemu-m3"), tmp_path / "two")
    shutil.copy(folder / "firmware.elf", folder / "other.elf")
    told(run("verify", "--firmware", folder), 5, ".elf files: firmware.elf, other.elf; expected one")


def test_what_is_no_elf_is_exit_code_5(run: Run, tmp_path: Path) -> None:
    folder = copy(firmware("qemu-m3"), tmp_path / "garbage")
    (folder / "firmware.elf").write_bytes(b"garbage" * 100)
    begin = time.monotonic()
    assert run("verify", "--firmware", folder).code in (5, 8)
    assert time.monotonic() - begin < 15


def test_build_takes_the_only_firmware_there_is(run: Run) -> None:
    told(run("build"), 2, "no DIR is given", "none")
    run("codegen", "--board", "host", "-q")
    run("codegen", "--board", "qemu-m4", "-q")
    told(run("build"), 2, "firmware-host, firmware-qemu-m4; name one")
    told(run("build", "nowhere"), 2, "nowhere: no plan.json of tinymbn in it")


def test_build_shows_how_full_the_memories_are(run: Run, tmp_path: Path) -> None:
    folder = copy(firmware("qemu-m0"), tmp_path / "small")
    done = run("build", folder)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].startswith(f"{folder}/firmware.elf: ")
    assert any(line.startswith("ram ") and line.endswith(" of 16,384 bytes") and "[=" in line for line in lines)
    assert lines[-1].startswith("stack: at most ")


# ------------------------------------------------------------------------------------- verify: which firmware it is


def test_the_elf_runs_as_it_lies_there_and_edited_sources_are_no_error(run: Run, tmp_path: Path) -> None:
    folder = copy(firmware("qemu-m3", DIGITS, Options(name="digit", kernels="plain")), tmp_path / "edited")
    (folder / "digit.c").write_text("this is no C")
    (folder / "board" / "board.c").unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = run("verify", "--firmware", folder, "--json")  # neither --board nor the options
    assert done.code == 0, done.err
    assert json.loads(done.out)["options"] == Options(name="digit", kernels="plain").text
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_of_an_elf_that_was_not_built_here_no_compiler_is_told(run: Run, tmp_path: Path) -> None:
    folder = copy(firmware("host"), tmp_path / "firmware")
    assert json.loads(run("verify", "--firmware", folder, "-n", 1, "--json").out)["compiler"].endswith(" -O2")
    replace(folder / "Makefile", "OPTIMISE = -O2", "OPTIMISE = -O1")
    os.utime(folder / "model_layers.c")
    make(folder)
    assert json.loads(run("verify", "--firmware", folder, "-n", 1, "--json").out)["compiler"] == ""


def test_an_elf_alone_will_do(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "alone"
    folder.mkdir()
    shutil.copy(firmware("qemu-m3") / "firmware.elf", folder / "renamed.elf")
    assert run("verify", "--board", "qemu-m3", "--firmware", folder).code == 0
    told(run("verify", "--firmware", folder), 2, "--board is missing")


def test_another_model_is_exit_code_10(run: Run, tmp_path: Path) -> None:
    save_model(classifier(), tmp_path / "tiny.npz")
    done = run("verify", tmp_path / "tiny.npz", "--firmware", firmware("qemu-m3"))
    told(done, 10, "qemu-m3: holds another model", "SHA-256 97a1fd6b21e5a3d4", "flash it, or name the model it holds")


def test_another_boards_folder_is_exit_code_10(run: Run) -> None:
    done = run("verify", "--board", "qemu-m4", "--firmware", firmware("qemu-m3"))
    told(done, 10, 'made for board "qemu-m3"; expected "qemu-m4"')


def test_another_boards_firmware_is_exit_code_10(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "alone"
    folder.mkdir()
    shutil.copy(firmware("qemu-m3") / "firmware.elf", folder)
    # MPS2 with Cortex-M4 runs what was built for MPS2 with Cortex-M3.
    done = run("verify", "--board", "qemu-m4", "--firmware", folder)
    told(done, 10, 'firmware of "qemu-m3" answers; expected "qemu-m4"')


def test_another_generators_version_is_exit_code_10(run: Run, tmp_path: Path) -> None:
    folder = copy(firmware("qemu-m3"), tmp_path / "old")
    file = folder / "model_link.c"
    version = file.read_text().partition('.version = "')[2].partition('"')[0]
    replace(file, f'.version = "{version}"', '.version = "0.0.9"')
    make(folder)
    told(run("verify", "--firmware", folder), 10, "firmware of tinymbn 0.0.9 answers", "generate and flash it again")


def test_another_protocols_version_is_exit_code_10(run: Run, tmp_path: Path) -> None:
    folder = copy(firmware("qemu-m3"), tmp_path / "future")
    text = (folder / "link" / "frame.h").read_text()
    (folder / "link" / "frame.h").write_text(text.replace("FRAME_VERSION = 1", "FRAME_VERSION = 9"))
    assert (folder / "link" / "frame.h").read_text() != text
    make(folder)
    told(run("verify", "--firmware", folder), 10, "version 9 of the protocol")


def test_a_plan_of_another_version_is_told(run: Run, tmp_path: Path) -> None:
    folder = copy(firmware("qemu-m3"), tmp_path / "old")
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(plan | {"tinymbn": "0.0.9"}))
    told(run("build", folder), 5, "of tinymbn 0.0.9; this is ", "run codegen again")


def test_a_damaged_plan_is_told(run: Run, tmp_path: Path) -> None:
    folder = copy(firmware("qemu-m3"), tmp_path / "damaged")
    plan = json.loads((folder / "plan.json").read_text())
    for key in ("build", "memory", "layers"):
        (folder / "plan.json").write_text(json.dumps({k: v for k, v in plan.items() if k != key}))
        told(run("build", folder), 5, "plan.json: damaged", "run codegen again")


# ------------------------------------------------------------------------------------------------ verify: no board


@pytest.fixture
def silent_port() -> Iterator[str]:
    """A port that opens, and on which nobody answers."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("board", ["stm32f7"])
def test_a_port_on_which_nothing_answers_is_exit_code_6_in_under_5_s(board: str, silent_port: str, run: Run) -> None:
    begin = time.monotonic()
    done = run("verify", "--board", board, "--port", silent_port)
    assert time.monotonic() - begin < NOTHING_ANSWERS_S
    told(done, 6, silent_port, "nothing received within", "is a board connected, powered and flashed")


def test_no_board_at_all_is_exit_code_6(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINYMBN_PORT", raising=False)
    monkeypatch.setattr("tinymbn.ports.list_ports", lambda boards=None: ())
    told(run("verify", "--board", "nucleo-f446re"), 6, "no serial port is connected", "--port")
    told(run("verify", "--board", "stm32f7"), 6, "without a board: --emulate")
    told(run("verify", "--board", "stm32f7", "--port", "/dev/ttyNONE"), 6, "/dev/ttyNONE: no such port")


def test_several_boards_are_exit_code_6_with_all_of_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    two = [Port(f"/dev/ttyACM{n}", 0x0483, 0x374B, "STLink", f"S{n}", ("nucleo-f446re",), "") for n in (0, 1)]
    monkeypatch.delenv("TINYMBN_PORT", raising=False)
    monkeypatch.setattr("tinymbn.ports.list_ports", lambda boards=None: tuple(two))
    told(run("verify", "--board", "nucleo-f446re"), 6, "2 ports may be its", "/dev/ttyACM0", "/dev/ttyACM1", "--port")


def test_garbage_on_the_line_is_exit_code_8(run: Run) -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    babbler = subprocess.Popen(["/bin/sh", "-c", "while sleep 0.05; do printf 'U\\377\\017x'; done"], stdout=master)
    try:
        done = run("verify", "--board", "nucleo-f446re", "--port", os.ttyname(slave))
    finally:
        babbler.kill()
        babbler.wait()
        os.close(master)
        os.close(slave)
    told(done, 8, "garbage", "another baud rate")


def test_an_emulated_board_has_no_port_and_a_real_one_no_emulator(run: Run, silent_port: str) -> None:
    told(run("verify", "--board", "qemu-m4", "--port", silent_port), 2, "qemu-m4", "leave out --port")
    told(run("verify", "--board", "pico", "--emulate"), 2, "board pico", "no emulator runs its firmware")


def test_nothing_to_compare_is_exit_code_2(run: Run) -> None:
    told(run("verify", "--board", "host", "-n", 0), 2, "there is nothing to compare")


# -------------------------------------------------------------------------------------------------- interruption


def children_of(pid: int) -> list[int]:
    """Processes that a process has started and that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


@pytest.mark.parametrize("board", ["qemu-m3", "host"])
def test_an_interrupt_ends_verify_and_its_emulator(board: str, tmp_path: Path) -> None:
    folder = firmware(board)
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'codegen'}"}
    command = [sys.executable, "-m", "tinymbn", "verify", "--firmware", str(folder), "-n", "100000"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 30
    while not (emulators := children_of(process.pid)) and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert emulators
    assert process.returncode == 130
    assert err.splitlines()[-1] == "tinymbn: interrupted"
    assert not [pid for pid in emulators if Path(f"/proc/{pid}").exists()]


# -------------------------------------------------------------------------------------------- plan, profile, boards


def test_plan_shows_ram_flash_and_every_layer(run: Run) -> None:
    values = json.loads(run("plan", "--board", "stm32f7", "--json").out)
    assert values["fits"] is True
    assert values["missing_bytes"] == 0
    assert len(values["layers"]) == 16
    parts = {part["name"]: part for part in values["parts"]}
    assert values["activation_bytes"] == parts["activations"]["bytes"] == 3076
    assert values["ram_bytes"] + values["flash_bytes"] == sum(part["bytes"] for part in values["parts"])
    text = run("plan", "--board", "stm32f7").out
    assert "block4/pointwise" in text
    assert f"{parts['weights']['bytes']:,}" in text


@pytest.mark.parametrize("board", ["qemu-m3", "stm32f7"])
def test_profile_counts_instructions_in_an_emulator_and_says_so(board: str, run: Run) -> None:
    done = run("profile", "--firmware", firmware(board), "--emulate", "--json")
    assert done.code == 0, done.err
    values = json.loads(done.out)
    assert values["unit"] == "instructions"
    assert values["seconds"] is None
    assert len(values["layers"]) == 16
    layers = sum(layer["count"] for layer in values["layers"])
    assert 0.9 < layers / values["total"] < 1.1
    macs = sum(layer["macs"] for layer in values["layers"])
    assert macs == model().macs
    assert 1 < values["total"] / macs < 100


def test_profile_twice_counts_the_same_but_for_a_tick_of_the_boards_counter(run: Run) -> None:
    def counts() -> list[int]:
        values = json.loads(run("profile", "--firmware", firmware("qemu-m3"), "--json").out)
        return [values["total"], *(layer["count"] for layer in values["layers"])]

    for first, second in zip(counts(), counts(), strict=True):
        assert abs(first - second) <= TICKS_APART


def test_boards_lists_every_board_with_what_it_was_tested_on(run: Run) -> None:
    done = run("boards", "--json")
    assert done.code == 0
    values = json.loads(done.out)["boards"]
    assert [board["name"] for board in values] == [board.name for board in known_boards()]
    assert all(board["tested"] for board in values)
    real = [board for board in values if board["emulator"] is None]
    assert all("not run on hardware" in board["tested"] for board in real)


@pytest.fixture
def my_board(tmp_path: Path) -> Path:
    """The folder of a board that does not ship, with a blank in its path."""
    folder = tmp_path / "my boards" / "my-f446"
    shutil.copytree(BOARDS / "nucleo-f446re", folder)
    toml = folder / "board.toml"
    toml.write_text(toml.read_text().replace('name = "nucleo-f446re"', 'name = "my-f446"'))
    return folder


def test_a_board_of_ones_own_is_flashed_by_its_folder(run: Run, my_board: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert run("codegen", "--board", my_board, "-o", made).code == 0
    done = run("flash", made, "--board", my_board, "--dry-run")
    assert done.code == 0
    assert "firmware.elf" in done.out
    lost = run("flash", made, "--dry-run")
    assert lost.code == 2
    assert 'made for "my-f446"' in lost.err
    assert "the folder with --board" in lost.err


def test_a_frame_length_that_no_link_has_is_refused(run: Run, my_board: Path) -> None:
    toml = my_board / "board.toml"
    toml.write_text(re.sub(r"rx_max = \d+", "rx_max = 64", toml.read_text()))
    done = run("plan", "--board", my_board)
    assert done.code == 2
    assert "rx_max 64; expected 128 to 2048" in done.err


def test_memories_of_one_name_are_refused(run: Run, my_board: Path) -> None:
    toml = my_board / "board.toml"
    toml.write_text(re.sub(r'name = "(flash|ram\w*)"', 'name = "ram"', toml.read_text()))
    done = run("plan", "--board", my_board)
    assert done.code == 2
    assert "memory 'ram'" in done.err


def test_generating_again_takes_away_what_was_built_before(run: Run, tmp_path: Path) -> None:
    made = tmp_path / "made"
    run("codegen", "--board", "nucleo-f446re", "-o", made)
    (made / "firmware.elf").write_bytes(b"of the model before")
    (made / "notes.txt").write_text("mine")
    assert run("codegen", "--board", "nucleo-f446re", "-o", made, "--kernels", "plain").code == 0
    assert not (made / "firmware.elf").exists()
    assert (made / "notes.txt").exists()


def test_deploy_looks_at_the_pictures_before_anything_is_made(run: Run, tmp_path: Path) -> None:
    made = tmp_path / "made"
    done = run("deploy", tmp_path / "nowhere.png", "--board", "nucleo-f446re", "-o", made)
    assert done.code == 3
    assert not made.exists()


def test_an_interrupt_within_exec_is_an_exit_code_too(tmp_path: Path) -> None:
    """Python itself would end by the signal, though the interrupt was caught."""
    program = """
from tinymbn import cli
@cli.cli.command()
def interrupted():
    exec("import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)")
cli.main(["interrupted"])
"""
    (tmp_path / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'codegen'}:{tmp_path}"}
    command = [sys.executable, "-m", "program"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "tinymbn: interrupted\n")
