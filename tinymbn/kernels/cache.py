"""Where machine code is kept between processes."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path


def cache_directory(prefix: str, sources: Iterable[Path], facts: Iterable[str] = ()) -> Path | None:
    """The folder for what is compiled from these files; None if nowhere can be written.

    Its name has a digest of all that the machine code hangs on, so that none is taken for another's.

    Args:
        prefix: of the folder's name.
        sources: files that are compiled, or compiled into others.
        facts: whatever else makes a difference, as versions and the processor do.
    """
    base = os.environ.get("TINYMBN_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "tinymbn"
    )
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    for fact in facts:
        digest.update(fact.encode() + b"\0")
    directory = Path(base) / f"{prefix}-{digest.hexdigest()[:16]}"
    try:
        if not directory.is_dir():
            directory.mkdir(parents=True, exist_ok=True)
            _remove_old(directory, prefix)
    except OSError:
        return None
    return directory if os.access(directory, os.W_OK) else None


def _remove_old(directory: Path, prefix: str) -> None:
    """Take away what other versions left a month ago; one that is still in use compiles once more."""
    for other in directory.parent.glob(f"{prefix}-*"):
        if time.time() - other.stat().st_mtime > 30 * 86400:
            shutil.rmtree(other, ignore_errors=True)
