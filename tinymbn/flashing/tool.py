"""Runs a flash tool: bounded in time and output, ended whole, its failure put into one line."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tinymbn.errors import FlashError, ToolError

_KEPT_BYTES = 1 << 16  # of the output, from its beginning and again from its end
_SHOWN_LINES = 20
_END_S = 3.0  # for a tool that is asked to end
_DRAIN_S = 1.0  # for its last words

# The first line of this sort says why; what follows is what came of it.
_TELLING = re.compile(
    r"error|fail|could ?n.t|could not|can ?not|can't|unable|invalid|denied|refused|timed out|"
    r"not (found|recognized|supported|permitted)|^no |"
    r"\bno (accessible|available|connected|debug|device|probe|st-?link)",
    re.IGNORECASE,
)
# OpenOCD is "unable to match requested speed" each time, st-flash warns with a time before it, pyOCD with one letter.
_CHATTER = re.compile(r"(\S+ )?\s*(info|warn|warning|debug|[IWD])\b", re.IGNORECASE)
# OpenOCD before 0.11 ends with success after these.
_FAILED = re.compile(r"\*\* .*\bfailed \*\*", re.IGNORECASE)
_HINTS = (
    (r"permission|access denied|LIBUSB_ERROR_ACCESS", "may you open the probe? see tinymbn doctor"),
    (r"BOOTSEL", "hold BOOTSEL while the board is plugged in"),
    (r"waiting for a debug probe", "is the board connected?"),
    (r"target type \S+ not recognized", "pyOCD needs a pack for this chip: pyocd pack find, pyocd pack install"),
)


def run_tool(arguments: Sequence[str], program: Path, folder: Path, timeout_s: float) -> str:
    """Run a tool in a folder; the last lines it said.

    Args:
        arguments: its name and arguments.
        program: where it is.
        folder: where it runs.
        timeout_s: after which it and what it started are ended.

    Raises:
        ToolError: it cannot be started.
        FlashError: it failed, or did not end in time.
    """
    name = arguments[0]
    try:
        process = subprocess.Popen(  # noqa: S603
            [os.fspath(program), *arguments[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,  # a tool that asks a question gets no answer
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(f"{name}: cannot be started: {error.strerror}") from error
    assert process.stdout is not None
    output = _Output(process.stdout)
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        _end(process)
        said = _telling(output.lines())
        raise FlashError(
            f"{name}: did not end within {timeout_s:g} s, so it was ended"
            + (f"; it said: {said}" if said else "")
            + "; is the board connected, and its probe not in use elsewhere?"
        ) from None
    finally:  # an interrupt included
        if process.poll() is None:
            _end(process)
    lines = output.lines()
    text = "\n".join(lines)
    if code == 0 and not _FAILED.search(text):
        return "\n".join(lines[-_SHOWN_LINES:])
    ended = f"exit code {code}" if code >= 0 else f"ended by signal {-code}"
    hint = next((f"; {advice}" for pattern, advice in _HINTS if re.search(pattern, text, re.IGNORECASE)), "")
    raise FlashError(f"{name}: {_telling(lines) or 'it said nothing'} ({ended}){hint}")


def _telling(lines: Sequence[str]) -> str:
    telling = (line for line in lines if _TELLING.search(line) and not _CHATTER.match(line))
    return next(telling, lines[-1] if lines else "")[:300]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the tool with what it started: asked first, so that the probe is left in order."""
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, number)  # it began a session, so its group has its number
            else:
                process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
            return


class _Output:
    """What a tool says, read while it runs, so that it never waits for a full pipe."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._head = b""
        self._tail = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._pipe as pipe:
            while data := os.read(pipe.fileno(), _KEPT_BYTES):
                room = _KEPT_BYTES - len(self._head)
                self._head += data[:room]
                self._tail = (self._tail + data[room:])[-_KEPT_BYTES:]

    def lines(self) -> list[str]:
        """What was said so far, without empty lines, progress bars' states apart."""
        self._thread.join(_DRAIN_S)  # bounded: a process that the tool left behind may hold the pipe
        text = (self._head + self._tail).decode(errors="replace")
        return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
