"""What the STM32F7's clocks, voltage and flash timing must be to each other.

Sources: RM0385, 3.3.2 (flash wait states) and 4.1.4 (voltage scales and over-drive), DS10916, table 17.
"""

from __future__ import annotations

import math

from tinymbn.emulators.virtual_mcu.mcu import VirtualMcu
from tinymbn.emulators.virtual_stm32f7.flash import Flash
from tinymbn.emulators.virtual_stm32f7.power import Power
from tinymbn.emulators.virtual_stm32f7.reset_and_clock import ResetAndClock, megahertz

_MHZ = 1_000_000
_APB1_MOST_HZ, _APB2_MOST_HZ = 54 * _MHZ, 108 * _MHZ
_HZ_A_WAIT_STATE = 30 * _MHZ  # at 2.7 to 3.6 V
# Voltage scale in PWR_CR1.VOS: most of HCLK without and with over-drive.
_HCLK_MOST_HZ = {1: (144 * _MHZ, 144 * _MHZ), 2: (168 * _MHZ, 180 * _MHZ), 3: (180 * _MHZ, 216 * _MHZ)}


class ClockTree:
    """RCC, PWR and FLASH together, and whether the chip bears what they make.

    Args:
        mcu: whose clock follows.
        hse_hz: what the board feeds into HSE.
    """

    def __init__(self, mcu: VirtualMcu, hse_hz: int) -> None:
        self._mcu = mcu
        self.changes = 0  # so far
        self.rcc = ResetAndClock(mcu, hse_hz, self._update)
        self.power = Power(self.rcc, mcu, self._update)
        self.flash = Flash(mcu, self._update)

    def _update(self) -> None:
        """Take over the clocks as they are now, and check all that depends on them."""
        self.changes += 1
        core_hz = self.rcc.core_hz
        self._mcu.time.set_hz(core_hz)
        needed = max(0, math.ceil(core_hz / _HZ_A_WAIT_STATE) - 1)
        if self.flash.wait_states < needed:
            have = self.flash.wait_states
            self.flash.report(
                "ACR", f"{have} wait states at HCLK {megahertz(core_hz)}; needed are {needed}", self.flash["ACR"]
            )
        scale = self.power.scale or 1
        plain_hz, over_drive_hz = _HCLK_MOST_HZ[scale]
        if core_hz > over_drive_hz:
            self._too_fast("HCLK", core_hz, over_drive_hz, f" at VOS {scale}")
        elif core_hz > plain_hz and not self.power.over_drive:
            self._too_fast("HCLK", core_hz, plain_hz, f" at VOS {scale} without over-drive")
        if self.rcc.apb1_hz > _APB1_MOST_HZ:
            self._too_fast("PCLK1", self.rcc.apb1_hz, _APB1_MOST_HZ)
        if self.rcc.apb2_hz > _APB2_MOST_HZ:
            self._too_fast("PCLK2", self.rcc.apb2_hz, _APB2_MOST_HZ)

    def _too_fast(self, clock: str, hz: float, most_hz: float, where: str = "") -> None:
        self.rcc.report("CFGR", f"{clock} {megahertz(hz)}; at most {megahertz(most_hz)}{where}", self.rcc["CFGR"])
