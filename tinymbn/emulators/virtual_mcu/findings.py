"""What a virtual board found that a chip would not forgive, each once and with its place in the program."""

from __future__ import annotations

from collections.abc import Callable

_MOST = 100  # distinct ones; a firmware with more has other worries


class Findings:
    """An ordered collection of one-line texts.

    Args:
        pc: the address of the instruction under way.
    """

    def __init__(self, pc: Callable[[], int]) -> None:
        self._pc = pc
        self._texts: dict[str, str] = {}

    def add(self, text: str, pc: int | None = None) -> None:
        """Add a finding, once for each place in the program.

        Args:
            text: register, value and rule.
            pc: where, if it is not the instruction under way.
        """
        self.put(text := f"{text}; PC 0x{self._pc() if pc is None else pc:08X}", text)

    def put(self, key: str, text: str) -> None:
        """Add or replace the finding of a key, such as one with a count in it."""
        if key in self._texts or len(self._texts) < _MOST:
            self._texts[key] = text

    def texts(self) -> tuple[str, ...]:
        """All of them, first one first."""
        return tuple(self._texts.copy().values())
