"""A board as data: what its ``board.toml`` says, read strictly, and what follows from it for compiler and linker."""

from __future__ import annotations

import re
import sys
import types
import typing
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from tinymbn.errors import BoardError
from tinymbn.files import read_file
from tinymbn.paths import BOARDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Core = Literal[
    "cortex-m0",
    "cortex-m0plus",
    "cortex-m3",
    "cortex-m4",
    "cortex-m7",
    "cortex-m33",
    "cortex-m55",
    "cortex-m85",
    "host",
]
Fpu = Literal["none", "fpv4-sp-d16", "fpv5-sp-d16", "fpv5-d16", "mve"]
Use = Literal["boot", "code", "weights", "data", "stack", "arena", "unused"]

RX_MAX = (128, 2048)  # shorter frames would carry little but their own header
_MOST_BYTES = 1 << 16  # of a board.toml
_Table = TypeVar("_Table")

_GCC_FPU: dict[Fpu, tuple[str, ...]] = {
    "none": ("-mfloat-abi=soft",),
    "fpv4-sp-d16": ("-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
    "fpv5-sp-d16": ("-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"),
    "fpv5-d16": ("-mfpu=fpv5-d16", "-mfloat-abi=hard"),
    "mve": ("-mfloat-abi=hard", "-fno-tree-vectorize"),
}
"""gcc 12 gets masks wrong in loops that it vectorises for MVE by itself: tests/test_mve.py. Kernels are assembler."""

# GCC has the Cortex-M85's name from 13 on. The two run the same instructions but for PACBTI, which nothing here uses.
_GCC_CPU: dict[Core, str] = {"cortex-m85": "cortex-m55"}
# zig spells features out; a core of its names has the largest FPU that the core may have.
_ZIG_CPU: dict[tuple[Core, Fpu], str] = {
    ("cortex-m0", "none"): "cortex_m0",
    ("cortex-m0plus", "none"): "cortex_m0plus",
    ("cortex-m3", "none"): "cortex_m3",
    ("cortex-m4", "fpv4-sp-d16"): "cortex_m4",
    ("cortex-m7", "fpv5-sp-d16"): "cortex_m7-fp64",
    ("cortex-m7", "fpv5-d16"): "cortex_m7",
    ("cortex-m33", "fpv5-sp-d16"): "cortex_m33+dsp",
    ("cortex-m55", "mve"): "cortex_m55+mve",
    ("cortex-m85", "mve"): "cortex_m85+mve",
}


@dataclass(frozen=True)
class Memory:
    """One piece of address space.

    Attributes:
        name: of the region in the linker script.
        base: first address.
        size: in bytes.
        kind: "flash" is what a flash tool or emulator fills before reset, "ram" what is written at run time.
        use: what is placed here.
    """

    name: str
    base: int
    size: int
    kind: Literal["ram", "flash"]
    use: tuple[Use, ...]

    @property
    def end(self) -> int:
        """The first address past it."""
        return self.base + self.size


@dataclass(frozen=True)
class Clock:
    """How the core gets its clock.

    Attributes:
        driver: the family's ``clock_<driver>.c``; "fixed" where nothing is set up.
        source: what feeds the PLL, or everything.
        source_hz: its frequency.
        hz: of the core, which the rules compute again from the numbers below.
        pll_m, pll_n, pll_p, pll_q, pll_r: divider, multiplier and output dividers as the reference manual names them.
        ic1_divider, ic2_divider: of the PLL's output, for the core and for the buses (STM32N6).
        ahb_divider, apb1_divider, apb2_divider: of the buses.
        wait_states: of the flash.
        over_drive: whether the regulator's over-drive (STM32F4, F7) or boost mode (STM32L4+) is on.
    """

    driver: Literal["fixed", "stm32f4", "stm32f7", "stm32h7", "stm32l4", "stm32n6", "nrf52", "rp2040", "rp2350", "ra8"]
    source: Literal["fixed", "hsi", "hse", "hse-bypass", "xosc"]
    source_hz: int
    hz: int
    pll_m: int | None = None
    pll_n: int | None = None
    pll_p: int | None = None
    pll_q: int | None = None
    pll_r: int | None = None
    ic1_divider: int | None = None
    ic2_divider: int | None = None
    ahb_divider: int | None = None
    apb1_divider: int | None = None
    apb2_divider: int | None = None
    wait_states: int | None = None
    over_drive: bool | None = None


@dataclass(frozen=True)
class Uart:
    """The UART that the host's serial port ends at.

    Attributes:
        name: in the reference manual.
        driver: the block's ``uart_<driver>.c``.
        base: address of its registers.
        bus: whose clock feeds it.
        clock_hz: of that clock.
        reset_clock_hz: of that clock where the bring-up failed, so that the board can still say so.
        irq: number of its interrupt, which ends WFI.
        baud: the rate it starts with.
        enable_name, enable_register, enable_bit: what clocks it (STM32), stops it (RA8), or holds it in reset
            (RP2040, RP2350).
    """

    name: str
    driver: Literal["cmsdk", "stm32_v1", "stm32_v2", "stm32_lpuart", "pl011", "nrf", "ra_sci"]
    base: int
    bus: Literal["fixed", "core", "apb1", "apb2"]
    clock_hz: int
    reset_clock_hz: int
    irq: int
    baud: int
    enable_name: str | None = None
    enable_register: int | None = None
    enable_bit: int | None = None


@dataclass(frozen=True)
class Pin:
    """One of the UART's two pins; ``enable_*`` and ``function`` where the family has such."""

    role: Literal["tx", "rx"]
    name: str
    port: int
    pin: int
    function: int | None = None
    enable_name: str | None = None
    enable_register: int | None = None
    enable_bit: int | None = None


@dataclass(frozen=True)
class Counter:
    """What ``board_cycles()`` reads.

    Attributes:
        driver: the block's ``counter_<driver>.c``.
        hz: how fast it counts.
        bits: how wide it is.
        base: address of its registers, but for the core's own.
        control: address of the register that starts it, where it stands apart.
        divider: of the clock before it.
        enable_name, enable_register, enable_bit: what clocks it.
    """

    driver: Literal["dwt", "cmsdk", "sse", "nrf_timer", "stm32_tim", "rp2040", "clock_gettime"]
    hz: int
    bits: Literal[24, 32]
    base: int | None = None
    control: int | None = None
    divider: int | None = None
    enable_name: str | None = None
    enable_register: int | None = None
    enable_bit: int | None = None


@dataclass(frozen=True)
class Link:
    """What the firmware reserves for the serial link: bytes of the largest payload it takes."""

    rx_max: int


@dataclass(frozen=True)
class Emulator:
    """What runs this board's firmware on a PC: QEMU with a machine, the virtual STM32F7, or the PC itself."""

    kind: Literal["qemu", "stm32f7", "host"]
    machine: str | None = None


@dataclass(frozen=True)
class FlashTool:
    """One way of bringing an image onto the board.

    Attributes:
        tool: the program, or "copy" for a file put onto a drive that the board shows.
        arguments: with ``{elf}``, ``{bin}`` or ``{uf2}`` for the image; for "copy" the image and the drive's labels.
    """

    tool: Literal["openocd", "st-flash", "pyocd", "probe-rs", "picotool", "copy"]
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Probe:
    """A USB device that may be this board's serial port; without pids any product of the vendor."""

    vid: int
    pids: tuple[int, ...]


@dataclass(frozen=True)
class Board:
    """A board, as its folder describes it.

    Attributes:
        name: of the folder, and of ``--board``.
        title: for people.
        core: in Arm's and GCC's spelling, or "host".
        fpu: in GCC's spelling; "mve" for that of M55 and M85.
        idle: "wfi" sleeps until the UART's interrupt is pending, "poll" keeps looking.
        tested: what its firmware ran on.
        sources: documents the facts are from.
        link: sizes of the serial link.
        counter: what ``board_cycles()`` reads.
        memory: pieces of address space, in order of address.
        clock, uart: nothing on the host.
        pin: nothing where the pins are not switched.
        emulator: nothing where none shows the board.
        flash: ways of flashing, the first to be tried first.
        probe: USB devices.
        uf2_family: the boot loader's number for UF2 files.
        reset: what ``board_reset()`` does: "system" resets the chip, "restart" begins again with the reset handler,
            where a reset of the chip would clear the RAM that the image lies in.
        folder: where this was read from.
    """

    name: str
    title: str
    core: Core
    fpu: Fpu
    idle: Literal["wfi", "poll"]
    tested: str
    sources: tuple[str, ...]
    link: Link
    counter: Counter
    memory: tuple[Memory, ...]
    folder: Path
    clock: Clock | None = None
    uart: Uart | None = None
    pin: tuple[Pin, ...] = ()
    emulator: Emulator | None = None
    flash: tuple[FlashTool, ...] = ()
    probe: tuple[Probe, ...] = ()
    uf2_family: int | None = None
    reset: Literal["system", "restart"] = "system"

    @property
    def is_host(self) -> bool:
        """Whether this is the PC itself."""
        return self.core == "host"

    @property
    def has_fpu(self) -> bool:
        """Whether access to the coprocessors of FPU and MVE has to be switched on."""
        return self.fpu != "none"

    @property
    def clock_hz(self) -> int:
        """Of the core; 0 where nobody knows, on the host."""
        return self.clock.hz if self.clock is not None else 0

    @property
    def baud(self) -> int:
        """The rate the firmware starts with; a pseudo-terminal takes any."""
        return self.uart.baud if self.uart is not None else 115200

    def region(self, use: Use) -> Memory:
        """The memory that is used for something.

        Raises:
            BoardError: none is, or several are.
        """
        found = [memory for memory in self.memory if use in memory.use]
        if len(found) != 1:
            raise BoardError(
                f'board "{self.name}": {len(found)} memories are for {use}; expected one; see {self.folder}'
            )
        return found[0]

    @property
    def ram_bytes(self) -> int:
        """Of all memories that data, stack and arena go to."""
        return sum(m.size for m in self.memory if m.kind == "ram" and m.use != ("unused",))

    @property
    def flash_bytes(self) -> int:
        """Of all memories that code and weights go to."""
        return sum(m.size for m in self.memory if m.kind == "flash" and m.use != ("unused",))

    @property
    def gcc_flags(self) -> tuple[str, ...]:
        """``-mcpu`` and what belongs to it; nothing on the host.

        The firmware computes with integers alone. It has the hard-float ABI all the same wherever there is an FPU:
        the vendors' projects have it, and the linker does not mix the two, so a generated library can be linked
        there. MVE has no other. Start-up opens the FPU before any C runs.
        """
        return () if self.is_host else (f"-mcpu={_GCC_CPU.get(self.core, self.core)}", "-mthumb", *_GCC_FPU[self.fpu])

    @property
    def zig_flags(self) -> tuple[str, ...]:
        """The same for ``zig cc``; nothing on the host.

        Raises:
            BoardError: a core and FPU that zig has no name for here.
        """
        if self.is_host:
            return ()
        cpu = _ZIG_CPU.get((self.core, self.fpu))
        if cpu is None:
            raise BoardError(f'board "{self.name}": no zig name for {self.core} with FPU {self.fpu}; use gcc')
        return ("-target", "thumb-freestanding-eabihf" if self.has_fpu else "thumb-freestanding-eabi", f"-mcpu={cpu}")


def known_boards() -> tuple[Board, ...]:
    """All boards that ship, by name."""
    return tuple(_read_board(folder) for folder in _folders())


def load_board(name_or_folder: str) -> Board:
    """A board that ships, by its name, or any other by the folder with its ``board.toml``.

    Raises:
        BoardError: there is no such board, or its ``board.toml`` is wrong.
    """
    folders = {folder.name: folder for folder in _folders()}
    if name_or_folder in folders:
        return _read_board(folders[name_or_folder])
    folder = Path(name_or_folder)
    if (folder / "board.toml").is_file():
        return _read_board(folder.resolve())
    raise BoardError(f'no board "{name_or_folder}"; known boards: {", ".join(folders)}')


def _folders() -> list[Path]:
    return sorted((file.parent for file in BOARDS.glob("*/board.toml")), key=lambda folder: folder.name)


def _read_board(folder: Path) -> Board:
    file = folder / "board.toml"
    try:
        table = tomllib.loads(read_file(file, BoardError, _MOST_BYTES).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise BoardError(f"{file}: not TOML: {cause}") from cause
    if "folder" in table:
        raise BoardError(f'{file}: unknown key "folder"')
    board = _from_table(Board, {**table, "folder": folder}, f"{file}")
    if board.name != folder.name:
        raise BoardError(f'{file}: name "{board.name}" in folder "{folder.name}"; expected the folder\'s name')
    _check_texts(board, file)
    return board


def _check_texts(board: Board, file: Path) -> None:
    """Refuse what could not become C, a linker script or a link, whatever else may be wrong with it."""
    for what, text in (("name", board.name), ("title", board.title)):
        if not text.isprintable() or set(text) & set('"\\'):
            raise BoardError(f"{file}: {what} {text!r}; expected one line without quotes and backslashes")
    names = [memory.name for memory in board.memory]
    for name in names:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or names.count(name) > 1:
            raise BoardError(f"{file}: memory {name!r}; expected names of letters, digits and _, each once")
    low, high = RX_MAX
    if not low <= board.link.rx_max <= high:
        raise BoardError(f"{file}: rx_max {board.link.rx_max}; expected {low} to {high}")


def _from_table(cls: type[_Table], table: dict[str, Any], where: str) -> _Table:
    """A dataclass from a TOML table with exactly its fields; those with defaults may be missing."""
    assert is_dataclass(cls)
    hints = typing.get_type_hints(cls)
    known = {field.name: field for field in fields(cls)}
    unknown = [key for key in table if key not in known]
    if unknown:
        raise BoardError(f'{where}: unknown key "{unknown[0]}"; expected {", ".join(known)}')
    missing = [name for name, field in known.items() if name not in table and field.default is MISSING]
    if missing:
        raise BoardError(f'{where}: key "{missing[0]}" is missing')
    return cls(**{key: _value(hints[key], value, f"{where}: {key}") for key, value in table.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    """A TOML value as the type of a field, or BoardError."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):  # a type or None, which TOML does not have
        return _value(next(k for k in typing.get_args(kind) if k is not type(None)), value, where)
    if origin is Literal:
        if value not in typing.get_args(kind):
            raise BoardError(f"{where}: {value!r}; expected one of {', '.join(map(repr, typing.get_args(kind)))}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise BoardError(f"{where}: {value!r}; expected a list")
        return tuple(_value(typing.get_args(kind)[0], one, f"{where}[{i}]") for i, one in enumerate(value))
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise BoardError(f"{where}: {value!r}; expected a table")
        return _from_table(typing.cast(type[Any], kind), value, where)
    if not isinstance(value, kind) or (kind is int and (isinstance(value, bool) or value < 0)):
        raise BoardError(f"{where}: {value!r}; expected {kind.__name__}")
    return value
