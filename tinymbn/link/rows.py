"""A layer's output as it comes in pieces, some of which are lost on the way."""

from __future__ import annotations

import struct

from tinymbn.link.messages import EventKind

_OFFSET = struct.Struct("<I")


class Rows:
    """What came of a layer's output, and what is missing."""

    def __init__(self, tensor_bytes: int) -> None:
        self._data = bytearray(tensor_bytes)
        self._missing = bytearray(b"\1") * tensor_bytes  # 1 where nothing came

    def keep(self, kind: EventKind, body: bytes) -> None:
        """Takes the data of an event; what lies outside of the tensor, and other events, are dropped."""
        if kind is not EventKind.DATA or len(body) < _OFFSET.size:
            return
        (begin,) = _OFFSET.unpack_from(body)
        data = body[_OFFSET.size :]
        end = begin + len(data)
        if end <= len(self._data):
            self._data[begin:end] = data
            self._missing[begin:end] = bytes(len(data))

    @property
    def data(self) -> bytes:
        """The output; zero where nothing came."""
        return bytes(self._data)

    @property
    def whole(self) -> bool:
        """Nothing is missing."""
        return 1 not in self._missing

    @property
    def missing(self) -> tuple[int, int]:
        """From the first missing byte to behind the last; nothing may be missing."""
        return max(self._missing.find(1), 0), self._missing.rfind(1) + 1

    @property
    def missing_bytes(self) -> int:
        """How many."""
        return self._missing.count(1)
