"""Register addresses and bits against the vendors' SVD files, where those are.

``TINYMBN_SVD`` names a folder with such files; their licences keep them out of the project.
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from tinymbn.board import Counter, Pin, Uart, load_board
from tinymbn_codegen.board_files import board_files

FOLDER = os.environ.get("TINYMBN_SVD")
# Files that describe a board's chip, the best first, in any case of letters.
CHIPS = {
    "netduinoplus2": ("stm32f405.svd",),
    "stm32f7": ("stm32f746.svd", "stm32f7x6.svd"),
    "stm32f746g-disco": ("stm32f746.svd", "stm32f7x6.svd"),
    "nucleo-f446re": ("stm32f446.svd",),
    "nucleo-l4r5zi": ("stm32l4r5.svd", "stm32l4x5.svd"),
    "nucleo-h743zi": ("stm32h743.svd",),
    "nucleo-n657x0-q": ("stm32n657.svd", "stm32n657x0.svd"),
    "nrf52840dk": ("nrf52840.svd",),
    "pico": ("rp2040.svd",),
    "pico2": ("rp2350.svd",),
    "ek-ra8d1": ("r7fa8d1bh.svd",),
}


@dataclass
class Chip:
    """Registers and fields by address; names in several spellings."""

    bases: set[int] = field(default_factory=set)
    registers: dict[int, set[str]] = field(default_factory=dict)
    fields: dict[int, dict[str, tuple[int, int]]] = field(default_factory=dict)  # address: name: (bit, width)
    interrupts: dict[int, set[str]] = field(default_factory=dict)


def _number(element: ElementTree.Element | None) -> int:
    return int(element.text or "0", 0) if element is not None else 0


def _bits(one: ElementTree.Element) -> tuple[int, int]:
    bit_range = one.findtext("bitRange")
    if bit_range:
        high, low = map(int, bit_range.strip("[]").split(":"))
        return low, high - low + 1
    if one.find("lsb") is not None:
        return _number(one.find("lsb")), _number(one.find("msb")) - _number(one.find("lsb")) + 1
    return _number(one.find("bitOffset")), _number(one.find("bitWidth"))


@cache
def chip(path: Path) -> Chip:
    found = Chip()
    peripherals = ElementTree.parse(path).getroot().findall(".//peripheral")
    by_name = {p.findtext("name", ""): p for p in peripherals}
    for peripheral in peripherals:
        name, base = peripheral.findtext("name", ""), _number(peripheral.find("baseAddress"))
        found.bases.add(base)
        for interrupt in peripheral.findall("interrupt"):
            found.interrupts.setdefault(_number(interrupt.find("value")), set()).add(interrupt.findtext("name", ""))
        parent = peripheral
        while parent.find("registers") is None and parent.get("derivedFrom"):
            parent = by_name[parent.get("derivedFrom", "")]
        for register in parent.findall("registers/register") + parent.findall("registers/cluster/register"):
            address = base + _number(register.find("addressOffset"))
            short = register.findtext("name", "").upper()
            found.registers.setdefault(address, set()).update({short, f"{name.upper()}_{short}"})
            fields = found.fields.setdefault(address, {})
            for one in register.findall(".//field"):
                fields[one.findtext("name", "").upper()] = _bits(one)
    return found


def chip_of(board: str) -> Chip:
    if FOLDER is None:
        pytest.skip("TINYMBN_SVD is not set")
    there = {path.name.lower(): path for path in Path(FOLDER).iterdir()}
    for name in CHIPS[board]:
        if name in there:
            return chip(there[name])
    pytest.skip(f"no {' or '.join(CHIPS[board])} in TINYMBN_SVD")


@pytest.mark.parametrize("name", CHIPS)
def test_board_facts_are_those_of_the_chip(name: str) -> None:
    facts, board = chip_of(name), load_board(name)
    assert board.uart is not None
    assert board.uart.base in facts.bases
    numbers = {irq for irq, names in facts.interrupts.items() if any(board.uart.name in one.upper() for one in names)}
    if numbers:  # the STM32L4x5 file leaves out LPUART1's
        assert board.uart.irq in numbers
    for pin in board.pin:
        assert pin.port in facts.bases
    parts: list[Uart | Counter | Pin] = [board.uart, board.counter, *board.pin]
    for part in parts:
        if part.enable_register is not None:
            assert part.enable_name is not None
            bits = facts.fields[part.enable_register]
            assert (part.enable_bit, 1) in [bits.get(one.upper()) for one in _spellings(part.enable_name)], bits
    if board.counter.base is not None:
        assert board.counter.base in facts.bases


def _spellings(name: str) -> tuple[str, ...]:
    return name, name.replace("GPIO", "IOP"), name.replace("0", ""), name.lower()


# Where a file spells a register or field in its own way, or leaves it out.
_MISSING = {
    "PWR_CR5": "the STM32L4 files have none",
    "PWR_CR5_R1MODE": "the STM32L4 files have none",
}


def _defines(texts: dict[str, str]) -> tuple[dict[str, int], dict[str, int]]:
    """Macros that are absolute addresses, and those that are single bits."""
    addresses: dict[str, int] = {}
    bits: dict[str, int] = {}
    for name, text in texts.items():
        if not re.search(r"board/(clock_|board\.c|counter_|boot_|pins_)", name):
            continue
        addresses |= {k: int(v, 16) for k, v in re.findall(r"#define (\w+) 0x([0-9A-F]{8})u", text)}
        bits |= {k: int(v) for k, v in re.findall(r"#define (\w+) BIT\((\d+)\)", text)}
    return {k: v for k, v in addresses.items() if v < 0xE0000000}, bits


@pytest.mark.parametrize(
    "name", ["stm32f7", "nucleo-f446re", "nucleo-l4r5zi", "nucleo-h743zi", "nucleo-n657x0-q", "nrf52840dk"]
)
def test_registers_of_the_drivers_are_those_of_the_chip(name: str) -> None:
    facts = chip_of(name)
    addresses, bits = _defines(board_files(load_board(name), stack_bytes=1024))
    assert len(addresses) >= 3
    wrong = []
    for register, address in addresses.items():
        spelled = facts.registers.get(address, set())
        if register not in _MISSING and not any(_same(one, register) for one in spelled):
            wrong.append(f"{register} at {address:#x} is {sorted(spelled)}")
    for name_of_bit, bit in bits.items():
        owners = [one for one in addresses if name_of_bit.startswith(one + "_")]
        if not owners or name_of_bit in _MISSING:
            continue
        owner = max(owners, key=len)
        fields = facts.fields.get(addresses[owner], {})
        short = name_of_bit.removeprefix(owner + "_")
        if not any(start <= bit < start + width and _same(one, short) for one, (start, width) in fields.items()):
            wrong.append(f"{name_of_bit} = bit {bit}, but {owner} has {fields}")
    assert not wrong, "\n".join(wrong)


def _same(one: str, other: str) -> bool:
    """Whether two spellings mean the same: one is the end of the other, or begins it."""
    one, other = one.replace("_", "").upper(), other.replace("_", "").upper()
    return one in other or other in one
