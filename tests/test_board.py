"""Boards as data: every board that ships is sound, and each rule finds its mistake."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tinymbn.board import Board, FlashTool, known_boards, load_board
from tinymbn.board_rules import FAMILIES, RULES, actual_baud, reachable_bauds, validate
from tinymbn.errors import BoardError
from tinymbn.paths import BOARDS, FIRMWARE_TEMPLATES
from tinymbn_codegen.board_files import board_files, board_sources, boot2_crc, boot2_words

NAMES = [board.name for board in known_boards()]


def test_all_boards_are_there() -> None:
    emulated = {"qemu-m0", "qemu-m3", "qemu-m4", "qemu-m7", "qemu-m33", "qemu-m55", "netduinoplus2", "host"}
    nucleos = {"nucleo-f446re", "nucleo-h743zi", "nucleo-l4r5zi", "nucleo-n657x0-q"}
    others = {"stm32f7", "stm32f746g-disco", "nrf52840dk", "pico", "pico2", "ek-ra8d1"}
    assert {*NAMES} == emulated | nucleos | others


@pytest.mark.parametrize("name", NAMES)
def test_no_rule_finds_anything_in_a_board_that_ships(name: str) -> None:
    assert validate(load_board(name)) == ()


@pytest.mark.parametrize("name", NAMES)
def test_a_board_that_no_emulator_shows_says_so(name: str) -> None:
    board = load_board(name)
    shown = board.emulator is not None and board.emulator.kind in ("qemu", "host")
    for text in (board.tested, (board.folder / "README.md").read_text()):
        assert ("not run on hardware" in text) == (not shown)


def test_the_list_of_boards_has_them_all() -> None:
    listed = (BOARDS / "README.md").read_text()
    for board in known_boards():
        assert f"[`{board.name}`]({board.name}/README.md)" in listed


# ---- reading ----


def test_an_unknown_board_lists_the_known_ones() -> None:
    with pytest.raises(BoardError, match=r'^no board "stm32f8"; known boards: ek-ra8d1, host, .*stm32f746g-disco$'):
        load_board("stm32f8")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's board: a copy of one that ships, under its name in a folder of their own."""
    folder = tmp_path / "nucleo-f446re"
    shutil.copytree(BOARDS / "nucleo-f446re", folder)
    return folder


def _edit(folder: Path, old: str, new: str) -> None:
    file = folder / "board.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_a_folder_of_ones_own_is_a_board(own: Path) -> None:
    board = load_board(str(own))
    assert replace(board, folder=BOARDS / "nucleo-f446re") == load_board("nucleo-f446re")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fpu =", "fpv =", 'unknown key "fpv"'),
        ('fpu = "fpv4-sp-d16"\n', "", 'key "fpu" is missing'),
        ("wait_states = 5", "waitstates = 5", 'clock: unknown key "waitstates"'),
        ("baud = 115200\n", "", 'uart: key "baud" is missing'),
        ('"cortex-m4"', '"cortex-m5"', "core: 'cortex-m5'; expected one of"),
        ("irq = 38", 'irq = "38"', "uart: irq: '38'; expected int"),
        ("irq = 38", "irq = true", "uart: irq: True; expected int"),
        ("irq = 38", "irq = -1", "uart: irq: -1; expected int"),
        ("over_drive = true", "over_drive = 1", "clock: over_drive: 1; expected bool"),
        ('use = ["code", "weights"]', 'use = "code"', "memory[0]: use: 'code'; expected a list"),
        ('use = ["code", "weights"]', 'use = ["kode"]', "memory[0]: use[0]: 'kode'; expected one of"),
        ("[link]", "link = 3\n[lunk]", "link"),
        ("[counter]", "[counter", "not TOML"),
        ('name = "nucleo-f446re"', 'name = "other"', "expected the folder's name"),
        ('name = "nucleo-f446re"', 'folder = "x"\nname = "nucleo-f446re"', 'unknown key "folder"'),
    ],
)
def test_a_board_toml_is_read_strictly(own: Path, old: str, new: str, message: str) -> None:
    _edit(own, old, new)
    with pytest.raises(BoardError) as caught:
        load_board(str(own))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_board_without_its_c_file_is_refused(own: Path) -> None:
    (own / "board.c").unlink()
    with pytest.raises(BoardError, match=r"board\.c: cannot be read"):
        board_files(load_board(str(own)), stack_bytes=1024)


# ---- rules ----


def _with(part: str, **changes: Any) -> Callable[[Board], Board]:
    return lambda board: replace(board, **{part: replace(getattr(board, part), **changes)})


def _memory(index: int, **changes: Any) -> Callable[[Board], Board]:
    def change(board: Board) -> Board:
        memory = list(board.memory)
        memory[index] = replace(memory[index], **changes)
        return replace(board, memory=tuple(memory))

    return change


def _board(**changes: Any) -> Callable[[Board], Board]:
    return lambda board: replace(board, **changes)


MISTAKES: list[tuple[str, str, Callable[[Board], Board]]] = [
    ("says how it was tested", "stm32f7", _board(tested="yes")),
    ("says how it was tested", "qemu-m3", _board(sources=())),
    ("fpu belongs to the core", "qemu-m3", _board(fpu="fpv4-sp-d16")),
    ("fpu belongs to the core", "qemu-m4", _board(fpu="fpv5-d16")),
    ("fpu belongs to the core", "ek-ra8d1", _board(fpu="none")),
    ("memories are apart", "nucleo-h743zi", _memory(1, size=0x4000020)),
    ("memories are apart", "stm32f7", _memory(1, name="flash")),
    ("memories are apart", "stm32f7", _memory(1, base=0x20000004)),
    ("everything has one place", "stm32f7", _memory(0, use=("code",))),
    ("everything has one place", "stm32f7", _memory(1, use=("stack", "data", "arena", "weights"))),
    ("everything has one place", "nucleo-h743zi", _memory(3, use=("unused", "boot"))),
    ("clock has the numbers of its driver", "stm32f7", _with("clock", wait_states=None)),
    ("clock has the numbers of its driver", "stm32f7", _with("clock", pll_r=2)),
    ("clock has the numbers of its driver", "qemu-m4", _with("clock", pll_m=1)),
    ("clock has the numbers of its driver", "stm32f7", _with("clock", pll_p=3)),
    ("clock has the numbers of its driver", "stm32f7", _with("clock", apb1_divider=3)),
    ("clock arithmetic holds", "stm32f7", _with("clock", pll_n=217)),
    ("clock arithmetic holds", "nucleo-h743zi", _with("clock", hz=480_000_000)),
    ("clock arithmetic holds", "pico", _with("clock", pll_q=1)),
    ("clock arithmetic holds", "nucleo-n657x0-q", _with("clock", ic1_divider=3)),
    ("clock arithmetic holds", "ek-ra8d1", _with("clock", pll_p=1)),
    ("clock arithmetic holds", "qemu-m0", _with("clock", hz=1)),
    ("pll is in its range", "stm32f7", _with("clock", pll_m=4, pll_n=108)),
    ("pll is in its range", "nucleo-l4r5zi", _with("clock", pll_n=120, pll_r=4)),
    ("pll is in its range", "pico", _with("clock", pll_n=50, pll_p=5, pll_q=1)),
    ("pll is in its range", "nucleo-n657x0-q", _with("clock", pll_m=1)),
    ("pll is in its range", "ek-ra8d1", _with("clock", pll_m=1, pll_n=48)),
    ("buses are slow enough", "stm32f7", _with("clock", apb1_divider=2)),
    ("buses are slow enough", "stm32f7", _with("clock", apb2_divider=1)),
    ("buses are slow enough", "stm32f7", _with("clock", over_drive=False)),
    ("buses are slow enough", "nucleo-l4r5zi", _with("clock", over_drive=False)),
    ("buses are slow enough", "nucleo-h743zi", _with("clock", ahb_divider=1)),
    ("buses are slow enough", "pico2", _with("clock", pll_n=130)),
    ("buses are slow enough", "nucleo-n657x0-q", _with("clock", ic1_divider=1)),
    ("buses are slow enough", "nucleo-n657x0-q", _with("clock", ic2_divider=2)),
    ("buses are slow enough", "ek-ra8d1", _with("clock", apb1_divider=2)),
    ("flash waits long enough", "stm32f7", _with("clock", wait_states=5)),
    ("flash waits long enough", "nucleo-f446re", _with("clock", wait_states=4)),
    ("flash waits long enough", "nucleo-h743zi", _with("clock", wait_states=1)),
    ("flash waits long enough", "ek-ra8d1", _with("clock", wait_states=3)),
    ("uart has the clock it says", "stm32f7", _with("uart", clock_hz=108_000_000)),
    ("uart has the clock it says", "pico", _with("uart", bus="apb1", clock_hz=48_000_000)),
    ("baud rate is near", "stm32f7", _with("uart", reset_clock_hz=1_000_000)),
    ("baud rate is near", "nrf52840dk", _with("uart", baud=921600)),
    ("baud rate is near", "stm32f7", _with("uart", baud=9600)),
    ("uart and pins are whole", "stm32f7", _board(uart=None)),
    ("uart and pins are whole", "stm32f7", _with("uart", enable_bit=None)),
    ("uart and pins are whole", "stm32f7", lambda board: replace(board, pin=board.pin[:1])),
    (
        "uart and pins are whole",
        "nrf52840dk",
        lambda board: replace(board, pin=(replace(board.pin[0], function=1), board.pin[1])),
    ),
    (
        "uart and pins are whole",
        "stm32f7",
        lambda board: replace(board, pin=(replace(board.pin[0], pin=32), board.pin[1])),
    ),
    ("uart and pins are whole", "stm32f7", _with("uart", irq=496)),
    ("uart and pins are whole", "ek-ra8d1", _with("uart", enable_bit=None)),
    (
        "uart and pins are whole",
        "ek-ra8d1",
        lambda board: replace(board, pin=(replace(board.pin[0], function=None), board.pin[1])),
    ),
    ("counter is whole", "stm32f7", _with("counter", hz=16_000_000)),
    ("counter is whole", "pico", _with("counter", driver="dwt")),
    ("counter is whole", "qemu-m3", _with("counter", base=None)),
    ("counter is whole", "qemu-m55", _with("counter", control=None)),
    ("counter is whole", "pico", _with("counter", hz=10)),
    ("counter is whole", "host", _with("counter", driver="dwt")),
    ("core can restart", "pico", _board(reset="restart")),
    ("link fits the ram", "qemu-m0", _with("link", rx_max=1024)),
    ("link fits the ram", "qemu-m3", _with("link", rx_max=128)),
    ("emulator is whole", "qemu-m3", _with("emulator", machine=None)),
    ("emulator is whole", "stm32f7", _with("emulator", machine="mps2-an500")),
    ("emulator is whole", "host", _board(emulator=None)),
    ("flash tools name the image", "stm32f7", _board(flash=())),
    ("flash tools name the image", "stm32f7", _board(probe=())),
    ("flash tools name the image", "stm32f7", _board(flash=(FlashTool("openocd", ("reset",)),))),
    ("flash tools name the image", "pico", _board(uf2_family=None)),
]


@pytest.mark.parametrize(("rule", "name", "mistake"), MISTAKES)
def test_a_planted_mistake_is_found_by_its_rule(rule: str, name: str, mistake: Callable[[Board], Board]) -> None:
    assert list(RULES[rule](mistake(load_board(name))))


def test_every_rule_has_a_planted_mistake() -> None:
    assert {rule for rule, _, _ in MISTAKES} == set(RULES)


def test_every_limit_names_its_source() -> None:
    assert all(family.source for family in FAMILIES.values())


def test_baud_rates_that_a_divider_misses_are_not_offered() -> None:
    assert reachable_bauds(load_board("stm32f7")) == (921600, 460800, 230400, 115200)
    assert reachable_bauds(load_board("nrf52840dk")) == (230400, 115200)
    board = load_board("qemu-m33")
    assert board.uart is not None
    assert actual_baud(board.uart, 20_000_000, 921600) == 909090  # 20 MHz / 22
    assert reachable_bauds(board) == (460800, 230400, 115200)
    board = load_board("ek-ra8d1")
    assert board.uart is not None
    assert actual_baud(board.uart, 96_000_000, 115200) == 115384  # 96 MHz / 8 / 104
    assert actual_baud(board.uart, 96_000_000, 7) is None
    assert reachable_bauds(board) == (921600, 460800, 230400, 115200)


# ---- files ----


@pytest.mark.parametrize("name", NAMES)
def test_the_same_board_gives_the_same_files(name: str) -> None:
    files = board_files(load_board(name), stack_bytes=2048)
    assert files == board_files(load_board(name), stack_bytes=2048)
    assert all(path.startswith("board/") and text.endswith("\n") for path, text in files.items())
    assert {path for path in files if path.endswith(".c")} == set(board_sources(load_board(name)))


def test_compiler_flags_name_core_and_fpu() -> None:
    f7, m0, m55 = load_board("stm32f7"), load_board("qemu-m0"), load_board("qemu-m55")
    assert f7.gcc_flags == ("-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard")
    assert f7.zig_flags == ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m7-fp64")
    assert m0.gcc_flags == ("-mcpu=cortex-m0", "-mthumb", "-mfloat-abi=soft")
    assert m0.zig_flags == ("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m0")
    assert m55.gcc_flags == ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard", "-fno-tree-vectorize")
    m85 = load_board("ek-ra8d1")
    assert m85.gcc_flags == m55.gcc_flags  # GCC 12 has no name for it
    assert m85.zig_flags == ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m85+mve")
    assert load_board("host").gcc_flags == load_board("host").zig_flags == ()


def test_the_boot_loaders_checksum_is_the_boot_roms() -> None:
    assert boot2_crc(b"123456789") == 0x0376E6E7  # CRC-32/MPEG-2, its catalogued check value
    assert len(boot2_words()) == 64


@pytest.mark.skipif(shutil.which("arm-none-eabi-as") is None, reason="no arm-none-eabi-as")
def test_the_boot_loaders_words_are_its_assembly(tmp_path: Path) -> None:
    source = FIRMWARE_TEMPLATES / "board" / "boot_rp2040.s"
    subprocess.run(["arm-none-eabi-as", "-o", tmp_path / "boot.o", source], check=True)
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", tmp_path / "boot.o", tmp_path / "boot.bin"], check=True)
    code = (tmp_path / "boot.bin").read_bytes()
    words = b"".join(word.to_bytes(4, "little") for word in boot2_words())
    assert words[:-4] == code.ljust(252, b"\0")


# ---- the host as a board ----

ON_THE_HOST = r"""
#include "board.h"

int main(void)
{
    board_init();
    const uint32_t cycles = board_cycles();
    const uint8_t status = (uint8_t)(board_status() | !board_set_baud(115200) | (board_fault_read() != 0));
    board_write(&status, 1);
    for (;;) {
        const int byte = board_read();
        if (byte < 0) {
            board_wait();
        } else if (byte == 'R') {
            board_reset();
        } else {
            const uint8_t answer = (uint8_t)(byte + (board_cycles() == cycles));
            board_write(&answer, 1);
            board_flush();
        }
    }
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_the_host_answers_resets_and_ends_with_its_line(tmp_path: Path) -> None:
    for name, text in board_files(load_board("host"), stack_bytes=1024).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "main.c").write_text(ON_THE_HOST)
    command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Wpedantic"]
    command += ["-Werror", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Iboard", "main.c"]
    subprocess.run([*command, *board_sources(load_board("host")), "-o", "host"], cwd=tmp_path, check=True)
    computer, terminal = os.openpty()
    with subprocess.Popen([tmp_path / "host"], stdin=terminal, stdout=terminal) as process:
        os.close(terminal)
        try:
            assert os.read(computer, 1) == b"\0"
            os.write(computer, b"\x03\r\n\x11")  # none of which a terminal may keep or change
            assert b"".join(os.read(computer, 1) for _ in range(4)) == b"\x03\r\n\x11"
            os.write(computer, b"R")
            assert os.read(computer, 1) == b"\0"
            os.close(computer)
            assert process.wait(5) == 0
        finally:
            process.kill()
