"""The board's side of a firmware folder: start-up, drivers, linker script, and its numbers as a header."""

from __future__ import annotations

import struct
from pathlib import Path

import jinja2

from tinymbn.board import Board, Memory, Use
from tinymbn.errors import BoardError
from tinymbn.paths import FIRMWARE_TEMPLATES

_TEMPLATES = FIRMWARE_TEMPLATES / "board"
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_TEMPLATES),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701  # the output is C
)

_CORE_FILES = ("board.h", "drivers.h", "cortex_m.h", "board_memory.h", "startup.c", "idle.c", "memory.c")
_CLOCK_FILES: dict[str, tuple[str, ...]] = {
    "fixed": (),
    "stm32f4": ("clock_stm32f4_f7.c",),
    "stm32f7": ("clock_stm32f4_f7.c",),
    "stm32h7": ("clock_stm32h7.c",),
    "stm32l4": ("clock_stm32l4.c",),
    "stm32n6": ("clock_stm32n6.c",),
    "nrf52": ("clock_nrf52.c",),
    "rp2040": ("clock_rp2.c", "pins_rp2.c", "rp2.h"),
    "rp2350": ("clock_rp2.c", "pins_rp2.c", "rp2.h", "boot_rp2350.c"),
    "ra8": ("clock_ra8.c", "ra8.h"),
}
_UART_FILES: dict[str, tuple[str, ...]] = {
    "cmsdk": ("uart_cmsdk.c",),
    "stm32_v1": ("uart_stm32_v1.c", "uart_stm32.h", "uart_stm32_divider.c", "pins_stm32.c"),
    "stm32_v2": ("uart_stm32_v2.c", "uart_stm32.h", "uart_stm32_divider.c", "pins_stm32.c"),
    "stm32_lpuart": ("uart_stm32_v2.c", "uart_stm32.h", "uart_stm32_lpuart.c", "pins_stm32.c"),
    "pl011": ("uart_pl011.c",),
    "nrf": ("uart_nrf.c",),
    "ra_sci": ("uart_ra_sci.c", "ra8.h"),
}

_BOOT_RP2040 = (  # boot_rp2040.s, assembled; a test assembles it again
    *(0xA113A005, 0x6013C80C, 0xD1FB4288, 0x68596818, 0x8808F380, 0x46C04708),
    *(0x18000008, 0x00000000, 0x18000014, 0x00000004, 0x18000000, 0x001F0300),
    *(0x18000004, 0x00000000, 0x180000F4, 0x03000218, 0x18000008, 0x00000001),
    *(0xE000ED08, 0x10000100),
)

LINK_FLAGS = ("-nostdlib", "-Wl,--gc-sections", "-Wl,--fatal-warnings", "-Wl,-T,board/linker.ld")
"""For gcc, run in the firmware's folder, before ``-lgcc``."""

ZIG_LINK_FLAGS = ("-Wl,--gc-sections", "-Wl,--entry=board_reset_handler", "-Wl,-T,board/linker.ld")
"""For zig, which brings its own run-time functions unless it is told ``-nostdlib``."""


def board_files(board: Board, *, stack_bytes: int) -> dict[str, str]:
    """Every board-side file of a firmware folder, by its path in there.

    Args:
        board: whose.
        stack_bytes: to reserve, a multiple of 8; of no effect on the host.

    Raises:
        BoardError: the board's folder has no ``board.c``, or its memories leave something without a place.
    """
    texts = {"board_config.h": _render("board_config.h.j2", title=board.title, definitions=_definitions(board))}
    names: tuple[str, ...] = ("board.h",)
    if not board.is_host:
        assert board.clock is not None
        assert board.uart is not None
        names = (
            *_CORE_FILES,
            *_CLOCK_FILES[board.clock.driver],
            *_UART_FILES[board.uart.driver],
            f"counter_{board.counter.driver}.c",
        )
        texts["linker.ld"] = _linker_script(board, stack_bytes)
        if board.clock.driver == "rp2040":
            assembly = (_TEMPLATES / "boot_rp2040.s").read_text(encoding="utf-8").splitlines()
            texts["boot_rp2040.c"] = _render("boot_rp2040.c.j2", assembly=assembly, words=_four_a_line(boot2_words()))
    texts |= {name: (_TEMPLATES / name).read_text(encoding="utf-8") for name in names}
    texts["board.c"] = _board_c(board.folder)
    return {f"board/{name}": texts[name] for name in sorted(texts)}


def board_sources(board: Board) -> tuple[str, ...]:
    """The C files among ``board_files``, in order."""
    return tuple(name for name in board_files(board, stack_bytes=1024) if name.endswith(".c"))


def boot2_crc(data: bytes) -> int:
    """The checksum that RP2040's boot ROM wants after the first 252 bytes of the flash.

    CRC-32 with polynomial 0x04C11DB7, from all ones, most significant bit first, not inverted at the end.

    Source: RP2040 datasheet 2.8.1.3.1.
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc


def boot2_words() -> tuple[int, ...]:
    """RP2040's second-stage boot loader, 64 words, the last of which is its checksum."""
    words = (*_BOOT_RP2040, *(0 for _ in range(63 - len(_BOOT_RP2040))))
    return (*words, boot2_crc(struct.pack("<63I", *words)))


def _four_a_line(words: tuple[int, ...]) -> list[str]:
    return [" ".join(f"{_address(word)}," for word in words[i : i + 4]) for i in range(0, len(words), 4)]


def _render(template: str, **view: object) -> str:
    return _ENVIRONMENT.get_template(template).render(**view)


def _board_c(folder: Path) -> str:
    try:
        return (folder / "board.c").read_text(encoding="utf-8")
    except OSError as cause:
        raise BoardError(f"{folder / 'board.c'}: cannot be read: {cause.strerror}") from cause


def _address(value: int) -> str:
    return f"0x{value:08X}u"


def _definitions(board: Board) -> list[tuple[str, str]]:
    """Macros and their values, in order."""
    core, counter = board.core, board.counter
    found: list[tuple[str, str]] = [
        ("BOARD_NAME", f'"{board.name}"'),
        ("BOARD_CORE", f'"{core}"'),
        ("BOARD_BAUD", f"{board.baud}u"),
        ("BOARD_RX_MAX", f"{board.link.rx_max}u"),
        ("BOARD_CLOCK_HZ", f"{board.clock_hz}u"),
        ("BOARD_COUNTER_NAME", f'"{counter.driver}"'),
        ("BOARD_COUNTER_HZ", f"{counter.hz}u"),
        ("BOARD_COUNTER_BITS", f"{counter.bits}"),
        ("BOARD_COUNTER_MASK", _address((1 << counter.bits) - 1)),
    ]
    if board.is_host:
        return found
    found += [
        ("BOARD_IS_MAINLINE", _flag(core not in ("cortex-m0", "cortex-m0plus"))),
        ("BOARD_HAS_VTOR", _flag(core != "cortex-m0")),
        ("BOARD_HAS_FPU", _flag(board.has_fpu)),
        ("BOARD_HAS_CACHES", _flag(core in ("cortex-m7", "cortex-m55", "cortex-m85"))),
        ("BOARD_HAS_DWT_LOCK", _flag(core == "cortex-m7")),
        ("BOARD_HAS_LOB", _flag(core in ("cortex-m55", "cortex-m85"))),
        ("BOARD_IS_CORTEX_M85", _flag(core == "cortex-m85")),
        ("BOARD_RESTARTS", _flag(board.reset == "restart")),
        ("BOARD_SLEEPS", _flag(board.idle == "wfi")),
        ("BOARD_COUNTER_SLEEPS", _flag(counter.driver == "dwt")),
    ]
    found += _block("BOARD_COUNTER", counter, ("base", "control", "enable_register"), ("divider", "enable_bit"))
    assert board.clock is not None
    assert board.uart is not None
    if board.clock.driver != "fixed":
        found += [
            ("BOARD_SOURCE_HZ", f"{board.clock.source_hz}u"),
            ("BOARD_CLOCK_STM32F7", _flag(board.clock.driver == "stm32f7")),
            ("BOARD_CLOCK_RP2350", _flag(board.clock.driver == "rp2350")),
            ("BOARD_CLOCK_HSE", _flag(board.clock.source in ("hse", "hse-bypass"))),
            ("BOARD_CLOCK_HSE_BYPASS", _flag(board.clock.source == "hse-bypass")),
        ]
        plls = ("pll_m", "pll_n", "pll_p", "pll_q", "pll_r", "ic1_divider", "ic2_divider")
        found += _block("BOARD", board.clock, (), (*plls, "ahb_divider", "apb1_divider", "apb2_divider", "wait_states"))
        if board.clock.over_drive is not None:
            found.append(("BOARD_OVER_DRIVE", _flag(board.clock.over_drive)))
    found += [
        ("BOARD_UART_HZ", f"{board.uart.clock_hz}u"),
        ("BOARD_UART_RESET_HZ", f"{board.uart.reset_clock_hz}u"),
    ]
    found += _block("BOARD_UART", board.uart, ("base", "enable_register"), ("irq", "enable_bit"))
    for pin in board.pin:
        found += _block(
            f"BOARD_{pin.role.upper()}", pin, ("port", "enable_register"), ("pin", "function", "enable_bit")
        )
    return found


def _flag(yes: bool) -> str:
    return "1" if yes else "0"


def _block(prefix: str, facts: object, addresses: tuple[str, ...], numbers: tuple[str, ...]) -> list[tuple[str, str]]:
    """The facts that are there, as macros with a prefix."""
    there = [(name, getattr(facts, name)) for name in (*addresses, *numbers)]
    return [
        (f"{prefix}_{name.upper()}", _address(value) if name in addresses else f"{value}u")
        for name, value in there
        if value is not None
    ]


def _linker_script(board: Board, stack_bytes: int) -> str:
    places: dict[Use, str] = {use: board.region(use).name for use in ("code", "weights", "data", "stack", "arena")}
    has_boot = any("boot" in memory.use for memory in board.memory)
    return _render(
        "linker.ld.j2",
        title=board.title,
        regions=[_region(memory) for memory in board.memory if memory.use != ("unused",)],
        boot=board.region("boot").name if has_boot else None,
        **places,
        weights_segment="code" if places["weights"] == places["code"] else "weights",
        stack_bytes=stack_bytes,
    )


def _region(memory: Memory) -> dict[str, str]:
    return {
        "name": memory.name,
        "access": "rx" if memory.kind == "flash" else "rwx",
        "base": f"0x{memory.base:08X}",
        "size": f"0x{memory.size:08X}",
    }
