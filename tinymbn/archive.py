"""How large a zip archive says its directory is: asked before Python's zipfile reads one of any size."""

from __future__ import annotations

RECORD_BYTES = 22  # "end of central directory", APPNOTE.TXT 4.3.16, without a comment


def directory_bytes(end: bytes) -> int | None:
    """The size of the directory, by the last ``RECORD_BYTES`` of an archive; None if they end no archive."""
    if len(end) < RECORD_BYTES or not end[-RECORD_BYTES:].startswith(b"PK\5\6"):
        return None
    return int.from_bytes(end[-RECORD_BYTES:][12:16], "little")
