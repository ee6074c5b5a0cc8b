"""Files of the user: found to be files before they are read, written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tinymbn.errors import OutputError, TinymbnError


def require_file(path: Path, error: type[TinymbnError], expected: str = "") -> int:
    """The size in bytes of a regular file.

    Args:
        path: of the file.
        error: what to raise.
        expected: said where the path leads to something else, such as "a .npy array".

    Raises:
        TinymbnError: of the kind given: there is nothing there, it is no file, or it cannot be reached.
    """
    wanted = f"; expected {expected}" if expected else ""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except (OSError, ValueError) as cause:
        raise error(f"{path}: cannot be read: {_reason(cause)}") from cause
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{path}: not a file{wanted}")
    return status.st_size


def read_file(path: Path, error: type[TinymbnError], most_bytes: int, expected: str = "") -> bytes:
    """A regular file's bytes; raises as ``require_file``, and where there are more than ``most_bytes``."""
    size = require_file(path, error, expected)
    if size > most_bytes:
        raise error(f"{path}: {size} bytes; expected at most {most_bytes}")
    try:
        return path.read_bytes()
    except OSError as cause:
        raise error(f"{path}: cannot be read: {_reason(cause)}") from cause


def require_writable(path: Path) -> None:
    """Refuse, before long work, a place that could not be written after it.

    Raises:
        OutputError: there is no such folder, nothing may be written there, or the path is no file.
    """
    try:
        if not path.parent.is_dir():
            raise OutputError(f"{path}: no folder {path.parent} to write it to")
        if path.exists() and not path.is_file():
            raise OutputError(f"{path}: not a file, so it is not replaced")
        writable = os.access(path.parent, os.W_OK | os.X_OK)
    except OSError as cause:
        raise OutputError(f"{path}: cannot be written: {_reason(cause)}") from cause
    if not writable:
        raise OutputError(f"{path}: cannot be written: no permission in folder {path.parent}")


def write_file(path: Path, data: bytes) -> None:
    """Write a file under another name and rename it, so that it appears whole or not at all.

    Raises:
        OutputError: it cannot be written; what was there before is still there.
    """
    require_writable(path)
    temporary = path.with_name(f".tinymbn-{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as cause:
        raise OutputError(f"{path}: cannot be written: {_reason(cause)}") from cause
    finally:  # whatever happened, an interrupt included
        temporary.unlink(missing_ok=True)


def _reason(cause: Exception) -> str:
    return getattr(cause, "strerror", None) or str(cause)
