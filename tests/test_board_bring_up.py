"""The bring-up of chips that no emulator shows, run on a bare core among registers that answer as the manuals say.

What is written is looked at, field by field, against ``board.toml``. The virtual STM32F7 is stricter; this one finds
code that does not run, sets something else than it should, or waits for ever.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tests.test_board_emulated import WARNINGS
from tinymbn.board import Board, load_board
from tinymbn_codegen.board_files import LINK_FLAGS, board_files, board_sources

unicorn = pytest.importorskip("unicorn", reason="no unicorn")
arm_const = pytest.importorskip("unicorn.arm_const")
GCC = shutil.which("arm-none-eabi-gcc")
pytestmark = pytest.mark.skipif(GCC is None, reason="no arm-none-eabi-gcc")

MAIN = r"""
#include "board.h"

void finished(void);
extern uint32_t results[3];
uint32_t results[3];

__attribute__((noinline)) void finished(void)
{
    __asm volatile("");
}

int main(void)
{
    const uint8_t byte = 0x5A;
    board_init();
    board_write(&byte, 1);
    results[0] = board_status();
    results[1] = board_set_baud(230400);
    results[2] = board_set_baud(7);
    finished();
    return 0;
}
"""
# Unicorn has no core of Armv8.1-M; one of Armv8-M runs the same C, built for it.
CPUS = {
    "cortex-m0plus": "UC_CPU_ARM_CORTEX_M0",
    "cortex-m4": "UC_CPU_ARM_CORTEX_M4",
    "cortex-m7": "UC_CPU_ARM_CORTEX_M7",
    "cortex-m33": "UC_CPU_ARM_CORTEX_M33",
    "cortex-m55": "UC_CPU_ARM_CORTEX_M33",
    "cortex-m85": "UC_CPU_ARM_CORTEX_M33",
}


@dataclass
class Registers:
    """What was written, and what is read: that, or an answer of the chip's own."""

    answers: dict[int, Callable[[Registers], int]]
    values: dict[int, int] = field(default_factory=dict)
    writes: list[tuple[int, int]] = field(default_factory=list)

    def read(self, address: int) -> int:
        answer = self.answers.get(address)
        return answer(self) if answer is not None else self.values.get(address, 0)

    def write(self, address: int, value: int) -> None:
        self.values[address] = value
        self.writes.append((address, value))

    def __getitem__(self, address: int) -> int:
        return self.values.get(address, 0)


Answers = dict[int, Callable[[Registers], int]]


def _ready(address: int, *pairs: tuple[int, int], always: int = 0) -> Answers:
    """A register in which the second bit of each pair follows the first: enabled, then ready."""

    def answer(registers: Registers) -> int:
        return registers[address] | always | sum(1 << ready for on, ready in pairs if registers[address] >> on & 1)

    return {address: answer}


def _switched(address: int, mask: int, shift: int) -> Answers:
    """A clock switch whose status field, ``shift`` bits up, follows the choice."""
    return {address: lambda registers: registers[address] | (registers[address] & mask) << shift}


def _with(address: int, bits: int) -> Answers:
    return {address: lambda registers: registers[address] | bits}


def _rp2(clocks: int, resets: int, xosc: int, pll: int) -> Answers:
    everything = 0x1FFFFFFF  # in reset, to begin with
    return {
        **_with(xosc + 0x4, 1 << 31),
        **_with(pll, 1 << 31),
        resets: lambda registers: registers.values.get(resets, everything),
        resets + 0x8: lambda registers: ~registers.values.get(resets, everything) & everything,
        clocks + 0x38: lambda registers: 1 << (registers[clocks + 0x30] & 3),
        clocks + 0x44: lambda registers: 1 << (registers[clocks + 0x3C] & 1),
    }


_F4_F7 = {
    **_ready(0x40023800, (16, 17), (24, 25), always=1 << 1),
    **_switched(0x40023808, 3, 2),
    0x40007004: lambda registers: registers[0x40007000] & 0x30000,
}
_H7 = {
    **_ready(0x58024400, (16, 17), (24, 25)),
    **_switched(0x58024410, 7, 3),
    **_with(0x58024804, 1 << 13),
    **_with(0x58024818, 1 << 13),
    **_with(0x5802480C, 6),
    **_with(0x5C001000, 0x10036450),  # revision Y
}
_L4 = {**_ready(0x40021000, (8, 10), (24, 25)), **_switched(0x40021008, 3, 2), **_with(0x40007080, 0)}


def _last(registers: Registers, on: tuple[int, int], off: tuple[int, int]) -> bool:
    """Whether a bit that one register sets and another clears is set: a register and the bit, each."""
    state = False
    for address, value in registers.writes:
        if address == on[0] and value >> on[1] & 1:
            state = True
        if address == off[0] and value >> off[1] & 1:
            state = False
    return state


_N6: Answers = {
    0x56028004: lambda registers: 1 << 3 | _last(registers, (0x56028800, 8), (0x56029000, 8)) << 8,
    # On the PLL to begin with, as a boot ROM may leave it.
    0x56028020: lambda registers: (registers.values.get(0x56028020, 0x03030000) & 0x03030000) * 0x11,
}
_RA8: Answers = {
    # The crystal and the PLL are on while their stop registers are zero; the HOCO likewise.
    0x4001E03C: lambda registers: sum(
        1 << bit for stop, bit in ((0x36, 0), (0x32, 3), (0x2A, 5)) if registers.values.get(0x4001E000 + stop, 1) == 0
    ),
    0x4001E055: lambda registers: registers[0x4001E055] & 0x7F | (registers[0x4001E055] & 0x40) << 1,
    0x4035891C: lambda registers: registers[0x40358908] & 0x11,
    0x40203004: lambda registers: registers.values.get(0x40203004, 0xFFFFFFFF),
}
_NRF: Answers = {0x40000100: lambda registers: registers[0x40000000], 0x4000211C: lambda _: 1}


@dataclass(frozen=True)
class Chip:
    """How a chip answers while all goes well; the register that may fall silent, and the step that then fails."""

    answers: Answers
    silent: int
    failure: int


CHIPS = {
    "stm32f7": Chip(_F4_F7, 0x40023800, 2),
    "stm32f746g-disco": Chip(_F4_F7, 0x40023800, 2),
    "nucleo-f446re": Chip(_F4_F7, 0x40007004, 4),
    "nucleo-h743zi": Chip(_H7, 0x58024804, 1),
    "nucleo-l4r5zi": Chip(_L4, 0x40021000, 2),
    "nucleo-n657x0-q": Chip(_N6, 0x56028004, 2),
    "nrf52840dk": Chip(_NRF, 0x40000100, 2),
    "ek-ra8d1": Chip(_RA8, 0x4001E03C, 2),
    "pico": Chip(_rp2(0x40008000, 0x4000C000, 0x40024000, 0x40028000), 0x40028000, 3),
    "pico2": Chip(_rp2(0x40010000, 0x40020000, 0x40048000, 0x40050000), 0x40050000, 3),
}
# Status of a UART with room to send and nothing received, and where a byte to send is written.
_IDLE = {
    **{"stm32_v1": (0x00, 0xC0), "stm32_v2": (0x1C, 0xC0), "stm32_lpuart": (0x1C, 0xC0)},
    **{"pl011": (0x18, 0x10), "ra_sci": (0x48, 0x60000000)},
}
_SENT = {"stm32_v1": 0x04, "stm32_v2": 0x28, "stm32_lpuart": 0x28, "pl011": 0x00, "nrf": 0x51C, "ra_sci": 0x04}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: _build(load_board(name), tmp_path_factory.mktemp(name)) for name in CHIPS}


def _build(board: Board, folder: Path) -> Path:
    assert GCC is not None
    for name, text in {**board_files(board, stack_bytes=1024), "main.c": MAIN}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    armv8_1 = board.core in ("cortex-m55", "cortex-m85")
    built_for = replace(board, core="cortex-m33", fpu="fpv5-sp-d16") if armv8_1 else board
    command = [GCC, *built_for.gcc_flags, "-O2", *WARNINGS, "-ffunction-sections", "-Iboard", "main.c"]
    command += [*board_sources(board), *LINK_FLAGS, "-lgcc", "-o", "firmware.elf"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "firmware.elf"


def _run(board: Board, image: Path, answers: Answers) -> tuple[Registers, tuple[int, ...]]:
    """The registers after the reset's whole way to the end of main(), and main()'s results."""
    assert board.uart is not None
    status = _IDLE.get(board.uart.driver)
    if status is not None:
        answers = answers | {board.uart.base + status[0]: lambda _: status[1]}
    registers = Registers(answers)
    core = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
    core.ctl_set_cpu_model(getattr(arm_const, CPUS[board.core]))
    for base, size in ((0x40000000, 0x20000000), (0xE0000000, 0x100000)):
        core.mmio_map(
            base,
            size,
            lambda _, offset, _size, base: registers.read(base + offset),
            base,
            lambda _, offset, _size, value, base: registers.write(base + offset, value),
            base,
        )
    mapped = 0
    for memory in sorted(board.memory, key=lambda memory: memory.base):
        begin, end = max(memory.base & ~0xFFF, mapped), (memory.end + 0xFFF) & ~0xFFF
        if begin < end:
            core.mem_map(begin, end - begin)
            mapped = end
    with image.open("rb") as file:
        elf = ELFFile(file)
        for segment in elf.iter_segments("PT_LOAD"):
            core.mem_write(segment["p_paddr"], segment.data())
        table = elf.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        symbols = {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}
    vectors = core.mem_read(symbols["board_vectors"], 8)
    core.reg_write(arm_const.UC_ARM_REG_SP, int.from_bytes(vectors[:4], "little"))
    core.emu_start(int.from_bytes(vectors[4:], "little"), symbols["finished"] & ~1, timeout=20_000_000)
    assert core.reg_read(arm_const.UC_ARM_REG_PC) == symbols["finished"] & ~1
    results = core.mem_read(symbols["results"], 12)
    return registers, tuple(int.from_bytes(results[i : i + 4], "little") for i in (0, 4, 8))


def _divider(board: Board, registers: Registers) -> int:
    """What the UART's divider registers were first set to."""
    assert board.uart is not None
    base, driver = board.uart.base, board.uart.driver
    first = dict(reversed(registers.writes))
    if driver == "pl011":
        return first[base + 0x24] * 64 + first[base + 0x28]
    if driver == "ra_sci":
        assert first[base + 0x10] & 0x0071007F == 0x34  # 8 cycles a bit, of the undivided clock, unmodulated
        return (first[base + 0x10] >> 8 & 0xFF) + 1
    return first[base + {"stm32_v1": 0x08, "stm32_v2": 0x0C, "stm32_lpuart": 0x0C, "nrf": 0x524}[driver]]


def _wanted_divider(board: Board, hz: int) -> int:
    assert board.uart is not None
    if board.uart.driver == "nrf":
        return 0x01D7E000
    scale = {"stm32_lpuart": 256, "pl011": 4, "ra_sci": 1 / 8}.get(board.uart.driver, 1)
    return round(hz * scale / board.uart.baud)


@pytest.mark.parametrize("name", CHIPS)
def test_bring_up_comes_to_its_end(name: str, images: dict[str, Path]) -> None:
    board = load_board(name)
    assert board.uart is not None
    registers, results = _run(board, images[name], CHIPS[name].answers)
    assert results == (0, 1, 0)  # nominal; a baud rate taken; one refused
    assert _divider(board, registers) == _wanted_divider(board, board.uart.clock_hz)
    assert (board.uart.base + _SENT[board.uart.driver], 0x5A) in registers.writes


@pytest.mark.parametrize("name", CHIPS)
def test_a_clock_that_stays_silent_is_reported_over_the_line(name: str, images: dict[str, Path]) -> None:
    board, chip = load_board(name), CHIPS[name]
    assert board.uart is not None
    registers, results = _run(board, images[name], chip.answers | {chip.silent: lambda _: 0})
    assert results[0] == chip.failure
    assert _divider(board, registers) == _wanted_divider(board, board.uart.reset_clock_hz)
    assert (board.uart.base + _SENT[board.uart.driver], 0x5A) in registers.writes


_PPRE = {0: 1, 4: 2, 5: 4, 6: 8, 7: 16}
_HPRE = {0: 1, 8: 2, 9: 4, 10: 8, 11: 16}


@pytest.mark.parametrize("name", ["stm32f7", "stm32f746g-disco", "nucleo-f446re"])
def test_f4_and_f7_set_what_board_toml_says(name: str, images: dict[str, Path]) -> None:
    board = load_board(name)
    clock = board.clock
    assert clock is not None
    registers, _ = _run(board, images[name], CHIPS[name].answers)
    pll, config = registers[0x40023804], registers[0x40023808]
    assert (pll & 0x3F, pll >> 6 & 0x1FF) == (clock.pll_m, clock.pll_n)
    assert ((pll >> 16 & 3) * 2 + 2, pll >> 24 & 15) == (clock.pll_p, clock.pll_q)
    assert pll >> 28 == 2  # PLLR, or reserved with this reset value
    assert (pll >> 22 & 1) == (clock.source == "hse")
    assert _HPRE[config >> 4 & 15] == clock.ahb_divider
    assert (_PPRE[config >> 10 & 7], _PPRE[config >> 13 & 7]) == (clock.apb1_divider, clock.apb2_divider)
    assert registers[0x40023C00] & 15 == clock.wait_states
    assert registers[0x40007000] >> 14 & 15 == 0b1111  # scale 1, over-drive and its switch
    order = [address for address, _ in registers.writes]
    assert order.index(0x40023C00) < order.index(0x40023808)  # wait states before speed
    assert registers.writes[order.index(0x40023808)][1] & 3 == 0  # dividers before the switch
    _pins_are_routed(board, registers)


def test_h7_sets_what_board_toml_says(images: dict[str, Path]) -> None:
    board = load_board("nucleo-h743zi")
    clock = board.clock
    assert clock is not None
    registers, _ = _run(board, images[board.name], CHIPS[board.name].answers)
    dividers = registers[0x58024430]
    assert (registers[0x58024428] >> 4, registers[0x58024428] & 15) == (clock.pll_m, 2)  # HSE
    assert ((dividers & 0x1FF) + 1, (dividers >> 9 & 0x7F) + 1) == (clock.pll_n, clock.pll_p)
    assert registers[0x58024400] >> 16 & 0b101 == 0b101  # HSE on, bypassed
    assert _HPRE[registers[0x58024418] & 15] == clock.ahb_divider
    assert _PPRE[registers[0x5802441C] >> 4 & 7] == clock.apb1_divider
    assert _PPRE[registers[0x5802441C] >> 8 & 7] == clock.apb2_divider
    assert registers[0x52002000] & 15 == clock.wait_states
    assert registers[0x5802480C] == 2  # LDO, and locked
    assert registers[0x58024818] >> 14 == 3  # scale 1
    assert registers[0x51008108] == 1  # the way round of revision Y
    _pins_are_routed(board, registers)


def test_l4_sets_what_board_toml_says(images: dict[str, Path]) -> None:
    board = load_board("nucleo-l4r5zi")
    clock = board.clock
    assert clock is not None
    registers, _ = _run(board, images[board.name], CHIPS[board.name].answers)
    pll = registers[0x4002100C]
    assert pll & 3 == 2  # HSI16
    assert ((pll >> 4 & 15) + 1, pll >> 8 & 0x7F, (pll >> 25 & 3) * 2 + 2) == (clock.pll_m, clock.pll_n, clock.pll_r)
    assert registers[0x40022000] & 15 == clock.wait_states
    switches = [value for address, value in registers.writes if address == 0x40021008]
    assert [(value & 3, _HPRE[value >> 4 & 15]) for value in switches] == [(0, 2), (3, 2), (3, 1)]  # by way of a half
    assert registers[0x40007004] >> 9 & 1 == 1  # IOSV, or port G is dead
    assert (0x40007080, 0) in registers.writes  # boost
    _pins_are_routed(board, registers)


def test_n6_sets_what_board_toml_says(images: dict[str, Path]) -> None:
    board = load_board("nucleo-n657x0-q")
    clock = board.clock
    assert clock is not None
    registers, _ = _run(board, images[board.name], CHIPS[board.name].answers)
    assert (registers[0x56028080] >> 20 & 0x3F, registers[0x56028080] >> 8 & 0xFFF) == (clock.pll_m, clock.pll_n)
    assert registers[0x56028080] >> 27 == 0  # HSI, not bypassed
    assert registers[0x56028084] == 0  # a whole factor
    assert registers[0x56028088] == 0x49000005  # output on and undivided, no spread spectrum
    dividers = [(registers[0x56028000 + ic] >> 16 & 0xFF) + 1 for ic in (0xC4, 0xC8, 0xD8, 0xEC)]
    assert dividers == [clock.ic1_divider, *[clock.ic2_divider] * 3]
    assert [registers[0x56028000 + ic] >> 28 for ic in (0xC4, 0xC8, 0xD8, 0xEC)] == [0] * 4  # of PLL1
    assert registers[0x56028A40] == 1 << 0 | 1 << 1 | 1 << 5 | 1 << 10
    assert clock.ahb_divider == 1 << (registers[0x56028024] >> 20 & 7)
    assert registers[0x56028024] & 0x7F0FF == 0  # no APB divided
    switches = [value >> 16 & 0x303 for address, value in registers.writes if address == 0x56028020]
    assert switches == [0x003, 0x000, 0x003, 0x303]  # away from the PLL, buses first; back, core first
    order = [address for address, _ in registers.writes]
    assert order.index(0x56029000) < order.index(0x56028080)  # stopped before it is set
    assert registers[0x56028174] & 7 == 6  # the UART's clock is the HSI
    assert registers[0x5602824C] >> 7 & 1  # the arena's memory is on
    assert [value for address, value in registers.writes if address == 0xE000EDD8] == list(range(8))
    _pins_are_routed(board, registers)


def test_ra8_sets_what_board_toml_says(images: dict[str, Path]) -> None:
    board = load_board("ek-ra8d1")
    clock = board.clock
    assert clock is not None
    assert board.uart is not None
    registers, _ = _run(board, images[board.name], CHIPS[board.name].answers)
    assert (registers[0x4001E028] & 3) + 1 == clock.pll_m
    assert (registers[0x4001E028] >> 8) + 1 == clock.pll_n
    assert registers[0x4001E028] & 0xFC == 0  # of the crystal, a whole factor
    assert [(registers[0x4001E04C] >> shift & 15) + 1 for shift in (0, 4, 8)] == [clock.pll_p] * 3
    assert registers[0x4001EA50] == 3 << 1  # drive for 20 MHz
    assert registers[0x4001C11C] == clock.wait_states
    # FCLK, ICLK, PCLKE, BCLK, PCLKA, PCLKB, PCLKC, PCLKD in MHz
    hz = [clock.hz >> (registers[0x4001E020] >> shift & 15) for shift in range(28, -1, -4)]
    assert [each // 1_000_000 for each in hz] == [60, 240, 240, 120, 120, 60, 60, 120]
    assert [value for address, value in registers.writes if address == 0x4001E024] == [1, 0]  # by way of a half
    assert registers[0x4001E026] == 5  # PLL1P
    order = [address for address, _ in registers.writes]
    assert order.index(0x4001C11C) < order.index(0x4001E020)  # wait states before speed
    assert (registers[0x4001E055] & 15, registers[0x4001E054]) == (5, 6)  # SCICLK: PLL1P / 5
    assert clock.hz // 5 == board.uart.clock_hz
    locks = [value for address, value in registers.writes if address == 0x4001E3FA]
    assert locks == [0xA503, 0xA500]
    assert registers[0x40203004] == 0xFFFFFFFF & ~(1 << 22)
    for pin in board.pin:
        routed = registers[0x40400800 + (pin.port - 0x40400000) * 2 + pin.pin * 4]
        assert (routed >> 24, routed >> 16 & 1) == (pin.function, 1)
    assert registers[0x40400D14] == 0x80  # locked


@pytest.mark.parametrize(("cpuid", "through"), [(0x410FD232, 1), (0x411FD230, 1), (0x411FD231, 0), (0x412FD230, 0)])
def test_a_data_cache_writes_through_where_it_has_arms_errata(
    cpuid: int, through: int, images: dict[str, Path]
) -> None:
    answers = CHIPS["ek-ra8d1"].answers | {0xE000ED00: lambda _: cpuid}
    registers, results = _run(load_board("ek-ra8d1"), images["ek-ra8d1"], answers)
    assert results == (0, 1, 0)
    assert registers[0xE001E000] >> 2 & 1 == registers[0xE000E008] >> 16 & 1 == through
    assert registers[0xE000ED14] >> 16 & 0b1111 == 0b1111  # both caches, branch prediction, low-overhead loops


def _pins_are_routed(board: Board, registers: Registers) -> None:
    for pin in board.pin:
        assert pin.enable_register is not None
        assert pin.enable_bit is not None
        assert registers[pin.enable_register] >> pin.enable_bit & 1
        assert registers[pin.port] >> pin.pin * 2 & 3 == 2  # alternate function
        assert registers[pin.port + 0x20 + pin.pin // 8 * 4] >> pin.pin % 8 * 4 & 15 == pin.function


@pytest.mark.parametrize(
    ("name", "clocks", "pll", "pads"),
    [
        ("pico", 0x40008000, 0x40028000, 0x4001C000),
        ("pico2", 0x40010000, 0x40050000, 0x40038000),
    ],
)
def test_rp2_sets_what_board_toml_says(name: str, clocks: int, pll: int, pads: int, images: dict[str, Path]) -> None:
    board = load_board(name)
    clock = board.clock
    assert clock is not None
    registers, _ = _run(board, images[name], CHIPS[name].answers)
    assert (registers[pll], registers[pll + 8]) == (clock.pll_m, clock.pll_n)
    assert (registers[pll + 0xC] >> 16 & 7, registers[pll + 0xC] >> 12 & 7) == (clock.pll_p, clock.pll_q)
    assert registers[pll + 4] & 0b101001 == 0  # PLL, VCO and dividers powered
    assert registers[clocks + 0x3C] == 1  # clk_sys from the PLL
    assert registers[clocks + 0x48] == 1 << 11  # clk_peri on
    for pin in board.pin:
        assert registers[pin.port + 8 * pin.pin + 4] == pin.function
        assert registers[pads + 4 * pin.pin + 4] & 0x1C0 == 0x40  # input on, output not off, not isolated
