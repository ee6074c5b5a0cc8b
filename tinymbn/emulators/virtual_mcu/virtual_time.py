"""Time on a virtual chip: one clock cycle an instruction, and leaps over waits in which nothing happens."""

from __future__ import annotations

from collections.abc import Callable


class VirtualTime:
    """Cycles and seconds since power-on, at a clock that the firmware changes.

    Args:
        instructions: how many were executed so far.
        hz: clock of the core at power-on.
    """

    def __init__(self, instructions: Callable[[], int], hz: float) -> None:
        self._instructions = instructions
        self._skipped = 0  # cycles of waits in which the core polls
        self._slept = 0  # cycles of waits in which its clock stands still
        self._base_cycles = 0
        self._base_s = 0.0
        self.hz = hz

    @property
    def cycles(self) -> int:
        """Cycles since power-on, those asleep included."""
        return self._instructions() + self._skipped + self._slept

    @property
    def cycles_awake(self) -> int:
        """Cycles in which the core's clock ran: what a cycle counter sees."""
        return self._instructions() + self._skipped

    @property
    def seconds(self) -> float:
        """Seconds since power-on."""
        cycles = self._instructions() + self._skipped + self._slept
        return self._base_s + (cycles - self._base_cycles) / self.hz

    def set_hz(self, hz: float) -> None:
        """Change the core's clock from now on."""
        if hz != self.hz:
            self._base_s, self._base_cycles = self.seconds, self.cycles
            self.hz = hz

    def skip(self, seconds: float, *, asleep: bool) -> None:
        """Let time pass without an instruction; at least one cycle, so that whoever waits gets on."""
        cycles = max(1, round(seconds * self.hz + 0.5))
        if asleep:
            self._slept += cycles
        else:
            self._skipped += cycles
