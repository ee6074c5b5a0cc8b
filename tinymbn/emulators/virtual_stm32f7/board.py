"""Boards with an STM32F746: which oscillator feeds it, and which UART ends at the debugger's serial port."""

from __future__ import annotations

from dataclasses import dataclass

from tinymbn.emulators.virtual_mcu.block_counter import Memory
from tinymbn.emulators.virtual_mcu.mcu import VirtualMcu
from tinymbn.emulators.virtual_mcu.serial_line import SerialLine
from tinymbn.emulators.virtual_stm32f7.clock_tree import ClockTree
from tinymbn.emulators.virtual_stm32f7.gpio import Gpio, Pin
from tinymbn.emulators.virtual_stm32f7.reset_and_clock import HSI_HZ
from tinymbn.emulators.virtual_stm32f7.usart import Usart
from tinymbn.errors import ToolError

# RM0385, 2.2.2 (memory map) and 2.4: DTCM, SRAM1 and SRAM2 are one piece of 320 KiB.
MEMORIES = (
    Memory("flash", 0x08000000, 1 << 20, is_flash=True),
    Memory("RAM", 0x20000000, 320 * 1024),
)
_INTERRUPTS = 98  # RM0385, table 46
_PORTS = "ABCDEFGHIJK"


@dataclass(frozen=True)
class _Wiring:
    """What the board adds to the chip.

    Attributes:
        hse_hz: the oscillator at the HSE pins.
        uart: of the debugger's serial port.
        uart_base: its address.
        uart_interrupt: its line.
        transmit, receive: its pins.
    """

    hse_hz: int
    uart: str
    uart_base: int
    uart_interrupt: int
    transmit: Pin
    receive: Pin


_WIRINGS = {
    # UM1974, 6.9: USART3 to the ST-LINK, whose 8 MHz is the HSE.
    "nucleo-f746zg": _Wiring(8_000_000, "USART3", 0x40004800, 39, Pin("D", 8, 7), Pin("D", 9, 7)),
    # UM1907: USART1 to the ST-LINK, a crystal of 25 MHz.
    "stm32f746g-disco": _Wiring(25_000_000, "USART1", 0x40011000, 37, Pin("A", 9, 7), Pin("B", 7, 7)),
}


def build(machine: str, baud: int) -> tuple[VirtualMcu, str]:
    """A board out of its name, and the path of its serial port.

    Args:
        machine: the board's name.
        baud: nominal rate of the port.

    Raises:
        ToolError: there is no such board.
    """
    wiring = _WIRINGS.get(machine)
    if wiring is None:
        raise ToolError(f'no virtual STM32F7 board "{machine}"; known: {", ".join(_WIRINGS)}')
    mcu = VirtualMcu(MEMORIES, _INTERRUPTS, HSI_HZ)
    tree = ClockTree(mcu, wiring.hse_hz)
    ports = {letter: Gpio(letter, index, tree.rcc, mcu) for index, letter in enumerate(_PORTS)}
    line = SerialLine(wiring.uart, baud, mcu.time, mcu.findings)
    pins = tuple((ports[pin.port], pin) for pin in (wiring.transmit, wiring.receive))
    usart = Usart(wiring.uart, wiring.uart_base, wiring.uart_interrupt, pins, tree, line, mcu)
    mcu.add((tree.rcc, tree.power, tree.flash, *ports.values(), usart))
    mcu.set_device(usart)
    return mcu, line.port
