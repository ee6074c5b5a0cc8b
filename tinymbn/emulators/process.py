"""A child process that never outlives its parent, and whose last words are kept."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from tinymbn.errors import ToolError

_WORDS_BYTES = 16384  # of the error output that is kept: a sanitizer's report is a few thousand bytes long
_TERMINATE_S = 2.0
_KILL_S = 5.0

_PR_SET_PDEATHSIG = 1  # Linux, prctl(2)


class Child:
    """One emulator process.

    It runs in a session of its own, so that Ctrl-C on the terminal reaches the parent alone, which then stops it in
    order. Where the parent is killed, Linux ends the child with it.

    Args:
        command: program and arguments.
        stdin: a file descriptor for its standard input; nothing is to be read there if left out.
        stdout: a file descriptor for its standard output; what is written there is dropped if left out.
        pass_fds: further file descriptors that the child inherits.
        environment: the child's whole environment; the parent's own if left out.
        death_signal: what the child gets when its parent dies.

    Raises:
        ToolError: the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
        self._last_words = ""
        try:
            self._process = subprocess.Popen(  # noqa: S603
                list(command),
                stdin=stdin,
                stdout=stdout,
                stderr=self._words,
                pass_fds=tuple(pass_fds),
                env=environment,
                start_new_session=True,
                preexec_fn=_die_with_parent(death_signal),  # noqa: PLW1509 - it loads and locks nothing
            )
        except (OSError, subprocess.SubprocessError) as cause:
            self._words.close()
            why = getattr(cause, "strerror", None) or str(cause)
            raise ToolError(f"{command[0]}: cannot be started: {why}") from cause
        atexit.register(self.kill)

    @property
    def pid(self) -> int:
        """The process id, also after the process has ended."""
        return self._process.pid

    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.poll() is None

    def wait(self, timeout_s: float) -> bool:
        """Whether the process ends within a time."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is a process left to get it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def words(self) -> str:
        """The end of what the process wrote to its standard error, also after its end."""
        if self._words.closed:
            return self._last_words
        # Not seek and read: the child writes at the same file position.
        size = os.fstat(self._words.fileno()).st_size
        start = max(0, size - _WORDS_BYTES)
        return os.pread(self._words.fileno(), _WORDS_BYTES, start).decode("utf-8", "replace").strip()

    def end_reason(self) -> str | None:
        """How the process ended, such as ``exit status 1`` or ``signal SIGSEGV``; None while it runs."""
        status = self._process.poll()
        if status is None:
            return None
        if status < 0:
            try:
                return f"signal {signal.Signals(-status).name}"
            except ValueError:
                return f"signal {-status}"
        return f"exit status {status}"

    def stop(self, ask: Callable[[], None], wait_s: float) -> None:
        """End the process: ask it, wait, terminate, wait, kill. Bounded, and harmless when it has ended.

        Args:
            ask: asks the process to end by itself; what it raises is of no interest.
            wait_s: how long an answer to that may take.
        """
        if self.running():
            with contextlib.suppress(Exception):
                ask()
            if not self.wait(wait_s):
                self.signal(signal.SIGTERM)
                if not self.wait(_TERMINATE_S):
                    self.kill()
        self._keep_words()

    def kill(self) -> None:
        """End the process at once."""
        if self.running():
            self.signal(signal.SIGKILL)
            self.wait(_KILL_S)
        self._keep_words()

    def _keep_words(self) -> None:
        if not self._words.closed:
            self._last_words = self.words()
            self._words.close()
            atexit.unregister(self.kill)


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """What the child does between fork and exec; None where the system has no such thing.

    Linux ends the child when the *thread* that started it ends, so this is for the main thread alone.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    prctl = ctypes.CDLL(None).prctl  # found before the fork: after it nothing may be loaded
    number, parent = int(death_signal), os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return in_child
