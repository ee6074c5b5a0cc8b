"""A serial line between a virtual UART and a pseudo-terminal, on which bytes take the time they take on a wire."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import termios
import threading
import time
import tty
from collections import deque
from dataclasses import dataclass

from tinymbn.emulators.virtual_mcu.findings import Findings
from tinymbn.emulators.virtual_mcu.virtual_time import VirtualTime

BITS_A_BYTE = 10  # start, eight data, stop
_UNREAD_BYTES = 1 << 20
_RATE_TOLERANCE = 0.02  # of both sides together; a receiver that samples in the middle survives about 5 %

# Linux, asm-generic/termbits.h: struct termios2 and the ioctl that reads it; it knows any rate, not only listed ones.
_TCGETS2 = 0x802C542A
_TERMIOS2 = struct.Struct("=4IB19s2I")


@dataclass(frozen=True)
class Arrival:
    """A byte as the board's receiver takes it off the wire."""

    byte: int
    framing_error: bool


class SerialLine:
    """The wire, the cable's converter and the computer's port.

    Bytes from the computer are stamped with the virtual time at which they were sent, also while the firmware is busy,
    and then arrive one after the other at the rate the port is set to.

    Args:
        name: the UART's, for findings.
        baud: rate that the port has until somebody sets it.
        virtual_time: the chip's.
        findings: where to report.
    """

    def __init__(self, name: str, baud: int, virtual_time: VirtualTime, findings: Findings) -> None:
        self._name, self._nominal_baud = name, baud
        self._time, self._findings = virtual_time, findings
        # The host's end stays open here, so that a port may be closed and opened again.
        self._board_end, self._host_end = os.openpty()
        tty.setraw(self._host_end)
        _set_rate(self._host_end, baud)
        os.set_blocking(self._board_end, False)
        self.port = os.ttyname(self._host_end)
        self._sent: deque[tuple[float, int, int]] = deque()  # (time, baud, byte)
        self._received = bytearray()  # by the computer's end, not yet taken by the pseudo-terminal
        self._changed = threading.Condition()
        self._wakes, self._waker = os.pipe()
        self._wire_free_s = 0.0  # when the last byte to the board has passed
        threading.Thread(target=self._carry, daemon=True).start()

    def _carry(self) -> None:
        """Carry bytes both ways between the pseudo-terminal and the wire; ends with the process.

        What the computer sends is stamped at the moment it does. What it does not read yet waits here.
        """
        while True:
            with self._changed:
                writable = [self._board_end] if self._received else []
            readable, writable, _ = select.select([self._board_end, self._wakes], writable, [])
            if self._wakes in readable:
                os.read(self._wakes, 4096)
            if writable:
                with self._changed, contextlib.suppress(BlockingIOError):
                    written = os.write(self._board_end, self._received[:4096])
                    del self._received[:written]
            if self._board_end in readable:
                data = os.read(self._board_end, 4096)
                with self._changed:
                    now_s, baud = self._time.seconds, self.host_baud()
                    self._sent.extend((now_s, baud, byte) for byte in data)
                    self._changed.notify_all()

    def _port_rate(self) -> int:
        state = fcntl.ioctl(self._host_end, _TCGETS2, bytes(_TERMIOS2.size))
        return int(_TERMIOS2.unpack(state)[-1])

    def host_baud(self) -> int:
        """The rate that the computer's port is set to."""
        try:
            rate = self._port_rate()
        except OSError:  # a system whose ioctl has another number
            return self._nominal_baud
        return rate or self._nominal_baud

    def idle(self, longest_s: float, most_s: float, *, asleep: bool) -> None:
        """Wait in real time until a byte is on the wire, and let as much virtual time pass.

        Args:
            longest_s: to wait in real time.
            most_s: of virtual time that may pass.
            asleep: whether the core's clock stands still meanwhile.
        """
        with self._changed:  # held to the end: what is sent meanwhile is stamped after the leap
            began = time.monotonic()
            self._changed.wait_for(lambda: bool(self._sent), longest_s)
            passed_s = min(time.monotonic() - began, most_s)
            # Not past the byte that has come: a busy computer must not cost the board bytes.
            if (arrival_s := self.next_arrival_s()) is not None:
                passed_s = min(passed_s, arrival_s - self._time.seconds)
            self._time.skip(passed_s, asleep=asleep)

    def next_arrival_s(self) -> float | None:
        """When the next byte will have passed the wire; None if none is on it."""
        if not self._sent:
            return None
        sent_s, baud, _ = self._sent[0]
        return max(self._wire_free_s, sent_s) + BITS_A_BYTE / baud

    def has_arrived(self, now_s: float) -> bool:
        """Whether there is something to ``take``."""
        when_s = self.next_arrival_s() if self._sent else None
        return when_s is not None and when_s <= now_s

    def take(self, now_s: float, baud: float | None) -> Arrival | None:
        """The next byte that has arrived by now, as a receiver at some rate understands it; None if there is none.

        Args:
            now_s: virtual time.
            baud: the receiver's rate; None where nobody listens, and any byte will do.
        """
        when_s = self.next_arrival_s()
        if when_s is None or when_s > now_s:
            return None
        with self._changed:
            _, host_baud, byte = self._sent.popleft()
        self._wire_free_s = when_s
        if baud is None:
            return Arrival(byte, framing_error=False)
        self._check_rate(baud, host_baud)
        return Arrival(*_sampled(byte, host_baud, baud))

    def send(self, byte: int, baud: float) -> None:
        """Hand a byte that the board sends at some rate to the computer, as its port understands it."""
        host_baud = self.host_baud()
        self._check_rate(baud, host_baud)
        with self._changed:
            waiting = len(self._received)
            if waiting < _UNREAD_BYTES:  # else nobody listens
                self._received.append(_sampled(byte, baud, host_baud)[0])
        if not waiting:
            os.write(self._waker, b"\0")

    def _check_rate(self, baud: float, host_baud: int) -> None:
        error = baud / host_baud - 1
        if abs(error) > _RATE_TOLERANCE:
            self._findings.put(
                f"rate {self._name} {baud:.0f} {host_baud}",
                f"{self._name}: runs at {baud:.0f} baud, the computer's port at {host_baud}: {100 * error:+.1f} %, "
                f"allowed are 2 %",
            )


def _set_rate(port: int, baud: int) -> None:
    """Set a port to one of the listed rates; another is left to whoever opens it."""
    rate = getattr(termios, f"B{baud}", None)
    if rate is not None:
        state = termios.tcgetattr(port)
        state[4] = state[5] = rate
        termios.tcsetattr(port, termios.TCSANOW, state)


def _sampled(byte: int, sender_baud: float, receiver_baud: float) -> tuple[int, bool]:
    """A byte on an else idle line as a receiver sees it that looks at the middle of its own bits.

    Returns:
        the byte, and whether its stop bit was missing.
    """
    if sender_baud == receiver_baud:
        return byte, False
    wire = byte << 1 | 1 << 9  # start bit 0, data from the lowest, stop bit 1
    received = 0
    for bit in range(BITS_A_BYTE):
        place = int((bit + 0.5) * sender_baud / receiver_baud)
        received |= (wire >> place & 1 if place < BITS_A_BYTE else 1) << bit
    return received >> 1 & 0xFF, not received >> 9 & 1
