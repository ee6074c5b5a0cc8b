"""What must hold of every board: named rules over its facts, and the baud rates that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from tinymbn.board import Board, Clock, Uart

BAUDS = (921600, 460800, 230400, 115200)
"""What the link tries, from the fastest down."""

_MHZ = 1_000_000
# nRF UART's constants and what they really give: nRF52840 PS 1.7, UART, BAUDRATE.
_NRF_BAUDS = {921600: 941176, 460800: 470588, 230400: 231884, 115200: 115942}


@dataclass(frozen=True)
class Family:
    """What one clock driver sets, and the limits of its chips.

    Attributes:
        keys: the numbers that ``[clock]`` must have, and no others.
        pll_input_hz, vco_hz: least and most.
        core_hz: most; with over-drive or boost where there is one.
        undriven_hz: most without over-drive or boost; 0 where there is none.
        ahb_hz, apb1_hz, apb2_hz: most.
        wait_state_hz: a wait state of the flash for each started piece; 0 where there are none.
        source: of the limits.
    """

    keys: frozenset[str]
    pll_input_hz: tuple[int, int]
    vco_hz: tuple[int, int]
    core_hz: int
    undriven_hz: int
    ahb_hz: int
    apb1_hz: int
    apb2_hz: int
    wait_state_hz: int
    source: str


_STM32 = frozenset({"pll_m", "pll_n", "ahb_divider", "apb1_divider", "apb2_divider", "wait_states"})
_RP2 = frozenset({"pll_m", "pll_n", "pll_p", "pll_q"})
_NO_PLL = (0, 0)

FAMILIES: dict[str, Family] = {
    "fixed": Family(frozenset(), _NO_PLL, _NO_PLL, 1000 * _MHZ, 0, 0, 0, 0, 0, "nothing is set up"),
    "stm32f4": Family(
        _STM32 | {"pll_p", "pll_q", "over_drive"},
        (1 * _MHZ, 2 * _MHZ),
        (100 * _MHZ, 432 * _MHZ),
        *(180 * _MHZ, 168 * _MHZ, 180 * _MHZ, 45 * _MHZ, 90 * _MHZ, 30 * _MHZ),
        "DS10693 (STM32F446) tables 16 and 42; RM0390 table 5, 2.7 to 3.6 V",
    ),
    "stm32f7": Family(
        _STM32 | {"pll_p", "pll_q", "over_drive"},
        (1 * _MHZ, 2 * _MHZ),
        (100 * _MHZ, 432 * _MHZ),
        *(216 * _MHZ, 180 * _MHZ, 216 * _MHZ, 54 * _MHZ, 108 * _MHZ, 30 * _MHZ),
        "DS10916 (STM32F746) tables 17 and 43; RM0385 table 5, 2.7 to 3.6 V",
    ),
    "stm32h7": Family(
        _STM32 | {"pll_p"},
        (2 * _MHZ, 4 * _MHZ),  # the range that the driver sets
        (192 * _MHZ, 836 * _MHZ),
        *(400 * _MHZ, 0, 200 * _MHZ, 100 * _MHZ, 100 * _MHZ, 70 * _MHZ),
        "DS12110 (STM32H743) 7.3.1 and 7.3.11; RM0433 table 17, scale 1",
    ),
    "stm32l4": Family(
        _STM32 | {"pll_r", "over_drive"},
        (2_660_000, 16 * _MHZ),
        (64 * _MHZ, 344 * _MHZ),
        *(120 * _MHZ, 80 * _MHZ, 120 * _MHZ, 120 * _MHZ, 120 * _MHZ, 20 * _MHZ),
        "DS12023 (STM32L4R5) 6.3.1 and 6.3.12; RM0432 table 12, range 1",
    ),
    "stm32n6": Family(
        frozenset({"pll_m", "pll_n", "ic1_divider", "ic2_divider", "ahb_divider"}),
        (5 * _MHZ, 50 * _MHZ),
        (80 * _MHZ, 3200 * _MHZ),  # the least is what the smallest factor gives
        *(600 * _MHZ, 0, 200 * _MHZ, 200 * _MHZ, 200 * _MHZ, 0),
        "stm32n6xx_ll_utils.c, voltage scale 1; Zephyr's binding of the PLL; RM0486, RCC",
    ),
    "nrf52": Family(frozenset(), _NO_PLL, _NO_PLL, 64 * _MHZ, 0, 0, 0, 0, 0, "nRF52840 PS 1.7, CLOCK"),
    "rp2040": Family(
        _RP2, (5 * _MHZ, 800 * _MHZ), (750 * _MHZ, 1600 * _MHZ), 133 * _MHZ, 0, 0, 0, 0, 0, "RP2040 datasheet 2.18.2"
    ),
    "rp2350": Family(
        _RP2, (5 * _MHZ, 800 * _MHZ), (750 * _MHZ, 1600 * _MHZ), 150 * _MHZ, 0, 0, 0, 0, 0, "RP2350 datasheet 8.6.3"
    ),
    "ra8": Family(
        _STM32 | {"pll_p"},
        (6 * _MHZ, 12 * _MHZ),
        (640 * _MHZ, 1440 * _MHZ),
        *(480 * _MHZ, 0, 240 * _MHZ, 60 * _MHZ, 120 * _MHZ, 48 * _MHZ),
        "bsp_feature.h of ra8d1 in Renesas FSP 6; RA8D1 User's Manual, CGC",
    ),
}

_CLOCK_NUMBERS = (
    *("pll_m", "pll_n", "pll_p", "pll_q", "pll_r", "ic1_divider", "ic2_divider"),
    *("ahb_divider", "apb1_divider", "apb2_divider", "wait_states", "over_drive"),
)
# What the drivers' fields hold: RM0385 5.3.2, RM0433 8.7.13, RM0432 6.4.4, RP2040 datasheet 2.18.4.
_RANGES: dict[str, dict[str, range | tuple[int, ...]]] = {
    "stm32f4": {"pll_m": range(2, 64), "pll_n": range(50, 433), "pll_p": (2, 4, 6, 8), "pll_q": range(2, 16)},
    "stm32f7": {"pll_m": range(2, 64), "pll_n": range(50, 433), "pll_p": (2, 4, 6, 8), "pll_q": range(2, 16)},
    "stm32h7": {"pll_m": range(1, 64), "pll_n": range(4, 513), "pll_p": range(2, 129, 2)},
    "stm32l4": {"pll_m": range(1, 17), "pll_n": range(8, 128), "pll_r": (2, 4, 6, 8)},
    "stm32n6": {
        **{"pll_m": range(1, 64), "pll_n": range(16, 2501)},
        **{"ic1_divider": range(1, 257), "ic2_divider": range(1, 257)},
    },
    "rp2040": {"pll_m": range(1, 64), "pll_n": range(16, 321), "pll_p": range(1, 8), "pll_q": range(1, 8)},
    "rp2350": {"pll_m": range(1, 64), "pll_n": range(16, 321), "pll_p": range(1, 8), "pll_q": range(1, 8)},
    "ra8": {"pll_m": range(1, 4), "pll_n": range(1, 257), "pll_p": range(1, 5)},
}
_FPUS = {
    "cortex-m0": ("none",),
    "cortex-m0plus": ("none",),
    "cortex-m3": ("none",),
    "cortex-m4": ("none", "fpv4-sp-d16"),
    "cortex-m7": ("none", "fpv5-sp-d16", "fpv5-d16"),
    "cortex-m33": ("none", "fpv5-sp-d16"),
    "cortex-m55": ("mve",),
    "cortex-m85": ("mve",),
    "host": ("none",),
}


@dataclass(frozen=True)
class Tree:
    """Frequencies in Hz, as they follow from the clock's numbers."""

    pll_input: Fraction
    vco: Fraction
    core: Fraction
    ahb: Fraction
    apb1: Fraction
    apb2: Fraction


def clock_tree(clock: Clock) -> Tree:
    """The frequencies that a clock's numbers give; a number that is missing counts as 1."""

    def number(name: str) -> int:
        return getattr(clock, name) or 1

    pll_input = Fraction(clock.source_hz, number("pll_m"))
    vco = pll_input * number("pll_n")
    if clock.driver in ("fixed", "nrf52"):
        core = Fraction(clock.source_hz * (2 if clock.driver == "nrf52" else 1))
    elif clock.driver in ("rp2040", "rp2350"):
        core = vco / number("pll_p") / number("pll_q")
    elif clock.driver == "stm32n6":
        core = vco / number("ic1_divider")
    else:
        core = vco / number("pll_r" if clock.driver == "stm32l4" else "pll_p")
    if clock.driver == "stm32n6":  # whose buses have a clock of their own
        ahb = vco / number("ic2_divider") / number("ahb_divider")
    else:
        ahb = core / number("ahb_divider")
    if clock.driver not in ("stm32h7", "stm32n6", "ra8"):  # whose cores run before the divider
        core = ahb
    return Tree(pll_input, vco, core, ahb, ahb / number("apb1_divider"), ahb / number("apb2_divider"))


def actual_baud(uart: Uart, clock_hz: int, baud: int) -> int | None:
    """The rate a UART really has when its driver is asked for one; None where it cannot have any such.

    The drivers in ``firmware_templates/board`` compute the same integers.
    """
    if uart.driver == "nrf":
        return _NRF_BAUDS.get(baud)
    if uart.driver == "ra_sci":
        divider = (clock_hz + 4 * baud) // (8 * baud)
        return clock_hz // (8 * divider) if 1 <= divider <= 256 else None
    scale, least, most = {
        "cmsdk": (1, 16, 0xFFFFF),
        "stm32_v1": (1, 16, 0xFFFF),
        "stm32_v2": (1, 16, 0xFFFF),
        "stm32_lpuart": (256, 0x300, 0xFFFFF),
        "pl011": (4, 64, 65535 * 64),
    }[uart.driver]
    divider = (clock_hz * scale + baud // 2) // baud
    if not least <= divider <= most:
        return None
    if uart.driver == "stm32_lpuart" and not 3 * baud <= clock_hz <= 4096 * baud:
        return None
    return clock_hz * scale // divider


def baud_is_near(uart: Uart, clock_hz: int, baud: int) -> bool:
    """Whether the UART gets within 1 % of a rate."""
    actual = actual_baud(uart, clock_hz, baud)
    return actual is not None and abs(actual - baud) < baud // 100


def reachable_bauds(board: Board) -> tuple[int, ...]:
    """Which of BAUDS the board's UART can do, from the fastest down; all on the host."""
    uart = board.uart
    return tuple(baud for baud in BAUDS if uart is None or baud_is_near(uart, uart.clock_hz, baud))


def validate(board: Board) -> tuple[str, ...]:
    """Everything that is wrong with a board, each as ``rule: what``; nothing for a sound one."""
    return tuple(f"{name}: {problem}" for name, rule in RULES.items() for problem in rule(board))


# ---- rules: each yields what is wrong ----


def _says_how_it_was_tested(board: Board) -> Iterator[str]:
    seen = board.emulator is not None and board.emulator.kind in ("qemu", "host")
    if not seen and "on hardware" not in board.tested:
        yield f'tested = "{board.tested}" does not say whether it ran on hardware'
    if not board.sources:
        yield "no sources"


def _fpu_belongs_to_the_core(board: Board) -> Iterator[str]:
    if board.fpu not in _FPUS[board.core]:
        yield f"{board.core} has no {board.fpu}; expected {' or '.join(_FPUS[board.core])}"


def _memories_are_apart(board: Board) -> Iterator[str]:
    ordered = sorted(board.memory, key=lambda memory: memory.base)
    for one, other in pairwise(ordered):
        if one.end > other.base:
            yield f"{one.name} ends at {one.end:#010x}, past {other.base:#010x} where {other.name} begins"
    if len({memory.name for memory in board.memory}) != len(board.memory):
        yield "two memories of one name"
    for memory in board.memory:
        if memory.size == 0 or memory.end > 1 << 32 or memory.base % 32 != 0 or memory.size % 32 != 0:
            yield f"{memory.name}: {memory.size} bytes at {memory.base:#x} are no whole 32-byte lines below 4 GiB"


def _everything_has_one_place(board: Board) -> Iterator[str]:
    for use, kind in (("code", "flash"), ("weights", "flash"), ("data", "ram"), ("stack", "ram"), ("arena", "ram")):
        places = [memory for memory in board.memory if use in memory.use]
        if [memory.kind for memory in places] != [kind]:
            yield f"{use} in {', '.join(m.name for m in places) or 'no memory'}; expected one of kind {kind}"
    for memory in board.memory:
        if "unused" in memory.use and len(memory.use) > 1:
            yield f"{memory.name} is unused and used"


def _clock_has_the_numbers_of_its_driver(board: Board) -> Iterator[str]:
    if board.clock is None:
        return
    there = {name for name in _CLOCK_NUMBERS if getattr(board.clock, name) is not None}
    wanted = FAMILIES[board.clock.driver].keys
    for name in sorted(there ^ wanted):
        yield f"{name} is {'missing' if name in wanted else 'not known to'} {board.clock.driver}"
    for name, values in _RANGES.get(board.clock.driver, {}).items():
        value = getattr(board.clock, name)
        if value is not None and value not in values:
            yield f"{name} = {value} does not exist; expected {values[0]} to {values[-1]}"
    powers: tuple[int | None, ...] = (None, 1, 2, 4, 8, 16)
    for name in ("ahb_divider", "apb1_divider", "apb2_divider"):
        if getattr(board.clock, name) not in powers:
            yield f"{name} = {getattr(board.clock, name)}; expected 1, 2, 4, 8 or 16"


def _clock_arithmetic_holds(board: Board) -> Iterator[str]:
    if board.clock is not None and clock_tree(board.clock).core != board.clock.hz:
        yield f"hz = {board.clock.hz}, but the numbers give {float(clock_tree(board.clock).core):.0f}"


def _pll_is_in_its_range(board: Board) -> Iterator[str]:
    if board.clock is None or FAMILIES[board.clock.driver].vco_hz == _NO_PLL:
        return
    family, tree = FAMILIES[board.clock.driver], clock_tree(board.clock)
    limits = ((tree.pll_input, family.pll_input_hz, "PLL input"), (tree.vco, family.vco_hz, "VCO"))
    for hz, (least, most), name in limits:
        if not least <= hz <= most:
            yield f"{name} {float(hz):.0f} Hz; expected {least} to {most} ({family.source})"


def _buses_are_slow_enough(board: Board) -> Iterator[str]:
    if board.clock is None:
        return
    family, tree = FAMILIES[board.clock.driver], clock_tree(board.clock)
    core_hz = family.core_hz if board.clock.over_drive is not False else family.undriven_hz
    limits = [(tree.core, core_hz, "core")]
    if family.ahb_hz:
        limits += [(tree.ahb, family.ahb_hz, "AHB"), (tree.apb1, family.apb1_hz, "APB1")]
        limits += [(tree.apb2, family.apb2_hz, "APB2")]
    for hz, most, name in limits:
        if hz > most:
            yield f"{name} at {float(hz):.0f} Hz; at most {most} ({family.source})"


def _flash_waits_long_enough(board: Board) -> Iterator[str]:
    if board.clock is None or board.clock.wait_states is None:
        return
    family, ahb = FAMILIES[board.clock.driver], clock_tree(board.clock).ahb
    needed = -(-ahb // family.wait_state_hz) - 1
    if not needed <= board.clock.wait_states <= 15:
        yield f"wait_states = {board.clock.wait_states}; {float(ahb):.0f} Hz need {needed} ({family.source})"


def _uart_has_the_clock_it_says(board: Board) -> Iterator[str]:
    if board.clock is None or board.uart is None or board.uart.bus == "fixed":
        return
    tree = clock_tree(board.clock)
    hz = {"core": tree.core, "apb1": tree.apb1, "apb2": tree.apb2}[board.uart.bus]
    if board.uart.clock_hz != hz:
        yield f"clock_hz = {board.uart.clock_hz}, but {board.uart.bus} runs at {float(hz):.0f}"


def _baud_rate_is_near(board: Board) -> Iterator[str]:
    if board.uart is None:
        return
    for name, hz in (("clock_hz", board.uart.clock_hz), ("reset_clock_hz", board.uart.reset_clock_hz)):
        if not baud_is_near(board.uart, hz, board.uart.baud):
            yield f"{board.uart.baud} baud out of {name} = {hz} would be {actual_baud(board.uart, hz, board.uart.baud)}"
    if board.uart.baud not in reachable_bauds(board):
        yield f"starts with {board.uart.baud} baud, which the link does not try"


def _uart_and_pins_are_whole(board: Board) -> Iterator[str]:
    if board.is_host:
        if board.uart is not None or board.clock is not None or board.pin:
            yield "the host has no UART, clock or pins"
        return
    if board.uart is None or board.clock is None:
        yield "no [uart] or no [clock]"
        return
    routed = board.uart.driver != "nrf"  # pins by a number
    switched = routed and board.uart.driver not in ("cmsdk", "ra_sci")  # and on, one by one
    roles = [pin.role for pin in board.pin]
    if roles != ([] if board.uart.driver == "cmsdk" else ["tx", "rx"]):
        yield f"pins for {roles}"
    parts: list[tuple[str, object, bool]] = [("[uart]", board.uart, switched or board.uart.driver == "ra_sci")]
    parts += [("[[pin]] " + pin.name, pin, switched) for pin in board.pin]
    for name, part, wanted in parts:
        enabled = [getattr(part, f"enable_{key}") is not None for key in ("name", "register", "bit")]
        if enabled != [wanted] * 3:
            yield f"{name}: enable_name, enable_register, enable_bit are {'' if wanted else 'not '}wanted"
    for pin in board.pin:
        if (pin.function is not None) != routed:
            yield f"{pin.name}: function is {'' if routed else 'not '}wanted"
        if pin.pin > 31 or (pin.function or 0) > 31 or (pin.enable_bit or 0) > 31:
            yield f"{pin.name}: a number past 31"
    if board.uart.irq > 495:
        yield f"irq = {board.uart.irq}; no core has more than 496 interrupts"


def _counter_is_whole(board: Board) -> Iterator[str]:
    counter = board.counter
    if (counter.driver == "clock_gettime") != board.is_host:
        yield f"{counter.driver} on {board.core}"
    if counter.driver == "dwt" and (board.core in ("cortex-m0", "cortex-m0plus") or counter.hz != board.clock_hz):
        yield f"a cycle counter at {counter.hz} Hz on {board.core} at {board.clock_hz} Hz"
    if (counter.base is None) != (counter.driver in ("dwt", "clock_gettime")):
        yield f"base is {'missing' if counter.base is None else 'not known to'} {counter.driver}"
    if (counter.control is None) == (counter.driver == "sse"):
        yield f"control is {'missing' if counter.control is None else 'not known to'} {counter.driver}"
    if counter.hz < 1000:
        yield f"hz = {counter.hz} is too slow for milliseconds"


def _core_can_restart(board: Board) -> Iterator[str]:
    if board.reset == "restart" and board.core in ("cortex-m0", "cortex-m0plus", "host"):
        yield f"{board.core} has no way of restarting; expected a reset of the system"


def _link_fits_the_ram(board: Board) -> Iterator[str]:
    expected = 128 if board.ram_bytes <= 16 * 1024 else 1024
    if board.link.rx_max != expected:
        yield f"rx_max = {board.link.rx_max}; expected {expected} with {board.ram_bytes} bytes of RAM"


def _emulator_is_whole(board: Board) -> Iterator[str]:
    emulator = board.emulator
    if emulator is not None and (emulator.machine is None) == (emulator.kind == "qemu"):
        yield f"{emulator.kind} {'without' if emulator.machine is None else 'with'} a machine"
    if (emulator is not None and emulator.kind == "host") != board.is_host:
        yield f"{board.core} emulated by {emulator.kind if emulator else 'nothing'}"


def _flash_tools_name_the_image(board: Board) -> Iterator[str]:
    emulated = board.emulator is not None and board.emulator.kind in ("qemu", "host")
    if emulated == bool(board.flash) or emulated == bool(board.probe):
        yield f"{len(board.flash)} flash tools, {len(board.probe)} probes"
    for tool in board.flash:
        images = [name for name in ("{elf}", "{bin}", "{uf2}") if any(name in one for one in tool.arguments)]
        if len(images) != 1:
            yield f"{tool.tool}: {images or 'no image'}; expected one of {{elf}}, {{bin}}, {{uf2}}"
        if "{uf2}" in images and board.uf2_family is None:
            yield f"{tool.tool}: a UF2 file needs uf2_family"
    for probe in board.probe:
        if not all(0 < number <= 0xFFFF for number in (probe.vid, *probe.pids)):
            yield f"probe {probe.vid:04x}: USB numbers have 16 bits"


RULES: dict[str, Callable[[Board], Iterator[str]]] = {
    rule.__name__.strip("_").replace("_", " "): rule
    for rule in (
        _says_how_it_was_tested,
        _fpu_belongs_to_the_core,
        _memories_are_apart,
        _everything_has_one_place,
        _clock_has_the_numbers_of_its_driver,
        _clock_arithmetic_holds,
        _pll_is_in_its_range,
        _buses_are_slow_enough,
        _flash_waits_long_enough,
        _uart_has_the_clock_it_says,
        _baud_rate_is_near,
        _uart_and_pins_are_whole,
        _counter_is_whole,
        _core_can_restart,
        _link_fits_the_ram,
        _emulator_is_whole,
        _flash_tools_name_the_image,
    )
}
