"""A program of this computer as a board: its standard input and output are one end of a pseudo-terminal."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import tty
from fractions import Fraction
from pathlib import Path

from tinymbn.emulators.machine import Machine
from tinymbn.emulators.process import Child
from tinymbn.errors import ToolError

_END_S = 0.5  # the program has nothing to write down; it is terminated at once, and killed after this

# The first line of a sanitizer's report; the rest is stack traces.
_SANITIZER = re.compile(r"^.*(?:ERROR: \w+Sanitizer|runtime error):.*$", re.MULTILINE)


class HostMachine(Machine):
    """One process that runs the firmware as built for this computer.

    Args:
        program: the executable.

    Raises:
        ToolError: there is no such file, or it is not executable.
    """

    counts_instructions = False

    def __init__(self, program: Path) -> None:
        if not os.access(program, os.X_OK) or not program.is_file():
            raise ToolError(f"{program}: not a program of this computer; expected what build made for board host")
        self._program = program
        self._child: Child | None = None
        self._resetting = threading.Lock()
        # Both ends stay open here: the line outlives a reset of the board, and a port that is closed and opened again.
        self._board_end, self._host_end = os.openpty()
        tty.setraw(self._host_end)  # neither echo nor line editing, also before either side sets its own
        self.port = os.ttyname(self._host_end)

    @property
    def pid(self) -> int | None:  # noqa: D102
        child = self._child
        return child.pid if child is not None else None

    def release(self) -> None:  # noqa: D102
        with self._resetting:
            self._run()

    def _run(self) -> None:
        environment = {
            **os.environ,
            # A report ends the program, with its stack.
            "UBSAN_OPTIONS": os.environ.get("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1"),
        }
        child = Child(
            [os.fspath(self._program)], stdin=self._board_end, stdout=self._board_end, environment=environment
        )
        self._child = child
        threading.Thread(target=self._hang_up_after, args=(child,), daemon=True).start()

    def _hang_up_after(self, child: Child) -> None:
        """Close the board's end when the program has ended by itself, so that a reader does not wait in vain."""
        while not child.wait(3600.0):
            pass
        with self._resetting:
            if self._child is child:
                self._close_board_end()

    def _close_board_end(self) -> None:
        if self._board_end >= 0:
            os.close(self._board_end)
            self._board_end = -1

    def reset(self) -> None:  # noqa: D102
        with self._resetting:
            if self._child is None:
                return  # not released yet: it is about to start anyway
            if self._board_end < 0:
                raise ToolError(f"{self._program}: cannot be reset: {self.exit_reason()}")
            ended, self._child = self._child, None
            ended.stop(lambda: None, 0.0)
            self._run()

    def exit_reason(self) -> str | None:  # noqa: D102
        child = self._child
        ended = child.end_reason() if child is not None else None
        if child is None or ended is None:
            return None
        words = child.words()
        report = _SANITIZER.search(words)
        said = report.group().strip() if report else words.rpartition("\n")[2]
        return f"{self._program.name} ended, {ended}" + (f": {said}" if said else "")

    def instructions(self, ticks: int, counter_hz: int) -> Fraction:  # noqa: D102
        raise ValueError("the host's counter tells time, not instructions")

    def stop(self) -> None:  # noqa: D102
        if self._child is not None:
            self._child.stop(lambda: None, 0.0)
        with self._resetting:
            self._close_board_end()
            if self._host_end >= 0:
                with contextlib.suppress(OSError):
                    os.close(self._host_end)
                self._host_end = -1
