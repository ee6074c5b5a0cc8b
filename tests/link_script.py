"""A line in memory whose clock stands still but for waits, so that time-outs take no time."""

from __future__ import annotations

from collections.abc import Callable


class ScriptedTransport:
    """Each written piece goes to a function that says what comes back."""

    def __init__(self, answer: Callable[[bytes], bytes], baud: int = 115200) -> None:
        self.answer = answer
        self.written: list[bytes] = []
        self.bauds = [baud]
        self._waiting = bytearray()
        self._now = 0.0

    @property
    def name(self) -> str:
        return "script"

    @property
    def baud(self) -> int:
        return self.bauds[-1]

    def set_baud(self, baud: int) -> None:
        self.bauds.append(baud)

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self._waiting += self.answer(data)

    def read(self, timeout_s: float) -> bytes:
        data = bytes(self._waiting)
        self._waiting.clear()
        if not data:
            self._now += max(timeout_s, 0.001)
        return data

    def discard(self) -> None:
        self._waiting.clear()

    def sleep(self, seconds: float) -> None:
        self._now += seconds

    def now(self) -> float:
        return self._now

    def close(self) -> None:
        self._waiting.clear()
