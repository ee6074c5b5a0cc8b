"""Registers that are stricter than a chip's: what a manual does not allow is reported."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from tinymbn.emulators.virtual_mcu.findings import Findings

WORD = 0xFFFFFFFF


@functools.cache  # asked for at each access
def bits(*ranges: int | tuple[int, int]) -> int:
    """A mask out of bit numbers and (highest, lowest) pairs, as manuals write them."""
    mask = 0
    for item in ranges:
        high, low = item if isinstance(item, tuple) else (item, item)
        mask |= (1 << (high + 1)) - (1 << low)
    return mask


@dataclass(frozen=True)
class Register:
    """One 32-bit register; a bit that is neither writable nor read-only is reserved and keeps its reset value.

    Attributes:
        name: the manual's.
        offset: from the peripheral's base.
        reset: value after a reset.
        writable: mask of bits that software sets.
        read_only: mask of bits that hardware sets; what is written there is ignored.
        write_only: reading makes no sense, and is reported.
    """

    name: str
    offset: int
    reset: int = 0
    writable: int = WORD
    read_only: int = 0
    write_only: bool = False


class Peripheral:
    """Registers at a base address; a kind of peripheral overrides ``on_read`` and ``on_write``.

    Args:
        name: such as ``RCC``; a register is reported as ``RCC_CR``.
        base: first address.
        size_bytes: of its address range.
        registers: all there are.
        findings: where to report.
    """

    def __init__(
        self, name: str, base: int, size_bytes: int, registers: Iterable[Register], findings: Findings
    ) -> None:
        self.name, self.base, self.size_bytes = name, base, size_bytes
        self.findings = findings
        self.registers = {register.offset: register for register in registers}
        self._by_name = {register.name: register for register in self.registers.values()}
        self._values: dict[str, int] = {}
        self.reset()

    def reset(self) -> None:
        """All registers as after a reset."""
        self._values = {name: register.reset for name, register in self._by_name.items()}

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def __setitem__(self, name: str, value: int) -> None:
        self._values[name] = value & WORD

    def field(self, name: str, high: int, low: int) -> int:
        """Bits ``high:low`` of a register."""
        return self._values[name] >> low & ((1 << (high - low + 1)) - 1)

    def report(self, register: str, problem: str, value: int | None = None) -> None:
        """A finding about a register, with the value written if there is one."""
        written = "" if value is None else f" = 0x{value:08X}"
        self.findings.add(f"{self.name}_{register}{written}: {problem}")

    def accessible(self) -> bool:
        """Whether the peripheral answers at all; one without its clock reads as 0 and ignores writes."""
        return True

    def on_read(self, register: Register) -> int:
        """The value that a read returns."""
        return self._values[register.name]

    def on_write(self, register: Register, value: int) -> None:
        """Take a value, reserved and read-only bits of which are already as they must be."""
        self._values[register.name] = value

    def read(self, offset: int, size: int) -> int:
        """What the core reads, ``size`` bytes at an offset."""
        register = self.registers.get(offset & ~3)
        if register is None:
            self.findings.add(f"{self.name}: read of 0x{self.base + offset:08X}, where there is no register")
            return 0
        if not self.accessible():
            return 0
        if register.write_only:
            self.report(register.name, "read, but it is write-only")
        if size == 4 and not offset & 3:
            return self.on_read(register)
        self.report(register.name, f"read of {size} bytes at offset {offset & 3}; access it by words")
        return self.on_read(register) >> 8 * (offset & 3) & ((1 << 8 * size) - 1)

    def write(self, offset: int, size: int, value: int) -> None:
        """Take what the core writes, ``size`` bytes at an offset."""
        register = self.registers.get(offset & ~3)
        if register is None:
            self.findings.add(
                f"{self.name}: write of 0x{value:X} to 0x{self.base + offset:08X}, where there is no register"
            )
            return
        if not self.accessible():
            return
        if size != 4 or offset & 3:
            self.report(register.name, f"write of {size} bytes at offset {offset & 3}; access it by words", value)
            mask = ((1 << 8 * size) - 1) << 8 * (offset & 3)
            value = self._values[register.name] & ~mask | value << 8 * (offset & 3) & mask
        if not register.writable:
            self.report(register.name, "written, but it is read-only", value)
            return
        reserved = WORD & ~(register.writable | register.read_only)
        if (value ^ register.reset) & reserved:
            wrong = (value ^ register.reset) & reserved
            self.report(register.name, f"reserved bits 0x{wrong:08X} differ from their reset value", value)
        kept = self._values[register.name] & register.read_only | register.reset & reserved
        self.on_write(register, value & register.writable | kept)
