"""The STM32F7's oscillators, PLL, buses and clock gates, and their rules. Sources: RM0385, 5.2 and 5.3."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tinymbn.emulators.virtual_mcu.mcu import VirtualMcu
from tinymbn.emulators.virtual_mcu.registers import Peripheral, Register, bits

HSI_HZ = 16_000_000
_LSE_HZ = 32_768

_HSE_START_S = 2e-3
_PLL_LOCK_S = 200e-6

_MHZ = 1_000_000
_VCO_INPUT_HZ = (1 * _MHZ, 2 * _MHZ)
_VCO_HZ = (100 * _MHZ, 432 * _MHZ)
_PLL_N = (50, 432)
_SOURCES = ("HSI", "HSE", "PLL")

_HSION, _HSIRDY, _HSEON, _HSERDY, _PLLON, _PLLRDY = 1 << 0, 1 << 1, 1 << 16, 1 << 17, 1 << 24, 1 << 25

_ENABLES = {
    "AHB1": bits((10, 0), 12, 18, (22, 20), 23, (30, 25)),
    "AHB2": bits(0, (7, 4)),
    "AHB3": bits((1, 0)),
    "APB1": bits((9, 0), 11, (31, 14)),
    "APB2": bits((1, 0), (5, 4), (14, 8), (18, 16), (23, 20), 26),
}


def _rcc_registers() -> list[Register]:
    registers = [
        Register(
            "CR",
            0x00,
            0x00000083,
            writable=bits(0, (7, 3), 16, 18, 19, 24, 26, 28),
            read_only=bits(1, (15, 8), 17, 25, 27, 29),
        ),
        # Bits 30:28 are PLLR of the STM32F76x: reserved here, with reset value 2.
        Register("PLLCFGR", 0x04, 0x24003010, writable=bits((5, 0), (14, 6), (17, 16), 22, (27, 24))),
        Register("CFGR", 0x08, writable=bits((1, 0), (7, 4), (31, 10)), read_only=bits((3, 2))),
        Register("CIR", 0x0C, writable=bits((14, 8), (23, 16)), read_only=bits((7, 0))),
        Register("BDCR", 0x70, writable=bits(0, (4, 2), (9, 8), 15, 16), read_only=bits(1)),
        Register("CSR", 0x74, 0x0E000000, writable=bits(0, 24), read_only=bits(1, (31, 25))),
        Register("SSCGR", 0x80, writable=bits((27, 0), 30, 31)),
        Register("PLLI2SCFGR", 0x84, 0x24003000, writable=bits((14, 6), (17, 16), (27, 24), (30, 28))),
        Register("PLLSAICFGR", 0x88, 0x24003000, writable=bits((14, 6), (17, 16), (27, 24), (30, 28))),
        Register("DCKCFGR1", 0x8C, writable=bits((4, 0), (12, 8), (17, 16), (23, 20), 24)),
        Register("DCKCFGR2", 0x90, writable=bits((15, 0), (25, 16), (29, 26))),
    ]
    sleeping = {"AHB1": 0x7EF7B7FF, "AHB2": 0x000000F1, "AHB3": 0x00000003, "APB1": 0xFFFFCBFF, "APB2": 0x04F77F33}
    for index, (bus, mask) in enumerate(_ENABLES.items()):
        place = 4 * index if index < 3 else 4 * index + 4  # there is a gap between AHB3 and APB1
        registers.append(Register(f"{bus}RSTR", 0x10 + place, writable=mask))
        registers.append(Register(f"{bus}ENR", 0x30 + place, 0x00100000 if bus == "AHB1" else 0, writable=mask))
        registers.append(Register(f"{bus}LPENR", 0x50 + place, sleeping[bus], writable=sleeping[bus]))
    return registers


class ResetAndClock(Peripheral):
    """RCC, and the frequencies that it makes.

    Args:
        mcu: the chip.
        hse_hz: what the board feeds into HSE.
        on_change: called behind each write.
    """

    def __init__(self, mcu: VirtualMcu, hse_hz: int, on_change: Callable[[], None]) -> None:
        self._mcu, self._hse_hz, self._on_change = mcu, hse_hz, on_change
        self._ready_s: dict[int, float] = {}  # ready flag: when it is set
        self.enabled_at: dict[tuple[str, int], int] = {}  # (register, bit): number of the access that set it
        super().__init__("RCC", 0x40023800, 0x400, _rcc_registers(), mcu.findings)

    def reset(self) -> None:  # noqa: D102
        super().reset()
        self._ready_s.clear()
        self.enabled_at.clear()

    def ready(self, flag: int) -> bool:
        """Whether an oscillator or PLL runs, by its flag in CR."""
        return bool(self.on_read(self.registers[0]) & flag)

    @property
    def pll_on(self) -> bool:
        """Whether the PLL is switched on, ready or not."""
        return bool(self["CR"] & _PLLON)

    @property
    def source(self) -> str:
        """Where the system clock comes from: ``HSI``, ``HSE`` or ``PLL``."""
        return _SOURCES[self.field("CFGR", 3, 2)]

    def on_read(self, register: Register) -> int:  # noqa: D102
        if register.name == "CR":
            for flag, when_s in list(self._ready_s.items()):
                if self._mcu.time.seconds >= when_s:
                    self["CR"] |= flag
                    del self._ready_s[flag]
        return super().on_read(register)

    def on_write(self, register: Register, value: int) -> None:  # noqa: D102
        name, old = register.name, self[register.name]
        if name == "CR":
            self._write_control(old, value)
        elif name == "CFGR":
            self._write_configuration(value)
        elif name == "PLLCFGR":
            if self.pll_on:
                self.report(name, "written while the PLL is on", value)
            self["PLLCFGR"] = value
            self._check_pll(value)
        else:
            self[name] = value
            if name.endswith("ENR") and not name.endswith("LPENR"):
                for bit in range(32):
                    if (value & ~old) >> bit & 1:
                        self.enabled_at[name, bit] = self._mcu.accesses
        self._on_change()

    def _write_control(self, old: int, value: int) -> None:
        time_s = self._mcu.time.seconds
        source = self.source
        for on, flag, name, start_s in (
            (_HSION, _HSIRDY, "HSI", 0.0),
            (_HSEON, _HSERDY, "HSE", _HSE_START_S),
            (_PLLON, _PLLRDY, "PLL", _PLL_LOCK_S),
        ):
            if value & on and not old & on:
                self._ready_s[flag] = time_s + start_s
                if name == "PLL":
                    self._check_pll_source()
            elif old & on and not value & on:
                if name == source:
                    self.report("CR", f"{name} switched off while the system clock comes from it", value)
                    value |= on
                else:
                    value &= ~flag
                    self._ready_s.pop(flag, None)
        self["CR"] = value

    def _write_configuration(self, value: int) -> None:
        wanted, now = value & 3, self.field("CFGR", 3, 2)
        if wanted == 3:
            self.report("CFGR", "SW 3 is not allowed", value)
            wanted = now
        if wanted != now and not self.ready((_HSIRDY, _HSERDY, _PLLRDY)[wanted]):
            self.report("CFGR", f"system clock switched to {_SOURCES[wanted]}, which is not ready", value)
            wanted = now
        self["CFGR"] = value & ~bits((3, 2)) | wanted << 2

    def _pll(self, value: int) -> tuple[float, float, float]:
        """Input of the PLL's oscillator, its output, and the system clock made of it, in Hz."""
        source_hz = self._hse_hz if value & bits(22) else HSI_HZ
        vco_input_hz = source_hz / max(1, value & 0x3F)
        vco_hz = vco_input_hz * (value >> 6 & 0x1FF)
        return vco_input_hz, vco_hz, vco_hz / (2 * (value >> 16 & 3) + 2)

    def _check_pll(self, value: int) -> None:
        """RM0385, 5.3.2."""
        vco_input_hz, vco_hz, _ = self._pll(value)
        for problem, wrong in (
            (f"PLLM {value & 0x3F}; allowed are 2 to 63", value & 0x3F < 2),
            (f"PLLN {value >> 6 & 0x1FF}; allowed are 50 to 432", not _within(value >> 6 & 0x1FF, _PLL_N)),
            (f"PLLQ {value >> 24 & 0xF}; allowed are 2 to 15", value >> 24 & 0xF < 2),
            (f"VCO input {megahertz(vco_input_hz)}; allowed are 1 to 2 MHz", not _within(vco_input_hz, _VCO_INPUT_HZ)),
            (f"VCO {megahertz(vco_hz)}; allowed are 100 to 432 MHz", not _within(vco_hz, _VCO_HZ)),
        ):
            if wrong:
                self.report("PLLCFGR", problem, value)

    def _check_pll_source(self) -> None:
        """The PLL is switched on: whatever feeds it must run."""
        name, flag = ("HSE", _HSERDY) if self["PLLCFGR"] & bits(22) else ("HSI", _HSIRDY)
        if not self.ready(flag):
            self.report("CR", f"PLL switched on before its source {name} was ready")

    @property
    def system_hz(self) -> float:
        """SYSCLK."""
        match self.source:
            case "HSI":
                return HSI_HZ
            case "HSE":
                return self._hse_hz
            case _:
                return self._pll(self["PLLCFGR"])[2]

    @property
    def core_hz(self) -> float:
        """HCLK: of core, AHB and flash."""
        prescaler = self.field("CFGR", 7, 4)
        return self.system_hz / (1 if prescaler < 8 else (2, 4, 8, 16, 64, 128, 256, 512)[prescaler - 8])

    @property
    def apb1_hz(self) -> float:
        """PCLK1."""
        return self.core_hz / _apb_divider(self.field("CFGR", 12, 10))

    @property
    def apb2_hz(self) -> float:
        """PCLK2."""
        return self.core_hz / _apb_divider(self.field("CFGR", 15, 13))

    def usart_hz(self, number: int) -> float:
        """What feeds a USART; 1 and 6 are on APB2. Source: RM0385, 5.3.26, RCC_DCKCFGR2."""
        bus_hz = self.apb2_hz if number in (1, 6) else self.apb1_hz
        choice = self.field("DCKCFGR2", 2 * number - 1, 2 * number - 2)
        return (bus_hz, self.system_hz, HSI_HZ, _LSE_HZ)[choice]


class ClockedPeripheral(Peripheral):
    """A peripheral that does nothing until its bit in an RCC enable register is set."""

    def __init__(
        self,
        name: str,
        base: int,
        registers: Iterable[Register],
        rcc: ResetAndClock,
        enable_register: str,
        enable_bit: int,
        mcu: VirtualMcu,
    ) -> None:
        self._rcc, self._mcu = rcc, mcu
        self._enable = enable_register, enable_bit
        super().__init__(name, base, 0x400, registers, mcu.findings)

    def has_clock(self) -> bool:
        """Whether the enable bit is set."""
        register, bit = self._enable
        return bool(self._rcc[register] >> bit & 1)

    def accessible(self) -> bool:  # noqa: D102
        register, bit = self._enable
        if not self._rcc[register] >> bit & 1:
            self.findings.add(f"{self.name}: used without its clock; set RCC_{register} bit {bit} first")
            return False
        # RM0385, 5.2.13: the clock comes some cycles after the bit was written.
        enabled_at = self._rcc.enabled_at
        if enabled_at and enabled_at.pop(self._enable, -1) == self._mcu.accesses - 1:
            self.findings.add(f"{self.name}: used at once after RCC_{register} bit {bit} was set; read it back first")
        return True


def megahertz(hz: float) -> str:
    """A frequency for people: ``216 MHz``."""
    return f"{hz / _MHZ:.6g} MHz"


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _apb_divider(prescaler: int) -> int:
    return 1 if prescaler < 4 else 2 << (prescaler - 4)
