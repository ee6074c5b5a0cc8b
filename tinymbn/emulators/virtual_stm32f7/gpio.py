"""The STM32F7's general-purpose ports. Source: RM0385, 6.4."""

from __future__ import annotations

from dataclasses import dataclass

from tinymbn.emulators.virtual_mcu.mcu import VirtualMcu
from tinymbn.emulators.virtual_mcu.registers import Register, bits
from tinymbn.emulators.virtual_stm32f7.reset_and_clock import ClockedPeripheral, ResetAndClock

_ALTERNATE_MODE = 2
# Ports A and B come up with the debugger's pins.
_MODER = {"A": 0xA8000000, "B": 0x00000280}
_OSPEEDR = {"A": 0x0C000000, "B": 0x000000C0}
_PUPDR = {"A": 0x64000000, "B": 0x00000100}
_HALF = 0xFFFF


@dataclass(frozen=True)
class Pin:
    """A pin in the alternate function that it must have: port letter, number, function."""

    port: str
    number: int
    function: int


class Gpio(ClockedPeripheral):
    """One port, A to K."""

    def __init__(self, letter: str, index: int, rcc: ResetAndClock, mcu: VirtualMcu) -> None:
        registers = [
            Register("MODER", 0x00, _MODER.get(letter, 0)),
            Register("OTYPER", 0x04, writable=_HALF),
            Register("OSPEEDR", 0x08, _OSPEEDR.get(letter, 0)),
            Register("PUPDR", 0x0C, _PUPDR.get(letter, 0)),
            Register("IDR", 0x10, writable=0),
            Register("ODR", 0x14, writable=_HALF),
            Register("BSRR", 0x18, write_only=True),
            Register("LCKR", 0x1C, writable=bits((16, 0))),
            Register("AFRL", 0x20),
            Register("AFRH", 0x24),
        ]
        base = 0x40020000 + 0x400 * index
        super().__init__(f"GPIO{letter}", base, registers, rcc, "AHB1ENR", index, mcu)

    def on_write(self, register: Register, value: int) -> None:  # noqa: D102
        if register.name == "BSRR":
            self["ODR"] = (self["ODR"] & ~(value >> 16) | value) & _HALF  # set wins over reset
        elif register.name == "PUPDR" and any(value >> 2 * pin & 3 == 3 for pin in range(16)):
            self.report("PUPDR", "the pair 11 is reserved", value)
        else:
            super().on_write(register, value)

    def problem(self, pin: Pin) -> str | None:
        """Why a pin does not carry its alternate function; None if it does."""
        name = f"P{pin.port}{pin.number}"
        if not self.has_clock():
            return f"{name}: {self.name} has no clock (RCC_AHB1ENR)"
        if (mode := self.field("MODER", 2 * pin.number + 1, 2 * pin.number)) != _ALTERNATE_MODE:
            return f"{name}: mode {mode} in {self.name}_MODER; expected 2, alternate function"
        register, low = ("AFRL" if pin.number < 8 else "AFRH"), 4 * (pin.number % 8)
        if (function := self.field(register, low + 3, low)) != pin.function:
            return f"{name}: AF{function} in {self.name}_{register}; expected AF{pin.function}"
        return None
