"""Zip archives of anyone: what is asked of one before its members are read."""

from __future__ import annotations

import zipfile

from tinymbn.errors import ModelError

RECORD_BYTES = 22  # "end of central directory", APPNOTE.TXT 4.3.16, without a comment


def directory_bytes(end: bytes) -> int | None:
    """The size of the directory, by the last ``RECORD_BYTES`` of an archive; None if they end no archive.

    Python's zipfile reads a directory of any size.
    """
    if len(end) < RECORD_BYTES or not end[-RECORD_BYTES:].startswith(b"PK\5\6"):
        return None
    return int.from_bytes(end[-RECORD_BYTES:][12:16], "little")


def stored_members(archive: zipfile.ZipFile, size: int) -> list[zipfile.ZipInfo]:
    """The members of an archive of ``size`` bytes: each stored as it is, all within those bytes.

    Raises:
        ModelError: one is compressed or encrypted, they are larger than the archive, or two have one name.
    """
    members = archive.infolist()
    for info in members:
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ModelError(
                f"member {info.filename!r} is compressed or encrypted; expected all to be stored as they are; "
                "write the file again with the tool that made it"
            )
        if info.file_size != info.compress_size:
            raise ModelError(f"member {info.filename!r} declares two sizes")
    if sum(info.file_size for info in members) > size:
        raise ModelError("its members are larger than the file")
    if len({info.filename for info in members}) != len(members):
        raise ModelError("two members have one name")
    return members
