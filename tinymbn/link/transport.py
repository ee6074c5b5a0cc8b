"""The way of bytes to a board and back: a serial port, or the pseudo-terminal of an emulator."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import serial

from tinymbn.errors import DeviceError, LinkError

_WRITE_TIMEOUT_S = 5.0
_READ_STEP_S = 0.02  # pyserial reconfigures the port where its time-out changes, so it never does


class Transport(Protocol):
    """What a session needs; errors of the line are LinkErrors."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def baud(self) -> int:
        """Bits per second, also where that means nothing."""

    def set_baud(self, baud: int) -> None:
        """Changes the rate at once; what is under way is sent before."""

    def write(self, data: bytes) -> None:
        """Hands over all bytes."""

    def read(self, timeout_s: float) -> bytes:
        """What has come, at least one byte unless nothing comes in time."""

    def discard(self) -> None:
        """Drops what has come and was not read."""

    def now(self) -> float:
        """Seconds on the clock that waits are measured by."""

    def close(self) -> None:
        """Gives the line back; nothing happens when it is closed already."""


class SerialTransport:
    """A serial port, or the pseudo-terminal of an emulator."""

    def __init__(self, port: serial.Serial) -> None:
        self._port = port

    @property
    def name(self) -> str:
        """The path of the port."""
        return str(self._port.port)

    @property
    def baud(self) -> int:
        """Bits per second."""
        return int(self._port.baudrate)

    def set_baud(self, baud: int) -> None:
        """Waits until all is sent, then changes the rate."""

        def change() -> None:
            self._port.flush()
            self._port.baudrate = baud

        self._guarded(change)

    def write(self, data: bytes) -> None:
        """Hands all bytes to the system; a line that takes none for seconds is an error."""
        self._guarded(lambda: self._port.write(data))

    def read(self, timeout_s: float) -> bytes:
        """What has come, at least one byte unless nothing comes in time."""

        def take() -> bytes:
            end = self.now() + timeout_s
            while True:
                first = bytes(self._port.read(1))  # waits _READ_STEP_S at most
                if first:
                    return first + bytes(self._port.read(self._port.in_waiting))
                if self.now() >= end:
                    return b""

        return self._guarded(take)

    def discard(self) -> None:
        """Drops what has come and was not read."""
        self._guarded(self._port.reset_input_buffer)

    def now(self) -> float:
        """Seconds, never backwards."""
        return time.monotonic()

    def close(self) -> None:
        """Closes the port."""
        self._port.close()

    def _guarded(self, action: Callable[[], bytes | int | None]) -> bytes:
        try:
            result = action()
        except serial.SerialTimeoutException:
            raise LinkError(f"{self.name}: took no bytes for {_WRITE_TIMEOUT_S:g} s; is the board powered?") from None
        except (OSError, ValueError, TypeError) as error:
            # A port that vanishes shows as any of these in pyserial: EIO, a bad descriptor, None for one.
            raise LinkError(f"{self.name}: the port went away ({error}); is the board still connected?") from None
        return result if isinstance(result, bytes) else b""


def open_port(path: str, baud: int) -> SerialTransport:
    """An exclusively opened serial port, 8N1, without flow control.

    Raises:
        DeviceError: there is no such port, it is in use, or this user may not open it.
        LinkError: it cannot run at this baud rate.
    """
    try:
        port = serial.Serial(path, baud, timeout=_READ_STEP_S, write_timeout=_WRITE_TIMEOUT_S, exclusive=True)
    except ValueError as error:
        raise LinkError(f"{path}: {baud} baud: {error}") from None
    except OSError as error:
        raise DeviceError(f"{path}: {_why_not(path, error)}") from None
    return SerialTransport(port)


def _why_not(path: str, error: OSError) -> str:
    """What keeps a port from being opened, and what to do about it."""
    number = error.errno
    text = str(error)
    if number in (errno.EACCES, errno.EPERM):
        return "no permission to open it; join its group (sudo usermod -aG dialout $USER) and log in again"
    if number in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in text:
        return "in use by another program; close it there"
    if number == errno.ENOENT or not Path(path).exists():
        return "no such port; `tinymbn ports` lists those there are"
    return f"cannot be opened: {text}"
