"""Drives that boards show: found by their labels, written to, and watched until they have taken the image.

The drive of an ST-LINK or J-Link programs the chip with what is written to it and then comes back empty, or with a
``FAIL.TXT``; that of a UF2 boot loader goes away for good. So the file is written under its own name, in one go.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tinymbn.errors import DeviceError, FlashError

# Where desktops mount drives, under their labels.
PLACES = ("/media/*", "/media/*/*", "/run/media/*/*", "/Volumes/*")

SETTLE_S = 10.0  # an ST-LINK programs a megabyte in some seconds before its drive goes away
RETURN_S = 4.0  # until a drive that went away is mounted again
_LOOK_S = 0.1
_CHUNK_BYTES = 1 << 16
_COMPLAINT = "FAIL.TXT"
_COMPLAINT_BYTES = 300
_UF2_INFO = "INFO_UF2.TXT"


def find_drive(labels: Sequence[str]) -> Path | None:
    """The mounted drive with one of the labels, in which ``*`` stands for anything; None where there is none.

    Raises:
        DeviceError: there are several.
    """
    found = [path for label, path in _mounted() if any(_matches(label, pattern) for pattern in labels)]
    if len(found) > 1:
        names = ", ".join(map(str, found))
        raise DeviceError(f"{names}: several drives may be the board's; expected one; unmount the others")
    return found[0] if found else None


def _matches(label: str, pattern: str) -> bool:
    # A desktop adds a digit where a folder of that name is left over.
    return fnmatchcase(label, pattern) or fnmatchcase(label, f"{pattern}[1-9]")


def _mounted() -> list[tuple[str, Path]]:
    """Labels and paths of all drives."""
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.windll.kernel32
        letters = [chr(ord("A") + bit) for bit in range(26) if kernel.GetLogicalDrives() >> bit & 1]
        label = ctypes.create_unicode_buffer(64)
        found = []
        for letter in letters:
            removable = kernel.GetDriveTypeW(f"{letter}:\\") == 2  # a network drive may take minutes to answer
            if removable and kernel.GetVolumeInformationW(f"{letter}:\\", label, 64, None, None, None, None, 0):
                found.append((label.value, Path(f"{letter}:\\")))
        return found
    paths = {path for place in PLACES for path in Path("/").glob(place.lstrip("/"))}
    return [(path.name, path) for path in sorted(paths) if is_drive(path)]


def is_drive(path: Path) -> bool:
    """Whether something is mounted there; a folder left over from a drive is none."""
    try:
        return os.path.ismount(path)
    except OSError:
        return False


def copy_image(image: Path, drive: Path, timeout_s: float) -> str:
    """Put an image onto a drive and see what becomes of it; in a few words, what shows that it was taken.

    Args:
        image: the file.
        drive: where the drive is mounted.
        timeout_s: within which all bytes must be with the drive.

    Raises:
        FlashError: the drive does not take it, or reports that the chip could not be programmed.
    """
    data = image.read_bytes()
    target = drive / image.name
    is_boot_loader = (drive / _UF2_INFO).is_file()
    before = _complaint(drive)
    writing = _Writing(target, data)
    writing.join(timeout_s)
    if writing.is_alive():
        raise FlashError(f"{target}: the drive did not take {len(data)} bytes within {timeout_s:g} s")
    if writing.written < len(data):
        why = getattr(writing.error, "strerror", None) or str(writing.error)
        said = _complaint(drive)
        raise FlashError(
            f"{target}: {why}, after {writing.written} of {len(data)} bytes"
            + (f"; {_COMPLAINT}: {said}" if said else "")
        )
    gone = _watch(drive, before, is_boot_loader=is_boot_loader)
    said = _complaint(drive)
    if said:
        raise FlashError(f"{drive}: the chip was not programmed; {_COMPLAINT} on it says: {said}")
    if gone:
        return "the drive went away with it, as it does when it has taken all"
    if is_boot_loader:
        raise FlashError(f"{drive}: the boot loader did not take {image.name}; is the board another chip?")
    if writing.error is not None:
        raise FlashError(f"{target}: {writing.error.strerror or writing.error}, and the drive is still there")
    return _read_back(target, data)


class _Writing(threading.Thread):
    """Writes a file and waits until the drive has it; a thread, since a dead drive may hold its writer for ever."""

    def __init__(self, target: Path, data: bytes) -> None:
        super().__init__(daemon=True)
        self._target = target
        self._data = data
        self.written = 0
        self.error: OSError | None = None
        self.start()

    def run(self) -> None:
        try:
            with self._target.open("wb", buffering=0) as file:
                while self.written < len(self._data):
                    self.written += file.write(self._data[self.written : self.written + _CHUNK_BYTES])
                os.fsync(file.fileno())
        except OSError as error:
            self.error = error  # no failure yet once all is written: a drive may go away before it says it is done


def _watch(drive: Path, before: str, *, is_boot_loader: bool) -> bool:
    """Wait until the drive has gone away, come back or complained, or nothing happens; whether it has gone."""
    gone = False
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        if not is_drive(drive):
            if is_boot_loader:
                return True
            if not gone:
                gone = True
                deadline = time.monotonic() + RETURN_S
        elif gone or _complaint(drive) not in ("", before):
            break
        time.sleep(_LOOK_S)
    return gone


def _complaint(drive: Path) -> str:
    """What the drive says is wrong, in one line; nothing where it says nothing."""
    try:
        with (drive / _COMPLAINT).open("rb") as file:
            return " ".join(file.read(_COMPLAINT_BYTES).decode(errors="replace").split())
    except OSError:
        return ""


def _read_back(target: Path, data: bytes) -> str:
    try:
        with target.open("rb") as file:
            same = file.read(len(data) + 1) == data
    except OSError:
        return "the drive took the file away, as it does when it has taken all"
    if not same:
        raise FlashError(f"{target}: read back, it differs from what was written")
    return "the file on the drive was read back and is the same"
