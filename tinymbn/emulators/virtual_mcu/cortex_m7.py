"""The system control space of the Cortex-M7: interrupts, SysTick, MPU, caches.

Interrupts are never taken here, only pending: what polls with PRIMASK set and sleeps with WFI needs no more.
Source: ARMv7-M Architecture Reference Manual (DDI 0403E), B3; Cortex-M7 TRM (DDI 0489), 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Callable

from tinymbn.emulators.virtual_mcu.findings import Findings
from tinymbn.emulators.virtual_mcu.registers import Peripheral, Register, bits
from tinymbn.emulators.virtual_mcu.virtual_time import VirtualTime

SYSTICK_PENDING = -1  # the exception's number relative to the first interrupt's

_VECTKEY = 0x05FA
_D_CACHE_SETS, _D_CACHE_WAYS = 32, 4  # 4 KiB in lines of 32 bytes
_SYSTICK_MASK = 0xFFFFFF
_INTERRUPT_SETS = range(0x100, 0x400)  # NVIC registers with a bit an interrupt: enabled, pending, active


def _system_registers(interrupts: int) -> list[Register]:
    registers = [
        Register("ICTR", 0x004, (interrupts - 1) // 32, writable=0),
        Register("ACTLR", 0x008, writable=bits((28, 10), 2)),
        Register("SYST_CSR", 0x010, writable=bits(2, 1, 0), read_only=bits(16)),
        Register("SYST_RVR", 0x014, writable=_SYSTICK_MASK),
        Register("SYST_CVR", 0x018, writable=_SYSTICK_MASK),
        Register("SYST_CALIB", 0x01C, writable=0),
        Register("CPUID", 0xD00, 0x410FC271, writable=0),  # r0p1, of the STM32F746
        Register("ICSR", 0xD04, writable=bits(31, (28, 25)), read_only=bits((23, 22), (20, 11), (8, 0))),
        Register("VTOR", 0xD08, writable=bits((31, 7))),
        Register("AIRCR", 0xD0C, 0xFA050000, writable=bits((31, 16), (10, 8), (2, 0)), read_only=bits(15)),
        Register("SCR", 0xD10, writable=bits(4, 2, 1)),
        # BP (18) and STKALIGN (9) read as one and ignore writes.
        Register("CCR", 0xD14, 0x00040200, writable=bits(17, 16, 8, 4, 3, 1, 0), read_only=bits(18, 9)),
        Register("SHPR1", 0xD18, writable=bits((23, 20), (15, 12), (7, 4))),
        Register("SHPR2", 0xD1C, writable=bits((31, 28))),
        Register("SHPR3", 0xD20, writable=bits((31, 28), (23, 20), (7, 4))),
        Register("SHCSR", 0xD24, writable=bits((18, 10), 8, 7, 3, 1, 0)),
        Register("CFSR", 0xD28, writable=bits(25, 24, (19, 16), 15, (13, 8), 7, 5, 4, 3, 1, 0)),
        Register("HFSR", 0xD2C, writable=bits(31, 30, 1)),
        Register("DFSR", 0xD30, writable=bits((4, 0))),
        Register("MMFAR", 0xD34),
        Register("BFAR", 0xD38),
        Register("CLIDR", 0xD78, 0x09000003, writable=0),
        Register("CTR", 0xD7C, 0x8303C003, writable=0),
        Register("CCSIDR", 0xD80, writable=0),
        Register("CSSELR", 0xD84, writable=bits(3, 2, 1, 0)),
        Register("CPACR", 0xD88, writable=bits((23, 20))),
        Register("MPU_TYPE", 0xD90, 0x00000800, writable=0),
        Register("MPU_CTRL", 0xD94, writable=bits(2, 1, 0)),
        Register("MPU_RNR", 0xD98, writable=bits((2, 0))),  # eight regions
        Register("DHCSR", 0xDF0, writable=0),
        Register("DEMCR", 0xDFC, writable=bits(24, (19, 16), (10, 4), 0)),
        Register("STIR", 0xF00, writable=bits((8, 0)), write_only=True),
        Register("FPCCR", 0xF34, 0xC0000000, writable=bits(31, 30), read_only=bits(8, 6, 5, 4, 3, 1, 0)),
        Register("FPCAR", 0xF38, writable=bits((31, 3))),
        Register("FPDSCR", 0xF3C, writable=bits((26, 22))),
        Register("MVFR0", 0xF40, 0x10110021, writable=0),
        Register("MVFR1", 0xF44, 0x11000011, writable=0),
        Register("MVFR2", 0xF48, 0x00000040, writable=0),
        Register("ICIALLU", 0xF50, write_only=True),
        Register("ICIMVAU", 0xF58, write_only=True),
        Register("DCIMVAC", 0xF5C, write_only=True),
        Register("DCISW", 0xF60, write_only=True),
        Register("DCCMVAU", 0xF64, write_only=True),
        Register("DCCMVAC", 0xF68, write_only=True),
        Register("DCCSW", 0xF6C, write_only=True),
        Register("DCCIMVAC", 0xF70, write_only=True),
        Register("DCCISW", 0xF74, write_only=True),
        Register("BPIALL", 0xF78, write_only=True),
        Register("ITCMCR", 0xF90, writable=bits((2, 0)), read_only=bits((6, 3))),
        Register("DTCMCR", 0xF94, writable=bits((2, 0)), read_only=bits((6, 3))),
        Register("AHBPCR", 0xF98, writable=bits(0), read_only=bits((3, 1))),
        Register("CACR", 0xF9C, writable=bits((2, 0))),
        Register("AHBSCR", 0xFA0, writable=bits((15, 0))),
        Register("ABFSR", 0xFA8, writable=bits((9, 8), (4, 0))),
    ]
    for alias in range(4):
        suffix = f"_A{alias}" if alias else ""
        registers.append(Register(f"MPU_RBAR{suffix}", 0xD9C + 8 * alias, writable=bits((31, 5), (4, 0))))
        size_and_rights = bits(28, (26, 24), (21, 16), (15, 8), (5, 0))
        registers.append(Register(f"MPU_RASR{suffix}", 0xDA0 + 8 * alias, writable=size_and_rights))
    for word in range((interrupts + 31) // 32):
        lines = (1 << min(32, interrupts - 32 * word)) - 1
        for name, offset in (("ISER", 0x100), ("ICER", 0x180), ("ISPR", 0x200), ("ICPR", 0x280)):
            registers.append(Register(f"NVIC_{name}{word}", offset + 4 * word, writable=lines))
        registers.append(Register(f"NVIC_IABR{word}", 0x300 + 4 * word, writable=0))
    for word in range((interrupts + 3) // 4):
        four = bits(*((8 * line + 7, 8 * line + 4) for line in range(min(4, interrupts - 4 * word))))
        registers.append(Register(f"NVIC_IPR{word}", 0x400 + 4 * word, writable=four))
    return registers


class SystemControl(Peripheral):
    """The system control space at 0xE000E000.

    Args:
        interrupts: number of the chip's interrupt lines.
        time: the chip's.
        findings: where to report.
        request_reset: called when software asks for a reset.
        enable_fpu: called with whether floating-point instructions are allowed.
    """

    def __init__(
        self,
        interrupts: int,
        time: VirtualTime,
        findings: Findings,
        request_reset: Callable[[], None],
        enable_fpu: Callable[[bool], None],
    ) -> None:
        self._interrupts, self._time = interrupts, time
        self._request_reset, self._enable_fpu = request_reset, enable_fpu
        super().__init__("SCS", 0xE000E000, 0x1000, _system_registers(interrupts), findings)

    def reset(self) -> None:  # noqa: D102
        super().reset()
        self._enabled: set[int] = set()
        self._pending: set[int] = set()
        self._lines: set[int] = set()  # that a peripheral holds up
        self._systick_start: int | None = None
        self._systick_seen = 0  # wraps up to which the pending bit was set
        self._flag_seen = 0  # wraps up to which COUNTFLAG was read
        self._invalidated: set[int] = set()
        self._instruction_cache_clean = False
        self._enable_fpu(False)

    @property
    def vectors(self) -> int:
        """Where the vector table lies."""
        return self["VTOR"]

    @property
    def trace_enabled(self) -> bool:
        """Whether the cycle counter has its clock."""
        return bool(self["DEMCR"] & bits(24))

    def set_line(self, interrupt: int, raised: bool) -> None:
        """What a peripheral's interrupt output says."""
        if raised:
            self._lines.add(interrupt)
            self._pending.add(interrupt)
        else:
            self._lines.discard(interrupt)

    def waking(self) -> frozenset[int]:
        """Enabled interrupts that are pending: they end WFI, and would be taken were PRIMASK clear."""
        self._run_systick()
        woken = self._pending & self._enabled
        if SYSTICK_PENDING in self._pending:
            woken |= {SYSTICK_PENDING}
        return frozenset(woken)

    def can_wake(self) -> bool:
        """Whether anything at all can end WFI."""
        return bool(self._enabled) or self.next_tick_cycles() is not None

    def next_tick_cycles(self) -> int | None:
        """In how many cycles SysTick is pending next; None if it does not ask for an exception."""
        if self._systick_start is None or not self["SYST_CSR"] & 2:
            return None
        return self._period() - (self._time.cycles - self._systick_start) % self._period()

    def _period(self) -> int:
        core_clock = bool(self["SYST_CSR"] & 4)
        return (self["SYST_RVR"] + 1) * (1 if core_clock else 8)  # the external clock is HCLK / 8

    def _wraps(self) -> int:
        if self._systick_start is None or self["SYST_RVR"] == 0:
            return 0
        return (self._time.cycles - self._systick_start) // self._period()

    def _run_systick(self) -> None:
        wraps = self._wraps()
        if wraps > self._systick_seen:
            self._systick_seen = wraps
            if self["SYST_CSR"] & 2:
                self._pending.add(SYSTICK_PENDING)

    def on_read(self, register: Register) -> int:  # noqa: D102
        name = register.name
        if name == "SYST_CSR":
            self._run_systick()
            wraps, seen = self._wraps(), self._flag_seen
            self._flag_seen = wraps
            return self["SYST_CSR"] | (bits(16) if wraps > seen else 0)
        if name == "SYST_CVR":
            if self._systick_start is None:
                return self["SYST_CVR"]
            passed = (self._time.cycles - self._systick_start) % self._period()
            return (self["SYST_RVR"] - passed // (self._period() // (self["SYST_RVR"] + 1))) & _SYSTICK_MASK
        if name == "ICSR":
            self._run_systick()
            pending = bits(26) if SYSTICK_PENDING in self._pending else 0
            return pending | (bits(22) if self._pending - {SYSTICK_PENDING} else 0)
        if name == "AIRCR":
            return self["AIRCR"] & 0xFFFF | 0xFA050000
        if name == "CCSIDR":  # sets - 1, ways - 1, 32-byte lines; of the cache that CSSELR chose
            ways = 2 if self["CSSELR"] & 1 else _D_CACHE_WAYS
            sets = 4096 // 32 // ways
            return 0xF0000000 | (sets - 1) << 13 | (ways - 1) << 3 | 1
        if register.offset in _INTERRUPT_SETS:
            word = int(name[9:])
            chosen = {"SE": self._enabled, "CE": self._enabled, "SP": self._pending, "CP": self._pending}
            return _word(chosen.get(name[6:8], set()), word)
        return super().on_read(register)

    def on_write(self, register: Register, value: int) -> None:  # noqa: D102
        name = register.name
        if register.offset in _INTERRUPT_SETS:
            self._write_interrupts(name, value)
        elif register.offset < 0x100 and name.startswith("SYST_"):
            self._write_systick(name, value)
        elif name == "ICSR":
            self._write_icsr(value)
        elif name == "AIRCR":
            if value >> 16 != _VECTKEY:
                self.report(name, "written without its key 0x05FA; nothing happens", value)
            elif value & bits(2):
                self._request_reset()
            else:
                self[name] = value & bits((10, 8))
        elif name == "VTOR":
            vectors = 16 + self._interrupts
            size = 1 << (4 * vectors - 1).bit_length()
            if value % size:
                self.report(name, f"{vectors} vectors need an address that is a multiple of {size}", value)
            self[name] = value
        elif name == "CPACR":
            self[name] = value
            if self.field(name, 21, 20) != self.field(name, 23, 22):
                self.report(name, "CP10 and CP11 differ", value)
            self._enable_fpu(self.field(name, 21, 20) in (1, 3))
        elif name == "CCR":
            self._write_ccr(value)
        elif name in ("CFSR", "HFSR", "DFSR"):
            self[name] &= ~value  # write one to clear
        elif name == "ICIALLU":
            self._instruction_cache_clean = True
        elif name in ("DCISW", "DCCISW"):
            self._invalidated.add(value & (bits((31, 30)) | (_D_CACHE_SETS - 1) << 5))
        else:
            super().on_write(register, value)

    def _write_interrupts(self, name: str, value: int) -> None:
        word = int(name[9:])
        lines = {32 * word + line for line in range(32) if value >> line & 1}
        match name[5:9]:
            case "ISER":
                self._enabled |= lines
            case "ICER":
                self._enabled -= lines
            case "ISPR":
                self._pending |= lines
            case "ICPR":
                self._pending -= lines - self._lines  # one that is still asked for stays pending

    def _write_systick(self, name: str, value: int) -> None:
        self._run_systick()
        if name == "SYST_CVR":
            self["SYST_CVR"] = 0  # any write clears it and COUNTFLAG
            if self._systick_start is not None:
                self._start_systick()
            return
        running = self._systick_start is not None
        if name == "SYST_RVR" and value == 0:
            self.report(name, "a reload value of 0 keeps SysTick from counting", value)
        self[name] = value & register_mask(name)
        if name == "SYST_CSR":
            if value & 1 and not running:
                self._start_systick()
            elif not value & 1:
                self._systick_start = None

    def _start_systick(self) -> None:
        self._systick_start = self._time.cycles
        self._systick_seen = self._flag_seen = 0

    def _write_icsr(self, value: int) -> None:
        if value & bits(25):
            self._pending.discard(SYSTICK_PENDING)
        if value & bits(26):
            self._pending.add(SYSTICK_PENDING)
        if value & bits(31, 28):
            self.report("ICSR", "asks for an exception; this virtual board takes none", value)

    def _write_ccr(self, value: int) -> None:
        new = value & ~self["CCR"]
        if new & bits(17) and not self._instruction_cache_clean:
            self.report("CCR", "instruction cache enabled before it was invalidated (ICIALLU)", value)
        lines = _D_CACHE_SETS * _D_CACHE_WAYS
        if new & bits(16) and len(self._invalidated) < lines:
            self.report(
                "CCR", f"data cache enabled with {len(self._invalidated)} of {lines} lines invalidated (DCISW)", value
            )
        self["CCR"] = value


def register_mask(name: str) -> int:
    """The bits of a SysTick register that software sets."""
    return bits(2, 1, 0) if name == "SYST_CSR" else _SYSTICK_MASK


def _word(lines: set[int], word: int) -> int:
    return sum(1 << (line - 32 * word) for line in lines if 32 * word <= line < 32 * word + 32)
