"""The STM32F7's flash interface: wait states and accelerator. Source: RM0385, 3.7."""

from __future__ import annotations

from collections.abc import Callable

from tinymbn.emulators.virtual_mcu.mcu import VirtualMcu
from tinymbn.emulators.virtual_mcu.registers import Peripheral, Register, bits


class Flash(Peripheral):
    """FLASH; programming it is reported.

    Args:
        mcu: the chip.
        on_change: called behind each write of wait states.
    """

    def __init__(self, mcu: VirtualMcu, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        registers = [
            Register("ACR", 0x00, writable=bits((3, 0), 8, 9, 11)),
            Register("KEYR", 0x04, write_only=True),
            Register("OPTKEYR", 0x08, write_only=True),
            Register("SR", 0x0C, writable=bits((8, 0)), read_only=bits(16)),
            Register("CR", 0x10, 0x80000000, writable=bits((9, 0), (16, 15), 24, 25, 31)),
            Register("OPTCR", 0x14, 0xC0FFAAFD, writable=bits((7, 0), (31, 8))),
            Register("OPTCR1", 0x18, 0x00400080),
        ]
        super().__init__("FLASH", 0x40023C00, 0x400, registers, mcu.findings)

    @property
    def wait_states(self) -> int:
        """Of each access."""
        return self.field("ACR", 3, 0)

    def on_write(self, register: Register, value: int) -> None:  # noqa: D102
        if register.name != "ACR":
            self.report(register.name, "written; firmware has no business in the flash", value)
            return
        if value & bits(11) and self["ACR"] & bits(9):
            self.report("ACR", "ARTRST set while the accelerator is enabled", value)
        self["ACR"] = value
        self._on_change()
