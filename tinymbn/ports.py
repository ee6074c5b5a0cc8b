"""Serial ports: which there are, which board each may be, and whether it could be opened. None is ever opened here."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports as pyserial_ports

from tinymbn.board import Board, Probe, known_boards
from tinymbn.errors import DeviceError
from tinymbn.terminal import printable

PORT_VARIABLE = "TINYMBN_PORT"

_LOCKS = Path("/proc/locks")
_LOCK_FILES = (Path("/run/lock"), Path("/var/lock"))


@dataclass(frozen=True)
class Port:
    """A serial port of this computer.

    Attributes:
        device: what opens it.
        vid, pid: of the USB device that it belongs to; None where it is none.
        product: what the device calls itself.
        serial_number: which one of its kind it is.
        boards: names of the known boards that it may be.
        problem: what keeps it from being opened and what to do about it; empty: nothing is known to.
    """

    device: str
    vid: int | None
    pid: int | None
    product: str
    serial_number: str
    boards: tuple[str, ...]
    problem: str

    @property
    def usable(self) -> bool:
        """Whether it can be opened, as far as can be seen without trying."""
        return not self.problem

    def __str__(self) -> str:
        """``/dev/ttyACM0 (0483:374b STM32 STLink, 066BFF48)``."""
        parts = [" ".join(filter(None, [_usb_id(self.vid, self.pid), self.product])), self.serial_number]
        details = ", ".join(filter(None, parts))
        return f"{self.device} ({details})" if details else self.device


def list_ports(boards: Sequence[Board] | None = None) -> tuple[Port, ...]:
    """All serial ports, by name.

    Args:
        boards: that a port may be; None: all that ship.
    """
    known = known_boards() if boards is None else boards
    found = []
    for port in pyserial_ports.comports():
        names = tuple(
            board.name for board in known if any(_matches(probe, port.vid, port.pid) for probe in board.probe)
        )
        found.append(
            Port(
                device=port.device,
                vid=port.vid,
                pid=port.pid,
                # What a device says of itself may hold anything.
                product=printable(port.product or ""),
                serial_number=printable(port.serial_number or ""),
                boards=names,
                problem=problem(port.device),
            )
        )
    return tuple(
        sorted(found, key=lambda port: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", port.device)])
    )


def find_port(board: Board, *, port: str | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """The port that a board is at: the one named, else the only one with an id of the board's.

    A port that is not named and may be anything else's is never chosen, so nothing is sent to it.

    Args:
        board: which one.
        port: as the user named it.
        environ: where ``TINYMBN_PORT`` may name it.

    Raises:
        DeviceError: there is no such port, none that may be the board's, or several.
    """
    if port:
        return _named(port, "")
    if environ.get(PORT_VARIABLE):
        return _named(environ[PORT_VARIABLE], f", which {PORT_VARIABLE} names")
    if not board.probe:
        raise DeviceError(f'board "{board.name}": no USB id tells its port; name one with --port or {PORT_VARIABLE}')
    ports = list_ports((board,))
    candidates = [port for port in ports if port.boards]
    if len(candidates) == 1:
        return candidates[0].device
    if candidates:
        raise DeviceError(
            f'board "{board.name}": {len(candidates)} ports may be its: {", ".join(map(str, candidates))}; '
            f"name one with --port or {PORT_VARIABLE}"
        )
    title = board.title.partition(" (")[0]
    raise DeviceError(
        f'board "{board.name}": no {title} ({", ".join(_ids(board))}) is connected; {_connected(ports)}; '
        f"a port with another id has to be named with --port or {PORT_VARIABLE}"
    )


def problem(device: str) -> str:
    """What keeps a port from being opened, and what to do about it; empty where nothing is known to.

    Looks at permissions and at locks that others hold; it does not open the port.
    """
    if sys.platform == "win32":
        return ""
    try:
        status = os.stat(device)
    except FileNotFoundError:
        return "no such port"
    except OSError as error:
        return f"cannot be reached: {error.strerror}"
    if not stat.S_ISCHR(status.st_mode):
        return "not a serial port"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"no permission to open it; {_permission(status)}"
    holder = _holder(device, status)
    return f"in use by {holder}; close it there" if holder else ""


def group_problem(group: str) -> str:
    """What this user lacks of being in a group, and what to do about it; empty: nothing.

    Args:
        group: its name, such as "dialout".
    """
    import grp
    import pwd

    try:
        entry = grp.getgrnam(group)
    except KeyError:
        return f"there is no group {group}"
    if os.geteuid() == 0 or entry.gr_gid in (os.getegid(), *os.getgroups()):
        return ""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = "$USER"
    if user in entry.gr_mem:
        return f"you are in group {group}, but not since this session began; log in again"
    return f"join its group, sudo usermod -aG {group} {user}, and log in again"


def _permission(status: os.stat_result) -> str:
    import grp

    if status.st_mode & 0o060 == 0o060 and status.st_gid != 0:
        try:
            return group_problem(grp.getgrgid(status.st_gid).gr_name) or "see who owns it"
        except KeyError:
            return f"join its group, number {status.st_gid}"
    return "only root may; see who owns it"


def _holder(device: str, status: os.stat_result) -> str:
    """Who has locked a port: in the kernel, as pyserial does, or by a file, as old terminal programs do."""
    try:
        locks = _LOCKS.read_text(encoding="ascii", errors="replace")
    except OSError:
        locks = ""
    # 1: FLOCK  ADVISORY  WRITE 22408 00:1a:3 0 EOF. Source: proc(5)
    here = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in locks.splitlines():
        words = line.split()
        if len(words) >= 6 and words[1] == "FLOCK" and words[5] == here:
            return f"process {words[4]}" if int(words[4]) > 0 else "another program"
    for folder in _LOCK_FILES:
        try:
            pid = int((folder / f"LCK..{Path(device).name}").read_text(encoding="ascii")[:20])
            os.kill(pid, 0)
        except PermissionError:  # of another user, so it is there
            return f"process {pid}"
        except (OSError, ValueError, OverflowError):
            continue
        return f"process {pid}"
    return ""


def _named(device: str, whose: str) -> str:
    """A port that the user named, if there is such."""
    if sys.platform == "win32":
        names = [port.device.upper() for port in pyserial_ports.comports()]
        wrong = "" if device.upper() in names else "no such port"
    else:
        wrong = problem(device)
    # Permissions and locks are found out again, and for certain, by whoever opens it.
    if wrong in ("no such port", "not a serial port"):
        raise DeviceError(f"{device}{whose}: {wrong}; {_connected(list_ports())}")
    return device


def _connected(ports: Sequence[Port]) -> str:
    return f"connected ports: {', '.join(map(str, ports))}" if ports else "no serial port is connected"


def _matches(probe: Probe, vid: int | None, pid: int | None) -> bool:
    return vid == probe.vid and (not probe.pids or pid in probe.pids)


def _ids(board: Board) -> list[str]:
    return [
        text
        for probe in board.probe
        for text in ([_usb_id(probe.vid, p) for p in probe.pids] or [f"{probe.vid:04x}:*"])
    ]


def _usb_id(vid: int | None, pid: int | None) -> str:
    return f"{vid:04x}:{pid:04x}" if vid is not None and pid is not None else ""
