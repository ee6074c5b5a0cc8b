"""The process of a virtual board: obeys its parent, a JSON object a line, while the firmware runs."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tinymbn.emulators.virtual_mcu.firmware_image import flash_image
from tinymbn.emulators.virtual_mcu.mcu import Lockup, VirtualMcu
from tinymbn.errors import ToolError

Build = Callable[[str, int], tuple[VirtualMcu, str]]
"""Out of a machine's name and a baud rate: the chip, and the path of its serial port."""

LOCKED_UP = 3  # exit status
_STOP_S = 2.0


def serve(build: Build, arguments: Sequence[str] | None = None) -> int:
    """Run a firmware until the parent says otherwise or is gone; returns the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--control", type=int, required=True, help="file descriptor of a connected socket")
    parser.add_argument("--machine", required=True)
    parser.add_argument("--baud", type=int, required=True)
    parser.add_argument("firmware", type=Path)
    options = parser.parse_args(arguments)
    # The thread that notes when a byte was sent needs the interpreter soon; the default is 5 ms.
    sys.setswitchinterval(0.0002)
    with socket.socket(fileno=options.control) as connection:
        control = _Control(connection)
        try:
            mcu, port = build(options.machine, options.baud)
            mcu.load(flash_image(options.firmware, mcu.flash))
        except ToolError as cause:
            control.say({"error": str(cause)})
            return 1
        control.say({"port": port})
        return control.run(mcu)


class _Control:
    """The connection to the parent."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._released = threading.Event()
        self._ends = threading.Event()

    def say(self, message: dict[str, Any]) -> None:
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:  # the parent is gone, which the reading thread notices as well
            self._ends.set()

    def run(self, mcu: VirtualMcu) -> int:
        threading.Thread(target=self._obey, args=(mcu,), daemon=True).start()
        self._released.wait()
        status = 0
        try:
            if not self._ends.is_set():
                mcu.run()
        except Lockup as cause:
            print(f"locked up: {cause}", file=sys.stderr)
            status = LOCKED_UP
        self.say({"findings": mcu.all_findings()})  # the last ones, unasked
        return status

    def _obey(self, mcu: VirtualMcu) -> None:
        with self._connection.makefile("r", encoding="utf-8") as commands:
            for command in commands:
                match command.strip():
                    case "release":
                        self._released.set()
                    case "reset":
                        mcu.request_reset()
                    case "findings":
                        self.say({"findings": mcu.all_findings()})
                    case "quit":
                        break
        # Asked to, or the parent is gone.
        self._ends.set()
        self._released.set()
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline:  # a stop that comes between two pieces of work is not heard
            mcu.request_stop()
            time.sleep(0.01)
        os._exit(1)
