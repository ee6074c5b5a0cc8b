"""Every board's files build without a warning, and on every QEMU machine they do what board.h says."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import serial

from tinymbn.board import Board, known_boards, load_board
from tinymbn.paths import BOARDS
from tinymbn_codegen.board_files import LINK_FLAGS, board_files, board_sources

WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Wpedantic", "-Werror")
GCC = shutil.which("arm-none-eabi-gcc")
QEMU = shutil.which("qemu-system-arm")
CHIPS = [board.name for board in known_boards() if not board.is_host]
EMULATED = [board.name for board in known_boards() if board.emulator and board.emulator.kind == "qemu"]
STACK_BYTES = 2048

needs_gcc = pytest.mark.skipif(GCC is None, reason="no arm-none-eabi-gcc")
needs_qemu = pytest.mark.skipif(GCC is None or QEMU is None, reason="no arm-none-eabi-gcc or no qemu-system-arm")

# One byte asks, a fixed number of bytes answers.
ECHO = r"""
#include "board.h"
#include "board_memory.h"

#if defined(__has_attribute)
#if __has_attribute(noinline)
#define NOINLINE __attribute__((noinline))
#endif
#endif

static uint32_t waits;
static uint32_t initialised = 0x12345678u;
__attribute__((section(".tinymbn_arena"))) static uint8_t arena[256];
extern const uint8_t weights[4];
__attribute__((section(".tinymbn_weights"))) const uint8_t weights[4] = {1, 2, 3, 4};

static uint8_t next(void)
{
    for (;;) {
        const int byte = board_read();
        if (byte >= 0) {
            return (uint8_t)byte;
        }
        waits++;
        board_wait();
    }
}

static void put(uint32_t value)
{
    uint8_t bytes[4];
    for (uint32_t i = 0; i < 4; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    board_write(bytes, 4);
}

NOINLINE static uint32_t sink(volatile uint8_t *bytes)
{
    return bytes[0];
}

NOINLINE static uint32_t deep(uint32_t depth)
{
    volatile uint8_t room[64];
    memset((void *)(uintptr_t)room, (int)depth, sizeof room);
    const uint32_t below = depth == 0 ? 0 : deep(depth - 1);
    return below + sink(room);
}

static void fault_report(void)
{
    const board_fault *const fault = board_fault_read();
    const board_fault none = {0, 0, 0, 0, 0, 0, 0, 0, 0};
    const board_fault *const shown = fault != NULL ? fault : &none;
    put(shown->count);
    put(shown->pc);
    put(shown->psr);
    put(shown->cfsr);
    put(shown->bfar);
}

int main(void)
{
    board_init();
    for (;;) {
        switch (next()) {
        case 'E':
            for (uint32_t bytes = (uint32_t)next() + 1, i = 0; i < bytes; i++) {
                arena[i % sizeof arena] = next();
                board_write(&arena[i % sizeof arena], 1);
            }
            break;
        case 'T':
            put(board_status());
            put(board_overruns());
            put(initialised);
            put(((const volatile uint8_t *)weights)[3]);
            initialised++;
            break;
        case 'C':
            put(board_cycles());
            put(board_milliseconds());
            put(waits);
            break;
        case 'S':
            put(board_stack_bytes());
            put(board_stack_used());
            break;
        case 'D': /* twelve frames deep */
            put(deep(12));
            break;
        case 'B': {
            uint32_t baud = 0;
            for (uint32_t i = 0; i < 4; i++) {
                baud |= (uint32_t)next() << (8 * i);
            }
            put(board_set_baud(baud) ? 1 : 0);
            break;
        }
        case 'F':
            fault_report();
            break;
        case 'X':
            board_fault_clear();
            put(0);
            break;
        case 'Z': /* nothing lies there on any board */
            put(*(volatile uint32_t *)(uintptr_t)FAULT_ADDRESS);
            break;
        case 'O': /* no stack is as deep */
            put(deep(2000));
            break;
        case 'R':
            board_reset();
        default:
            break;
        }
    }
}
"""


def build_echo(board: Board, folder: Path, *flags: str) -> Path:
    """The ELF of the echo firmware for a board, built as generated firmware is."""
    assert GCC is not None
    for name, text in board_files(board, stack_bytes=STACK_BYTES).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "main.c").write_text(ECHO.replace("FAULT_ADDRESS", "0x3F000000u"))
    elf = folder / "echo.elf"
    command = [GCC, *board.gcc_flags, *(flags or ("-O2",)), *WARNINGS, "-ffunction-sections", "-fdata-sections", "-g"]
    command += ["-Iboard", "main.c", *board_sources(board), *LINK_FLAGS, "-lgcc", "-o", elf.name]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return elf


class Qmp:
    """QEMU's machine protocol: one command, one answer."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(5)
        for tries_left in reversed(range(100)):  # the file is there before anyone listens
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                if tries_left == 0:
                    raise
                time.sleep(0.02)
        self.lines = self.socket.makefile("rw")
        self.lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str) -> object:
        self.lines.write(json.dumps({"execute": command}) + "\n")
        self.lines.flush()
        while True:
            answer = json.loads(self.lines.readline())
            if "event" not in answer:
                assert "return" in answer, answer
                return answer["return"]


@dataclass
class Machine:
    board: Board
    line: serial.Serial
    process: subprocess.Popen[bytes]

    def ask(self, request: bytes, words: int) -> tuple[int, ...]:
        self.line.write(request)
        answer = self.line.read(4 * words)
        assert len(answer) == 4 * words, (request, answer)
        return struct.unpack(f"<{words}I", answer)

    def echo(self, data: bytes) -> bytes:
        self.line.write(b"E" + bytes([len(data) - 1]) + data)
        return bytes(self.line.read(len(data)))

    def cpu_s(self) -> float:
        """Processor time that the emulator has used."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / 100


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The echo firmware of a board, built once."""
    return cache(lambda name: build_echo(load_board(name), tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module")
def machines(image: Callable[[str], Path]) -> Iterator[dict[str, Machine]]:
    """All of them at once, because QEMU takes a second until it looks for what a new reader sends."""
    with ExitStack() as running:
        started = {name: running.enter_context(start(name, image(name))) for name in EMULATED}
        for machine in started.values():
            assert machine.echo(b"?") == b"?"
        yield started


@pytest.fixture(params=EMULATED)
def machine(request: pytest.FixtureRequest, machines: dict[str, Machine]) -> Machine:
    return machines[request.param]


@contextmanager
def start(name: str, elf: Path) -> Iterator[Machine]:
    board = load_board(name)
    assert board.emulator is not None
    assert board.emulator.machine is not None
    assert QEMU is not None
    qmp_path = elf.with_name("qmp")
    command = [QEMU, "-M", board.emulator.machine, "-nodefaults", "-display", "none", "-monitor", "none", "-S"]
    command += ["-chardev", "pty,id=ser0", "-serial", "chardev:ser0", "-kernel", str(elf)]
    command += ["-qmp", f"unix:{qmp_path},server=on,wait=off"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        qmp = Qmp(qmp_path)
        ports = qmp.ask("query-chardev")
        assert isinstance(ports, list)
        port = next(p["filename"].removeprefix("pty:") for p in ports if p["label"] == "ser0")
        with serial.Serial(port, board.baud, timeout=4) as line:
            qmp.ask("cont")
            yield Machine(board, line, process)
        qmp.ask("quit")
        qmp.lines.close()
        qmp.socket.close()
        process.wait(5)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(5)


@needs_gcc
@pytest.mark.parametrize("name", CHIPS)
def test_board_files_build_without_a_warning(name: str, image: Callable[[str], Path]) -> None:
    assert image(name).is_file()


@needs_qemu
def test_bytes_come_back(machine: Machine) -> None:
    data = bytes(range(256))
    assert machine.echo(data) == data
    assert machine.echo(data[::-1]) == data[::-1]


@needs_qemu
def test_bring_up_is_nominal_and_data_are_in_place(machine: Machine) -> None:
    status, overruns, initialised, weight = machine.ask(b"T", 4)
    assert (status, overruns, initialised, weight) == (0, 0, 0x12345678, 4)
    machine.ask(b"R", 0)
    time.sleep(0.1)
    assert machine.ask(b"T", 4)[2] == 0x12345678


@needs_qemu
def test_the_counter_keeps_time(machine: Machine) -> None:
    machine.ask(b"C", 3)
    before, cycles, milliseconds = time.monotonic(), *machine.ask(b"C", 3)[:2]
    time.sleep(0.3)
    cycles_after, milliseconds_after, _ = machine.ask(b"C", 3)
    passed_s = time.monotonic() - before
    assert ((cycles_after - cycles) & 0xFFFFFFFF) / machine.board.counter.hz == pytest.approx(passed_s, abs=0.1)
    assert (milliseconds_after - milliseconds) / 1000 == pytest.approx(passed_s, abs=0.1)


@needs_qemu
def test_an_idle_board_sleeps(machine: Machine) -> None:
    waits, cpu_s = machine.ask(b"C", 3)[2], machine.cpu_s()
    time.sleep(0.5)
    assert machine.cpu_s() - cpu_s < 0.15
    assert machine.ask(b"C", 3)[2] - waits < 40  # SysTick's 24 bits at 168 MHz are 0.1 s


@needs_qemu
def test_the_stack_shows_how_deep_it_was(machine: Machine) -> None:
    size, used = machine.ask(b"S", 2)
    assert size == STACK_BYTES
    assert 0 < used < 600
    machine.ask(b"D", 1)
    assert 12 * 64 + used < machine.ask(b"S", 2)[1] < STACK_BYTES


@needs_qemu
def test_a_baud_rate_is_taken_or_refused(machine: Machine) -> None:
    assert machine.ask(b"B" + struct.pack("<I", 230400), 1) == (1,)
    assert machine.echo(b"faster") == b"faster"
    for baud in (0, 1, 50_000_000):
        assert machine.ask(b"B" + struct.pack("<I", baud), 1) == (0,)
    assert machine.ask(b"B" + struct.pack("<I", machine.board.baud), 1) == (1,)


@needs_qemu
def test_a_fault_leaves_a_record_that_survives_the_reset(machine: Machine) -> None:
    machine.ask(b"X", 1)
    assert machine.ask(b"F", 5)[0] == 0
    for count in (1, 2):
        machine.ask(b"Z", 0)
        time.sleep(0.2)
        seen, pc, psr, cfsr, bfar = machine.ask(b"F", 5)
        assert seen == count
        code = machine.board.region("code")
        assert code.base <= pc < code.end
        assert psr & (1 << 24)  # Thumb
        if machine.board.core != "cortex-m0":
            assert (cfsr, bfar) == (0x8200, 0x3F000000)  # PRECISERR, BFARVALID
    machine.ask(b"X", 1)
    assert machine.ask(b"F", 5)[0] == 0


@needs_qemu
@pytest.mark.parametrize("name", ["qemu-m3", "qemu-m4", "qemu-m7", "qemu-m33", "qemu-m55"])
def test_a_board_whose_image_is_in_ram_restarts_without_a_reset(name: str, tmp_path: Path) -> None:
    """From a request, from faults time and again, and from a stack that has overflowed."""
    folder = tmp_path / name
    shutil.copytree(BOARDS / name, folder)
    file = folder / "board.toml"
    file.write_text(file.read_text().replace('idle = "wfi"', 'idle = "wfi"\nreset = "restart"'))
    elf = build_echo(load_board(str(folder)), tmp_path / "built")
    with start(str(folder), elf) as machine:
        assert machine.echo(b"?") == b"?"
        assert machine.ask(b"T", 4)[2] == 0x12345678
        machine.ask(b"R", 0)
        time.sleep(0.1)
        assert machine.ask(b"T", 4) == (0, 0, 0x12345678, 4)
        assert machine.ask(b"S", 2)[1] < 600  # painted anew
        for count, fault in enumerate((b"Z", b"Z", b"O", b"Z"), 1):
            machine.ask(fault, 0)
            time.sleep(0.2)
            assert machine.ask(b"F", 5)[0] == count
            assert machine.ask(b"T", 4)[2] == 0x12345678
        assert machine.echo(b"still here") == b"still here"


# Armv6-M locks up when there is no room for the fault's own frame either.
@needs_qemu
@pytest.mark.parametrize("name", [name for name in EMULATED if load_board(name).core != "cortex-m0"])
def test_an_overflowing_stack_is_a_fault(name: str, machines: dict[str, Machine]) -> None:
    machine = machines[name]
    machine.ask(b"X", 1)
    machine.ask(b"O", 0)
    time.sleep(0.2)
    assert machine.ask(b"F", 5)[0] == 1
    machine.ask(b"X", 1)
