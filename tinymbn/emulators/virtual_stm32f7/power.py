"""The STM32F7's voltage scale and over-drive. Sources: RM0385, 4.1.4 and 4.4."""

from __future__ import annotations

from collections.abc import Callable

from tinymbn.emulators.virtual_mcu.mcu import VirtualMcu
from tinymbn.emulators.virtual_mcu.registers import Register, bits
from tinymbn.emulators.virtual_stm32f7.reset_and_clock import ClockedPeripheral, ResetAndClock

_REGULATOR_S = 50e-6  # over-drive and voltage scale
_ODEN, _ODSWEN = 1 << 16, 1 << 17  # of PWR_CR1; their ready flags are the same bits of PWR_CSR1
_VOSRDY = 1 << 14


class Power(ClockedPeripheral):
    """PWR.

    Args:
        rcc: the chip's.
        mcu: the chip.
        on_change: called behind each write.
    """

    def __init__(self, rcc: ResetAndClock, mcu: VirtualMcu, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._ready_s: dict[int, float] = {}
        registers = [
            Register("CR1", 0x00, 0x0000C000, writable=bits(0, 1, (11, 3), (19, 13))),
            Register("CSR1", 0x04, writable=bits(8, 9), read_only=bits((3, 0), 14, 16, 17, (19, 18))),
            Register("CR2", 0x08, writable=bits((5, 0), (13, 8))),
            Register("CSR2", 0x0C, writable=bits((13, 8)), read_only=bits((5, 0))),
        ]
        super().__init__("PWR", 0x40007000, registers, rcc, "APB1ENR", 28, mcu)

    def reset(self) -> None:  # noqa: D102
        super().reset()
        self._ready_s.clear()

    @property
    def scale(self) -> int:
        """VOS: 1 to 3, of which 3 is the highest voltage."""
        return self.field("CR1", 15, 14)

    def ready(self, flag: int) -> bool:
        """Whether a state is reached, by its flag in CSR1."""
        return bool(self.on_read(self.registers[4]) & flag)

    @property
    def over_drive(self) -> bool:
        """Whether over-drive is on and switched to."""
        return self.ready(_ODSWEN)

    def on_read(self, register: Register) -> int:  # noqa: D102
        if register.name == "CSR1":
            for flag, when_s in list(self._ready_s.items()):
                if self._mcu.time.seconds >= when_s:
                    self["CSR1"] |= flag
                    del self._ready_s[flag]
            # A new voltage scale is active only while the PLL is on.
            if self._rcc.pll_on:
                self["CSR1"] |= _VOSRDY
        return super().on_read(register)

    def on_write(self, register: Register, value: int) -> None:  # noqa: D102
        if register.name != "CR1":
            super().on_write(register, value)
            return
        old = self["CR1"]
        if value >> 14 & 3 == 0:
            self.report("CR1", "VOS 0 is reserved", value)
        if (value ^ old) & bits(15, 14) and self._rcc.pll_on:
            self.report("CR1", "VOS changed while the PLL is on", value)
        if value & ~old & _ODEN and self._rcc.source == "PLL":
            self.report("CR1", "over-drive enabled while the system clock comes from the PLL", value)
        if value & ~old & _ODSWEN and not self.ready(_ODEN):
            self.report("CR1", "ODSWEN set before ODRDY", value)
        for flag in (_ODEN, _ODSWEN):
            if value & ~old & flag:
                self._ready_s[flag] = self._mcu.time.seconds + _REGULATOR_S
            elif old & ~value & flag:
                self._ready_s.pop(flag, None)
                self["CSR1"] &= ~flag
        self["CR1"] = value
        self._on_change()
