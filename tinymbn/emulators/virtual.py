"""Firmware on a virtual board: a process of its own that models the chip, its UART on a pseudo-terminal."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import tinymbn
from tinymbn.emulators.machine import Machine
from tinymbn.emulators.process import Child
from tinymbn.errors import ToolError

_START_S = 30.0  # half a second, most of it compiling; a loaded machine takes longer
_ANSWER_S = 5.0
_QUIT_S = 3.0


class VirtualMachine(Machine):
    """One virtual board.

    Args:
        package: whose ``__main__`` models the chip.
        machine: name of the board that the chip is on.
        firmware: ELF file or raw image of the flash.
        baud: nominal rate of its serial line.

    Raises:
        ToolError: Unicorn is missing, or the firmware cannot be loaded.
    """

    counts_instructions = True

    def __init__(self, package: str, machine: str, firmware: Path, baud: int) -> None:
        if importlib.util.find_spec("unicorn") is None:
            raise ToolError("unicorn: not installed, and the virtual board runs on it; pip install tinymbn[emulator]")
        self._name = f"virtual {machine}"
        self._findings: tuple[str, ...] = ()
        self._buffer = b""
        self._control, theirs = socket.socketpair()
        command = [sys.executable, "-m", package, "--control", str(theirs.fileno()), "--machine", machine]
        command += ["--baud", str(baud), os.fspath(firmware)]
        # The child finds the same package as this process, wherever it was imported from.
        package_root = os.fspath(Path(tinymbn.__file__).resolve().parent.parent)
        paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        with theirs:
            try:
                self._child = Child(
                    command,
                    pass_fds=(theirs.fileno(),),
                    environment={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                )
            except BaseException:
                self._control.close()
                raise
        try:
            message = self._receive(_START_S)
        except OSError as cause:
            self._child.wait(1.0)
            said = self._child.words().rpartition("\n")[2] or self._child.end_reason() or str(cause)
            self.stop()
            raise ToolError(f"{self._name}: did not start: {said}") from cause
        except BaseException:
            self.stop()
            raise
        if "error" in message:
            self.stop()
            raise ToolError(f"{self._name}: {message['error']}")
        self.port = str(message["port"])

    def _receive(self, seconds: float) -> dict[str, Any]:
        """The next message.

        Raises:
            OSError: the child has ended, or says nothing in time.
        """
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"no answer within {seconds:.0f} s")
            self._control.settimeout(left_s)
            data = self._control.recv(65536)
            if not data:
                raise ConnectionError("it has ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        if "findings" in message:
            self._findings = tuple(message["findings"])
        return message

    def _send(self, command: str) -> None:
        try:
            self._control.settimeout(_ANSWER_S)
            self._control.sendall(command.encode() + b"\n")
        except OSError as cause:
            self._child.wait(1.0)
            raise ToolError(f'{self._name}: cannot be told to "{command}": {self.exit_reason() or cause}') from cause

    @property
    def pid(self) -> int:  # noqa: D102
        return self._child.pid

    def release(self) -> None:  # noqa: D102
        self._send("release")

    def reset(self) -> None:  # noqa: D102
        self._send("reset")

    def findings(self) -> tuple[str, ...]:  # noqa: D102
        if self._control.fileno() >= 0:
            with contextlib.suppress(ToolError):
                self._send("findings")
            with contextlib.suppress(OSError):
                self._receive(_ANSWER_S)
                while not self._child.running():  # it has said its last ones unasked
                    self._receive(_ANSWER_S)
        return self._findings

    def exit_reason(self) -> str | None:  # noqa: D102
        ended = self._child.end_reason()
        if ended is None:
            return None
        said = self._child.words().rpartition("\n")[2]
        return f"{self._name} ended, {ended}" + (f": {said}" if said else "")

    def instructions(self, ticks: int, counter_hz: int) -> Fraction:  # noqa: D102
        # One cycle an instruction, at any clock.
        return Fraction(ticks)

    def stop(self) -> None:  # noqa: D102
        self._child.stop(lambda: self._send("quit"), _QUIT_S)
        self.findings()
        self._control.close()
