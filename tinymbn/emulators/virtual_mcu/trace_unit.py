"""The cycle counter of the Cortex-M7."""

from __future__ import annotations

from tinymbn.emulators.virtual_mcu.cortex_m7 import SystemControl
from tinymbn.emulators.virtual_mcu.findings import Findings
from tinymbn.emulators.virtual_mcu.registers import WORD, Peripheral, Register, bits
from tinymbn.emulators.virtual_mcu.virtual_time import VirtualTime

_UNLOCK = 0xC5ACCE55


class TraceUnit(Peripheral):
    """The data watchpoint and trace unit at 0xE0001000, of which firmware uses the cycle counter.

    It counts executed instructions, and the cycles of polled waits; like the chip's it stands still in WFI.
    Source: ARMv7-M manual, C1.8; the lock is CoreSight's (Cortex-M7 TRM, DWT programmers model).
    """

    def __init__(self, system: SystemControl, time: VirtualTime, findings: Findings) -> None:
        self._system, self._time = system, time
        registers = [
            Register("CTRL", 0x00, 0x40000000, writable=bits((22, 16), (12, 0)), read_only=bits((31, 24))),
            Register("CYCCNT", 0x04),
            Register("LAR", 0xFB0, write_only=True),
            Register("LSR", 0xFB4, 0x3, writable=0),
        ]
        super().__init__("DWT", 0xE0001000, 0x1000, registers, findings)

    def reset(self) -> None:  # noqa: D102
        super().reset()
        self._start: int | None = None  # cycles at which it would have read 0

    def accessible(self) -> bool:  # noqa: D102
        if not self._system.trace_enabled:
            self.findings.add("DWT: used before DEMCR.TRCENA was set")
            return False
        return True

    def on_read(self, register: Register) -> int:  # noqa: D102
        if register.name == "CYCCNT" and self._start is not None:
            return (self._time.cycles_awake - self._start) & WORD
        return super().on_read(register)

    def on_write(self, register: Register, value: int) -> None:  # noqa: D102
        if register.name == "LAR":
            self["LSR"] = 0x1 if value == _UNLOCK else 0x3
            return
        if self["LSR"] & 2:
            self.report(register.name, "written while locked; write 0xC5ACCE55 to DWT_LAR first", value)
            return
        count = self.on_read(self.registers[0x04])
        self[register.name] = value
        if register.name == "CYCCNT":
            count = value
        self["CYCCNT"] = count
        self._start = self._time.cycles_awake - count if self["CTRL"] & 1 else None
