"""Runs a flash image from its vector table: engine, memories, dispatch to registers, sleep, faults and resets."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import Protocol

import numpy as np
from unicorn.arm_const import (
    UC_ARM_REG_BASEPRI,
    UC_ARM_REG_CONTROL,
    UC_ARM_REG_FAULTMASK,
    UC_ARM_REG_IPSR,
    UC_ARM_REG_LR,
    UC_ARM_REG_PC,
    UC_ARM_REG_PRIMASK,
    UC_ARM_REG_R0,
    UC_ARM_REG_R1,
    UC_ARM_REG_R2,
    UC_ARM_REG_R3,
    UC_ARM_REG_R12,
    UC_ARM_REG_SP,
    UC_ARM_REG_XPSR,
    UC_CPU_ARM_CORTEX_M7,
)
from unicorn.unicorn_const import (
    UC_ARCH_ARM,
    UC_HOOK_MEM_INVALID,
    UC_MEM_FETCH_PROT,
    UC_MEM_FETCH_UNMAPPED,
    UC_MEM_WRITE_PROT,
    UC_MEM_WRITE_UNMAPPED,
    UC_MODE_THUMB,
)
from unicorn.unicorn_py3.unicorn import Uc, UcError

from tinymbn.emulators.virtual_mcu.block_counter import BlockCounter, Memory
from tinymbn.emulators.virtual_mcu.cortex_m7 import SystemControl
from tinymbn.emulators.virtual_mcu.findings import Findings
from tinymbn.emulators.virtual_mcu.registers import Peripheral, Register, bits
from tinymbn.emulators.virtual_mcu.trace_unit import TraceUnit
from tinymbn.emulators.virtual_mcu.virtual_time import VirtualTime
from tinymbn.errors import ToolError

_PAGE_BYTES = 0x1000
_SLOT_BYTES = 0x400  # peripherals start at multiples of this
_NOWHERE = 0xFFFFFFFE  # an address that is never reached: emulation goes on until something stops it
_HARD_FAULT, _BUS_FAULT, _USAGE_FAULT = 3, 5, 6
_RETURN_TO_THREAD = 0xFFFFFFF9  # EXC_RETURN: thread mode, main stack, no floating-point state
# The first inferences are watched access by access; after that the same code is believed.
_STRICT_INSTRUCTIONS = 150_000_000
_LONGEST_SLEEP_S = 0.2  # real time between two looks at whether to stop


class Device(Protocol):
    """The peripheral to which something happens while the core sleeps: the UART."""

    def advance(self) -> None:
        """Let happen what is due by now."""

    def next_event_s(self) -> float | None:
        """When something is due that is known already; None if nothing is."""

    def idle(self, longest_s: float, most_s: float, *, asleep: bool) -> None:
        """Wait in real time for something from outside; ``SerialLine.idle``."""


class Lockup(Exception):  # noqa: N818 - the architecture's word
    """A fault while a fault was handled: the core has stopped for good."""


class VirtualMcu:
    """One Cortex-M7 chip without its peripherals, which are added before ``run``.

    Args:
        memories: flash and RAM; everything else is unmapped.
        interrupts: number of interrupt lines.
        clock_hz: of the core after a reset.
    """

    def __init__(self, memories: tuple[Memory, ...], interrupts: int, clock_hz: float) -> None:
        # Not UC_MODE_MCLASS: that is a Cortex-M33, whatever model is asked for afterwards, and with success.
        self._engine = Uc(UC_ARCH_ARM, UC_MODE_THUMB)
        self._engine.ctl_set_cpu_model(UC_CPU_ARM_CORTEX_M7)
        if self._engine.ctl_get_cpu_model() != UC_CPU_ARM_CORTEX_M7:
            raise ToolError("unicorn: no Cortex-M7 in this version; expected 2.1 or newer")
        self._memories = memories
        self.flash = next(memory for memory in memories if memory.is_flash)
        self._counter = BlockCounter(memories)
        self._counter.attach(self._engine)
        self._reset_hz = clock_hz
        self.time = VirtualTime(lambda: self._counter.count, clock_hz)
        self.findings = Findings(self._place)
        self.system = SystemControl(interrupts, self.time, self.findings, self.request_reset, self._counter.enable_fpu)
        self._peripherals: list[Peripheral] = []
        self._slots: dict[int, Peripheral] = {}
        self._words: dict[int, tuple[Peripheral, Register]] = {}
        self._pages: set[int] = set()
        self._device: Device
        self._bad_access = (0, 0, 0, 0)  # kind, address, size, value
        self._engine.hook_add(UC_HOOK_MEM_INVALID, self._on_bad_access)
        self._resets = self._stops = self._pauses = False
        self.accesses = 0  # to registers, so far
        self.add((self.system, TraceUnit(self.system, self.time, self.findings)))

    def add(self, peripherals: Iterable[Peripheral]) -> None:
        """Give the chip more peripherals."""
        for peripheral in peripherals:
            self._peripherals.append(peripheral)
            for offset, register in peripheral.registers.items():
                self._words[peripheral.base + offset] = peripheral, register
            for address in range(peripheral.base, peripheral.base + peripheral.size_bytes, _SLOT_BYTES):
                assert address // _SLOT_BYTES not in self._slots, f"{peripheral.name} overlaps another"
                self._slots[address // _SLOT_BYTES] = peripheral
                self._map_page(address // _PAGE_BYTES * _PAGE_BYTES)

    def set_device(self, device: Device) -> None:
        """Name the peripheral to which something happens from outside; called once before ``run``."""
        self._device = device

    def _map_page(self, page: int) -> None:
        if page in self._pages:
            return
        self._pages.add(page)

        def read(engine: Uc, offset: int, size: int, data: object) -> int:
            return self._read(page + offset, size)

        def write(engine: Uc, offset: int, size: int, value: int, data: object) -> None:
            self._write(page + offset, size, value)

        self._engine.mmio_map(page, _PAGE_BYTES, read, None, write, None)

    def _read(self, address: int, size: int) -> int:
        self.accesses += 1
        if size == 4 and (word := self._words.get(address)) is not None and not word[1].write_only:
            return word[0].on_read(word[1]) if word[0].accessible() else 0
        peripheral = self._slots.get(address // _SLOT_BYTES)
        if peripheral is None:
            self.findings.add(f"read of 0x{address:08X}, where this virtual board has no peripheral")
            return 0
        return peripheral.read(address - peripheral.base, size)

    def _write(self, address: int, size: int, value: int) -> None:
        self.accesses += 1
        peripheral = self._slots.get(address // _SLOT_BYTES)
        if peripheral is None:
            self.findings.add(f"write of 0x{value:X} to 0x{address:08X}, where this virtual board has no peripheral")
            return
        peripheral.write(address - peripheral.base, size, value)

    @property
    def instructions(self) -> int:
        """Executed so far, to a block."""
        return self._counter.count

    def _pc(self) -> int:
        return int(self._engine.reg_read(UC_ARM_REG_PC)) & ~1

    def _place(self) -> str:
        """Where the program is, for findings."""
        return f"{'' if self._counter.is_strict else 'in the block at '}PC 0x{self._pc():08X}"

    # What may be called from another thread.

    def request_reset(self) -> None:
        """Reset the chip as soon as the instruction under way has ended."""
        self._resets = True
        self._engine.emu_stop()

    def request_stop(self) -> None:
        """Make ``run`` return."""
        self._stops = True
        self._engine.emu_stop()

    def all_findings(self) -> tuple[str, ...]:
        """What was found so far, by the registers and by the hooks."""
        early = self._counter.fpu_too_early()
        if early is not None:
            text = "floating-point instruction before CPACR allowed it (a UsageFault on the chip); in the block at PC"
            self.findings.put("CPACR", f"{text} 0x{early:08X}")
        unaligned = self._counter.unaligned()
        if unaligned is not None:
            pc, address = unaligned
            text = f"unaligned access to 0x{address:08X} by LDRD, LDM or the like (a UsageFault on the chip)"
            self.findings.put("unaligned", f"{text}; PC 0x{pc:08X}")
        return self.findings.texts()

    # Running.

    def load(self, image: bytes) -> None:
        """Fill the flash.

        Raises:
            ToolError: there is no vector table at its start.
        """
        self._counter.content(self.flash.name)[: len(image)] = np.frombuffer(image, np.uint8)
        stack, entry = self._vector(self.flash.base, 0), self._vector(self.flash.base, 1)
        in_flash = self.flash.base <= entry < self.flash.base + self.flash.size_bytes
        in_ram = any(m.base < stack <= m.base + m.size_bytes for m in self._memories if not m.is_flash)
        if not (in_flash and entry & 1 and in_ram and stack % 4 == 0):
            raise ToolError(
                f"no vector table at 0x{self.flash.base:08X}: stack 0x{stack:08X}, entry 0x{entry:08X}; "
                f"expected a RAM address and an odd flash address"
            )

    def _vector(self, table: int, number: int) -> int:
        return int(struct.unpack("<I", self._engine.mem_read(table + 4 * number, 4))[0])

    def run(self) -> None:
        """Run from a reset until ``request_stop``.

        Raises:
            Lockup: the core has stopped for good.
        """
        pc = self._reset()
        while not self._stops:
            if self._resets:
                pc = self._reset()
            try:
                self._engine.emu_start(pc | 1, _NOWHERE)
            except UcError as cause:
                pc = self._fault(cause)
                continue
            pc, pauses, self._pauses = self._pc(), self._pauses, False
            if self._has_seen_enough():
                self._counter.relax(self._engine)
            if not (pauses or self._resets or self._stops) and self._was_wfi(pc):
                self._sleep()

    def _has_seen_enough(self) -> bool:
        return self._counter.is_strict and self._counter.count > _STRICT_INSTRUCTIONS

    def _reset(self) -> int:
        """Everything but RAM and time as after power-on; the address of the first instruction."""
        self._resets = False
        for peripheral in self._peripherals:
            peripheral.reset()
        self.time.set_hz(self._reset_hz)
        for register in (UC_ARM_REG_IPSR, UC_ARM_REG_CONTROL, UC_ARM_REG_PRIMASK, UC_ARM_REG_BASEPRI):
            self._engine.reg_write(register, 0)
        self._engine.reg_write(UC_ARM_REG_FAULTMASK, 0)
        self._engine.reg_write(UC_ARM_REG_LR, 0xFFFFFFFF)
        # The chip reads them through an alias of the flash at its boot address.
        self.system["VTOR"] = self.flash.base
        self._engine.reg_write(UC_ARM_REG_SP, self._vector(self.flash.base, 0))
        return self._vector(self.flash.base, 1)

    def _was_wfi(self, pc: int) -> bool:
        before = bytes(self._engine.mem_read(pc - 4, 4))
        return before[2:] == b"\x30\xbf" or before == b"\xaf\xf3\x03\x80"  # WFI, WFI.W

    def _sleep(self) -> None:
        """What WFI does: let time pass until an enabled interrupt is pending."""
        if not self.system.can_wake():
            self.findings.add("WFI with no interrupt enabled that could end it")
        while not self._resets and not self._stops:
            self._device.advance()
            if self.system.waking():
                self.check_interrupts()
                return
            event_s = self._device.next_event_s()
            if event_s is None:
                self.idle(_LONGEST_SLEEP_S, asleep=True)
            else:
                self.time.skip(min(event_s - self.time.seconds, self._tick_s()), asleep=True)

    def idle(self, longest_s: float, *, asleep: bool = False) -> None:
        """Wait for the outside world, and let as much virtual time pass, but not more than to the next tick."""
        if not asleep and self._has_seen_enough():  # a firmware that polls leaves the engine never by itself
            self._pauses = True
            self._engine.emu_stop()
        tick_s = self._tick_s()
        self._device.idle(min(longest_s, tick_s), tick_s, asleep=asleep)

    def _tick_s(self) -> float:
        cycles = self.system.next_tick_cycles()
        return math.inf if cycles is None else cycles / self.time.hz

    def check_interrupts(self) -> None:
        """Report an interrupt that the chip would take now: this one takes none."""
        if self._engine.reg_read(UC_ARM_REG_PRIMASK) == 0 and (waking := self.system.waking()):
            number = min(waking)
            name = "SysTick" if number < 0 else f"interrupt {number}"
            self.findings.put(
                f"taken {number}", f"{name} is enabled and pending with PRIMASK clear, and would be taken"
            )

    # Faults.

    def _on_bad_access(self, engine: Uc, kind: int, address: int, size: int, value: int, data: object) -> bool:
        self._bad_access = kind, address, size, value
        return False

    def _fault(self, cause: UcError) -> int:
        """Report a fault and enter the firmware's handler of it, whose address is returned.

        Source: ARMv7-M manual, B1.5.6 (exception entry), B3.2.15 (CFSR).
        """
        pc = self._pc()
        kind, address, size, value = self._bad_access
        self._bad_access = (0, 0, 0, 0)
        if kind in (UC_MEM_FETCH_UNMAPPED, UC_MEM_FETCH_PROT):
            text, status = f"jump to 0x{address:08X}, where there is no code", bits(8)  # IBUSERR
        elif kind == UC_MEM_WRITE_PROT:
            text, status = f"write of 0x{value:X}, {size} bytes, to flash at 0x{address:08X}", bits(15, 9)
        elif kind == UC_MEM_WRITE_UNMAPPED:
            text = f"write of 0x{value:X}, {size} bytes, to 0x{address:08X}, where there is nothing"
            status = bits(15, 9)  # BFARVALID, PRECISERR
        elif kind:
            text, status = f"read of {size} bytes from 0x{address:08X}, where there is nothing", bits(15, 9)
        else:
            text, status = f"instruction that a Cortex-M7 does not execute here ({cause})", bits(16)  # UNDEFINSTR
        self.findings.add(f"fault: {text}", f"PC 0x{pc:08X}")
        if self._engine.reg_read(UC_ARM_REG_IPSR):
            raise Lockup(f"fault within a fault handler: {text}; PC 0x{pc:08X}")
        self.system["CFSR"] |= status
        if status & bits(15):
            self.system["BFAR"] = address
        number, enabled = (_USAGE_FAULT, bits(18)) if status & bits(16) else (_BUS_FAULT, bits(17))
        if not self.system["SHCSR"] & enabled:
            self.system["HFSR"] |= bits(30)  # FORCED
            number = _HARD_FAULT
        handler = self._enter(number, pc)
        if not handler & 1:
            raise Lockup(f"no handler for exception {number}: vector 0x{handler:08X}; {text}; PC 0x{pc:08X}")
        return handler

    def _enter(self, exception: int, pc: int) -> int:
        read, write = self._engine.reg_read, self._engine.reg_write
        stack, status = int(read(UC_ARM_REG_SP)), int(read(UC_ARM_REG_XPSR))
        frame_at = (stack - 32) & ~7
        frame = [
            int(read(register))
            for register in (UC_ARM_REG_R0, UC_ARM_REG_R1, UC_ARM_REG_R2, UC_ARM_REG_R3, UC_ARM_REG_R12, UC_ARM_REG_LR)
        ]
        frame += [pc, status | (bits(9) if stack & 4 else 0)]
        try:
            self._engine.mem_write(frame_at, struct.pack("<8I", *(word & 0xFFFFFFFF for word in frame)))
        except UcError:
            raise Lockup(f"fault with the stack at 0x{stack:08X}, where there is no RAM; PC 0x{pc:08X}") from None
        write(UC_ARM_REG_SP, frame_at)
        write(UC_ARM_REG_LR, _RETURN_TO_THREAD)
        write(UC_ARM_REG_IPSR, exception)
        return self._vector(self.system.vectors, exception)
