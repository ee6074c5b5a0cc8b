"""Firmware in QEMU's system emulator, its UART on a pseudo-terminal."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

from tinymbn.emulators.machine import Machine
from tinymbn.emulators.process import Child
from tinymbn.errors import ToolError

PROGRAM = "qemu-system-arm"
ARGUMENTS_VARIABLE = "TINYMBN_QEMU_ARGS"

_ANSWER_S = 10.0  # start and each command take some hundredths of a second; a loaded machine takes longer
_QUIT_S = 3.0
_LINE_BYTES = 1 << 20  # longest QMP line that is read; they have some hundred bytes


class QemuMachine(Machine):
    """One QEMU process, controlled over QMP.

    Args:
        machine: QEMU's name of it, such as ``mps2-an385``.
        firmware: the ELF file or raw image; QEMU reads stack pointer and entry from the vector table.
        icount_shift: with it each instruction takes ``2**icount_shift`` ns of guest time, exactly.

    Raises:
        ToolError: QEMU is missing, knows no such machine, cannot load the firmware, or died at its start.
    """

    def __init__(self, machine: str, firmware: Path, icount_shift: int | None = None) -> None:
        program = shutil.which(PROGRAM)
        if program is None:
            raise ToolError(f"{PROGRAM}: not found; on Debian and Ubuntu: apt-get install qemu-system-arm")
        self._icount_shift = icount_shift
        self.counts_instructions = icount_shift is not None
        # A pair of connected sockets, one end inherited: no path to choose, to race for or to remove.
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._child = Child(
                    _command(program, machine, firmware, icount_shift, theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                    death_signal=signal.SIGTERM,  # on which QEMU quits in order
                )
            except BaseException:
                ours.close()
                raise
        self._monitor = _Monitor(ours)
        try:
            self.port = self._start()
        except (OSError, ValueError) as cause:
            self._child.wait(1.0)  # a QEMU that dislikes its arguments is about to say why
            self.stop()
            raise ToolError(f"{PROGRAM}: machine {machine} did not start: {self._why(cause)}") from cause
        except BaseException:
            self.stop()
            raise

    def _start(self) -> str:
        """Greet QEMU and ask for the serial line's path: ``pty:/dev/pts/3``."""
        self._monitor.greet()
        for device in self._monitor.ask("query-chardev"):
            kind, _, path = str(device["filename"]).partition(":")
            if device["label"] == "serial" and kind == "pty":
                return path
        raise ValueError("no serial line on a pseudo-terminal")

    def _why(self, cause: Exception) -> str:
        # Warnings, such as a network card without a network, are not why it ended.
        lines = [line for line in self._child.words().splitlines() if "warning:" not in line]
        return " / ".join(lines[-3:]).removeprefix(f"{PROGRAM}: ") or self._child.end_reason() or str(cause)

    @property
    def pid(self) -> int:  # noqa: D102
        return self._child.pid

    def release(self) -> None:  # noqa: D102
        self._ask("cont")

    def reset(self) -> None:  # noqa: D102
        self._ask("system_reset")

    def _ask(self, command: str) -> None:
        try:
            self._monitor.ask(command)
        except (OSError, ValueError) as cause:
            self._child.wait(1.0)
            raise ToolError(f'{PROGRAM}: no answer to "{command}": {self._why(cause)}') from cause

    def exit_reason(self) -> str | None:  # noqa: D102
        ended = self._child.end_reason()
        if ended is None:
            return None
        words = [line for line in self._child.words().splitlines() if "warning:" not in line]
        # A core that faults within a fault handler makes QEMU print its registers and abort.
        said = next((line for line in words if "fatal" in line.lower()), words[-1] if words else "")
        return f"{PROGRAM} ended, {ended}" + (f": {said}" if said else "")

    def instructions(self, ticks: int, counter_hz: int) -> Fraction:  # noqa: D102
        if self._icount_shift is None:
            raise ValueError("QEMU counts instructions only when started with an icount_shift")
        return Fraction(ticks * 1_000_000_000, counter_hz << self._icount_shift)

    def stop(self) -> None:  # noqa: D102
        # In order: a tracing plugin writes what it found when QEMU quits.
        self._child.stop(lambda: self._monitor.send("quit"), _QUIT_S)
        self._monitor.close()


def _command(program: str, machine: str, firmware: Path, icount_shift: int | None, monitor: int) -> list[str]:
    """The command line, with what ``TINYMBN_QEMU_ARGS`` adds."""
    command = [program, "-M", machine]
    # Without -nodefaults the machine takes a second serial line or network of its own.
    command += ["-nodefaults", "-display", "none", "-monitor", "none"]
    command += ["-S"]  # what the guest says before the port is open is thrown away without a sign
    command += ["-chardev", "pty,id=serial", "-serial", "chardev:serial"]
    command += ["-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control"]
    command += ["-kernel", os.fspath(firmware)]
    if icount_shift is not None:
        command += ["-icount", f"shift={icount_shift}"]
    try:
        return command + shlex.split(os.environ.get(ARGUMENTS_VARIABLE, ""))
    except ValueError as cause:
        raise ToolError(f"{ARGUMENTS_VARIABLE}: not a list of arguments: {cause}") from cause


class _Monitor:
    """QEMU's machine protocol: a JSON object a line. Source: QEMU, docs/interop/qmp-spec."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = b""

    def greet(self) -> None:
        if "QMP" not in self._line(time.monotonic() + _ANSWER_S):
            raise ValueError("no QMP greeting")
        self.ask("qmp_capabilities")

    def send(self, command: str) -> None:
        self._socket.settimeout(_ANSWER_S)
        self._socket.sendall(json.dumps({"execute": command}).encode() + b"\n")

    def ask(self, command: str) -> Any:
        """What a command returns.

        Raises:
            OSError: QEMU has ended, or does not answer in time.
            ValueError: it refuses the command.
        """
        self.send(command)
        deadline = time.monotonic() + _ANSWER_S
        while True:  # events stand between; the deadline bounds them
            answer = self._line(deadline)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise ValueError(str(answer["error"].get("desc", answer["error"])))

    def _line(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"no answer within {_ANSWER_S:.0f} s")
            self._socket.settimeout(left_s)
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("it has ended")
            self._buffer += data
            if len(self._buffer) > _LINE_BYTES:
                raise ValueError("an endless line on QMP")
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise ValueError(f"not a QMP message: {line[:80]!r}")
        return answer

    def close(self) -> None:
        self._socket.close()
