"""Emulated boards from outside: ports, resets, ends, counting, and what is said when a tool is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import serial

from tests.emulator_firmware import build_echo, needs_gcc, needs_qemu
from tinymbn.board import load_board
from tinymbn.emulators import Machine, start
from tinymbn.emulators.qemu import QemuMachine
from tinymbn.errors import BoardError, ToolError

FIRST_ANSWER_S = 10  # QEMU looks for a reader once a second
NAMES = ("qemu-m0", "qemu-m3", "netduinoplus2", "stm32f7", "host")


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: build_echo(load_board(name), tmp_path_factory.mktemp(name)) for name in NAMES}


def open_line(machine: Machine) -> serial.Serial:
    return serial.Serial(machine.port, 115200, timeout=FIRST_ANSWER_S)


def child_pid(machine: Machine) -> int:
    pid = machine.pid
    assert pid is not None
    return pid


def wait_for_end(machine: Machine) -> None:
    for _ in range(200):  # the line hangs up a moment before the process is gone
        if not machine.alive():
            return
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@needs_gcc
@needs_qemu
@pytest.mark.parametrize("name", NAMES)
def test_a_board_answers_also_after_a_reset_and_on_a_port_opened_again(firmware: dict[str, Path], name: str) -> None:
    with start(load_board(name), firmware[name]) as machine:
        with open_line(machine) as line:
            machine.release()
            assert line.read(6) == b"hello\n"  # nothing the board says at its start is lost
            line.write(b"a")
            assert line.read(1) == b"b"
            machine.reset()
            assert line.read(6) == b"hello\n"
            line.write(b"c")
            assert line.read(1) == b"d"
        with open_line(machine) as line:
            line.write(b"0")
            assert line.read(1) == b"1"
        assert machine.alive()
        assert machine.findings() == ()
        pid = child_pid(machine)
    assert not is_running(pid)
    assert not machine.alive()


@needs_gcc
@needs_qemu
@pytest.mark.parametrize("name", ["qemu-m3", "stm32f7"])
def test_instructions_are_counted_to_a_few(firmware: dict[str, Path], name: str) -> None:
    board = load_board(name)
    with start(board, firmware[name], icount_shift=6) as machine, open_line(machine) as line:
        machine.release()
        assert line.read(6) == b"hello\n"
        assert machine.counts_instructions
        counts = []
        for _ in range(2):
            line.write(b"t")
            counts.append(machine.instructions(int.from_bytes(line.read(4), "little"), board.counter.hz))
    assert all(1_000_000 <= count <= 1_000_020 for count in counts)


@needs_gcc
@needs_qemu
@pytest.mark.parametrize("name", ["qemu-m3", "host"])
def test_a_machine_that_does_not_count_says_so(firmware: dict[str, Path], name: str) -> None:
    with start(load_board(name), firmware[name]) as machine:
        assert not machine.counts_instructions
        with pytest.raises(ValueError, match="instructions"):
            machine.instructions(1, 1000)


@needs_gcc
@needs_qemu
@pytest.mark.parametrize("name", ["qemu-m3", "stm32f7", "host"])
def test_a_killed_emulator_hangs_up_and_says_why(firmware: dict[str, Path], name: str) -> None:
    with start(load_board(name), firmware[name]) as machine, open_line(machine) as line:
        machine.release()
        assert line.read(6) == b"hello\n"
        os.kill(child_pid(machine), signal.SIGKILL)
        with pytest.raises(serial.SerialException):
            line.read(1)
        wait_for_end(machine)
        assert "SIGKILL" in (machine.exit_reason() or "")
        if name != "host":
            with pytest.raises(ToolError, match="SIGKILL"):
                machine.reset()


@needs_gcc
@needs_qemu
def test_a_core_that_locks_up_is_told_from_one_that_is_silent(tmp_path: Path) -> None:
    handler = "_Noreturn void board_fault_record(const uint32_t *frame, uint32_t exc_return)\n{"
    changes = {"board/startup.c": (handler, f"{handler}\n*(volatile uint32_t *)0xA0000000u = 0;")}
    for name in ("qemu-m0", "stm32f7"):
        board = load_board(name)
        with start(board, build_echo(board, tmp_path / name, changes)) as machine, open_line(machine) as line:
            machine.release()
            assert line.read(6) == b"hello\n"
            line.write(b"x")
            with pytest.raises(serial.SerialException):
                line.read(1)
            wait_for_end(machine)
            assert "lock" in (machine.exit_reason() or "").lower()


@needs_gcc
@pytest.mark.parametrize("name", ["stm32f7", "host"])
def test_sigkill_of_the_parent_leaves_no_emulator(firmware: dict[str, Path], name: str) -> None:
    script = f"""
import os, signal
from pathlib import Path
from tinymbn.board import load_board
from tinymbn.emulators import start
machine = start(load_board({name!r}), Path({os.fspath(firmware[name])!r}))
machine.release()
print(machine.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    for _ in range(200):
        if not is_running(pid):
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} is left over")


@needs_gcc
@needs_qemu
def test_an_exception_in_the_with_block_leaves_no_emulator(firmware: dict[str, Path]) -> None:
    pids = []

    def interrupted(name: str) -> None:
        with start(load_board(name), firmware[name]) as machine:
            machine.release()
            pids.append(child_pid(machine))
            raise KeyboardInterrupt

    for name in ("qemu-m3", "stm32f7", "host"):
        with pytest.raises(KeyboardInterrupt):
            interrupted(name)
    assert len(pids) == 3
    assert not any(is_running(pid) for pid in pids)


@needs_gcc
@needs_qemu
def test_qemu_gets_the_arguments_of_the_environment(
    firmware: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "a log.txt"
    monkeypatch.setenv("TINYMBN_QEMU_ARGS", f"-d in_asm -D '{log}'")
    with start(load_board("qemu-m3"), firmware["qemu-m3"]) as machine, open_line(machine) as line:
        machine.release()
        assert line.read(6) == b"hello\n"
    assert "cpsid" in log.read_text()  # it was written out: QEMU was asked to end, and ended by itself
    monkeypatch.setenv("TINYMBN_QEMU_ARGS", "-no-such-option")
    with pytest.raises(ToolError, match="no-such-option"):
        start(load_board("qemu-m3"), firmware["qemu-m3"])
    monkeypatch.setenv("TINYMBN_QEMU_ARGS", "'")
    with pytest.raises(ToolError, match="TINYMBN_QEMU_ARGS"):
        start(load_board("qemu-m3"), firmware["qemu-m3"])


@needs_gcc
def test_a_missing_emulator_names_its_package(firmware: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolError, match=r"apt-get install qemu-system-arm"):
        start(load_board("qemu-m3"), firmware["qemu-m3"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"pip install tinymbn\[emulator\]"):
        start(load_board("stm32f7"), firmware["stm32f7"])


def test_a_board_without_an_emulator_says_so(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="no emulator"):
        start(load_board("nucleo-h743zi"), tmp_path / "any.elf")


@needs_qemu
def test_a_machine_that_qemu_does_not_know_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "fw.bin").write_bytes(bytes(64))
    with pytest.raises(ToolError, match="unsupported machine type"):
        QemuMachine("mps9-an999", tmp_path / "fw.bin")


def test_firmware_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no such file"):
        start(load_board("host"), tmp_path / "none")
    text = tmp_path / "text"
    text.write_text("not a program")
    with pytest.raises(ToolError, match="not a program"):
        start(load_board("host"), text)
    text.chmod(0o755)
    with start(load_board("host"), text) as machine, pytest.raises(ToolError, match="cannot be started"):
        machine.release()
    with pytest.raises(ToolError, match="no vector table"):
        start(load_board("stm32f7"), text)


@needs_gcc
def test_firmware_linked_elsewhere_is_refused_by_the_virtual_board(firmware: dict[str, Path]) -> None:
    with pytest.raises(ToolError, match="outside the flash"):
        start(load_board("stm32f7"), firmware["qemu-m3"])


@needs_gcc
def test_a_raw_image_of_the_flash_runs_as_well(firmware: dict[str, Path], tmp_path: Path) -> None:
    image = tmp_path / "fw.bin"
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", firmware["stm32f7"], image], check=True)
    with start(load_board("stm32f7"), image) as machine, open_line(machine) as line:
        machine.release()
        assert line.read(6) == b"hello\n"


def test_a_sanitizers_report_is_the_reason(tmp_path: Path) -> None:
    program = tmp_path / "board"
    source = "int main(int n, char **v) { volatile int most = 0x7FFFFFFF; (void)v; return most + n > 0; }"
    command = ["cc", "-x", "c", "-", "-g", "-fsanitize=undefined", "-o", os.fspath(program)]
    subprocess.run(command, input=source.encode(), check=True)
    with start(load_board("host"), program) as machine, open_line(machine) as line:
        machine.release()
        with pytest.raises(serial.SerialException):
            line.read(1)
        wait_for_end(machine)
        assert "signed integer overflow" in (machine.exit_reason() or "")
