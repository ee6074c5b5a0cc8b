"""What every emulated board can do, whatever runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction
from types import TracebackType
from typing import TypeVar

Self = TypeVar("Self", bound="Machine")


class Machine(ABC):
    """A firmware in an emulator, held before its first instruction until ``release``.

    Use it in a ``with`` statement: leaving it stops the emulator. Open ``port`` with pyserial, then call ``release``,
    so that nothing the firmware says at its start is lost.

    Attributes:
        port: a path that pyserial opens: the host's end of a pseudo-terminal. It stays the same after a reset.
        counts_instructions: whether the firmware's cycle counter tells executed instructions exactly.
    """

    port: str
    counts_instructions: bool

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The emulator's process id, also after it has ended; None where it is not started yet."""

    @abstractmethod
    def release(self) -> None:
        """Let the firmware run; call it once, after the port was opened.

        Raises:
            ToolError: the emulator has ended.
        """

    @abstractmethod
    def reset(self) -> None:
        """Press the reset button: the firmware starts anew, on the same port.

        Raises:
            ToolError: the emulator has ended.
        """

    @abstractmethod
    def exit_reason(self) -> str | None:
        """Why the emulator has ended, in one line; None while it runs."""

    @abstractmethod
    def stop(self) -> None:
        """End the emulator, if need be by force; takes 10 s at most. Harmless when it has ended."""

    @abstractmethod
    def instructions(self, ticks: int, counter_hz: int) -> Fraction:
        """How many instructions a difference of the firmware's cycle counter stands for.

        Args:
            ticks: the difference.
            counter_hz: rate of the counter that the board states.

        Raises:
            ValueError: this machine does not count instructions.
        """

    def alive(self) -> bool:
        """Whether the emulator still runs."""
        return self.exit_reason() is None

    def findings(self) -> tuple[str, ...]:
        """What the emulator found that a chip would not forgive, a line each; nothing if it does not look for it."""
        return ()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
