"""A serial line that loses, doubles and flips bytes, between a pseudo-terminal and the board's program."""

from __future__ import annotations

import os
import pty
import random
import select
import socket
import subprocess
import threading
import time
import tty
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType


@dataclass(frozen=True)
class Faults:
    """How often what happens; rates are of bytes, both ways."""

    drop: float = 0.0
    double: float = 0.0
    flip: float = 0.0
    noise: float = 0.0  # of pieces: a burst of random bytes before one
    half: float = 0.0  # of pieces: the beginning of an earlier one before one
    stale: float = 0.0  # of pieces: a whole earlier one of the same direction before one
    resets: tuple[float, ...] = ()  # seconds after the start


class FaultyLine:
    """The board's program behind the faults; ``port`` is where pyserial finds it."""

    def __init__(self, program: Path, faults: Faults, seed: int) -> None:
        self._program = program
        self._faults = faults
        self._random = random.Random(seed)
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self.faults_made = 0
        self.resets_made = 0
        self._socket, self._process = self._start()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._forward)
        self._thread.start()

    def __enter__(self) -> FaultyLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._end_process()
        os.close(self._master)
        os.close(self._slave)

    def _start(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        ours, theirs = socket.socketpair()
        process = subprocess.Popen([self._program], stdin=theirs.fileno(), stdout=theirs.fileno())
        theirs.close()
        return ours, process

    def _end_process(self) -> None:
        """A board that ended by itself, as a sanitizer ends it, is a failure of the test."""
        code = self._process.poll()
        self._process.kill()
        self._process.wait(5)
        self._socket.close()
        assert code is None, f"the board ended with {code}"

    def _reset(self) -> None:
        self._end_process()
        self._socket, self._process = self._start()
        self.resets_made += 1

    def _forward(self) -> None:
        begin = time.monotonic()
        resets = deque(sorted(self._faults.resets))
        earlier: dict[str, deque[bytes]] = {"to": deque(maxlen=8), "from": deque(maxlen=8)}
        while not self._stop.is_set():
            if resets and time.monotonic() - begin >= resets[0]:
                resets.popleft()
                self._reset()
            ready, _, _ = select.select([self._master, self._socket.fileno()], [], [], 0.01)
            for source in ready:
                data = os.read(source, 4096)
                if source == self._master:
                    self._socket.sendall(self._damaged(data, earlier["to"]))
                else:
                    _write_all(self._master, self._damaged(data, earlier["from"]))

    def _damaged(self, data: bytes, earlier: deque[bytes]) -> bytes:
        chance, faults = self._random.random, self._faults
        before = b""
        if chance() < faults.noise:
            before += self._random.randbytes(self._random.randrange(1, 40))
        if earlier and chance() < faults.half:
            piece = self._random.choice(earlier)
            before += piece[: self._random.randrange(1, len(piece) + 1)]
        if earlier and chance() < faults.stale:
            before += self._random.choice(earlier)
        earlier.append(data)
        self.faults_made += bool(before)
        damaged = bytearray(before)
        for byte in data:
            if chance() < faults.drop:
                self.faults_made += 1
                continue
            if chance() < faults.flip:
                self.faults_made += 1
                byte ^= 1 << self._random.randrange(8)
            damaged.append(byte)
            if chance() < faults.double:
                self.faults_made += 1
                damaged.append(byte)
        return bytes(damaged)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
