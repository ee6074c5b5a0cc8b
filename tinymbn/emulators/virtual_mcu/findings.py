"""What a virtual board found that a chip would not forgive, each once and with its place in the program."""

from __future__ import annotations

from collections.abc import Callable

_MOST = 100  # distinct ones; a firmware with more has other worries


class Findings:
    """An ordered collection of one-line texts.

    Args:
        place: where the program is, in words.
    """

    def __init__(self, place: Callable[[], str]) -> None:
        self._place = place
        self._texts: dict[str, str] = {}

    def add(self, text: str, place: str | None = None) -> None:
        """Add a finding, once for each place in the program.

        Args:
            text: register, value and rule.
            place: where, if it is not the instruction under way.
        """
        text = f"{text}; {place or self._place()}"
        self.put(text, text)

    def put(self, key: str, text: str) -> None:
        """Add or replace the finding of a key, such as one with a count in it."""
        if key in self._texts or len(self._texts) < _MOST:
            self._texts[key] = text

    def texts(self) -> tuple[str, ...]:
        """All of them, first one first."""
        return tuple(self._texts.copy().values())
