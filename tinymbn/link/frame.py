"""Frames of the link: ``00 | COBS(header | payload | crc32) | 00``. Bytes in, bytes out; no input or output.

The C twin is ``firmware_templates/link/frame.c``; both are tested on the same vectors.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from cobs import cobs

VERSION = 1
DELIMITER = b"\0"
_HEADER = struct.Struct("<BBBBH")  # version and type, sequence, operation, status, payload bytes
_CRC = struct.Struct("<I")
_BLOCK_BYTES = 254  # most data bytes behind one COBS code


class FrameType(IntEnum):
    """The low four bits of a frame's first byte."""

    REQUEST = 1
    REPLY = 2
    EVENT = 3


@dataclass(frozen=True)
class Frame:
    """One message with its header; ``crc`` is that of the frame and names a request."""

    type: int  # a FrameType, or what the wire said
    sequence: int  # 8 bits
    operation: int  # 8 bits
    status: int  # 8 bits; in a request the high byte of its sequence
    payload: bytes
    version: int = VERSION

    @property
    def plain(self) -> bytes:
        """Header and payload."""
        first = self.version << 4 | self.type
        return _HEADER.pack(first, self.sequence, self.operation, self.status, len(self.payload)) + self.payload

    @property
    def crc(self) -> int:
        """CRC-32 of header and payload, as zlib computes it."""
        return zlib.crc32(self.plain)

    def to_bytes(self) -> bytes:
        """The whole frame for the wire, delimiters included."""
        plain = self.plain
        return DELIMITER + bytes(cobs.encode(plain + _CRC.pack(zlib.crc32(plain)))) + DELIMITER


def from_stuffed(stuffed: bytes) -> Frame | None:
    """The frame that stood between two delimiters; None where it is not whole."""
    try:
        plain = bytes(cobs.decode(stuffed))
    except cobs.DecodeError:
        return None
    if len(plain) < _HEADER.size + _CRC.size:
        return None
    covered, crc = plain[: -_CRC.size], plain[-_CRC.size :]
    first, sequence, operation, status, payload_bytes = _HEADER.unpack_from(covered)
    payload = covered[_HEADER.size :]
    if payload_bytes != len(payload) or _CRC.unpack(crc)[0] != zlib.crc32(covered):
        return None
    return Frame(first & 15, sequence, operation, status, payload, first >> 4)


def payload_room(stuffed_bytes: int) -> int:
    """The most payload bytes whose frame never exceeds a receiver's ``rx_max``, whatever the bytes are."""
    blocks = -(-stuffed_bytes // (_BLOCK_BYTES + 1))
    return stuffed_bytes - blocks - _HEADER.size - _CRC.size


class FrameReader:
    """Cuts a stream of bytes into frames, and keeps count of what was none.

    Attributes:
        noise_bytes: that were part of no frame.
        bad_frames: damaged frames; other noise between two delimiters, such as text, is none.
    """

    MOST_BYTES = 4096  # between two delimiters; more is noise

    def __init__(self) -> None:
        self._partial = bytearray()
        self._heard = bytearray()
        self.noise_bytes = 0
        self.bad_frames = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete, in order."""
        found = []
        *ended, rest = data.split(DELIMITER)
        for piece in ended:
            self._collect(piece)
            if self._partial:
                frame = from_stuffed(bytes(self._partial))
                if frame is None:
                    # The first byte of a header stands behind the first COBS code, wherever its zeros are.
                    self._drop(bad=len(self._partial) > _HEADER.size and self._partial[1] >> 4 == VERSION)
                else:
                    found.append(frame)
                    self._partial.clear()
        self._collect(rest)
        return found

    def flush(self) -> None:
        """Gives up what waits for its end: it counts as noise."""
        if self._partial:
            self._drop(bad=False)

    @property
    def noise(self) -> bytes:
        """The first bytes of what was no frame, for a message about it."""
        return bytes(self._heard) + bytes(self._partial[:80])

    def _collect(self, piece: bytes) -> None:
        self._partial += piece
        if len(self._partial) > self.MOST_BYTES:
            self._drop(bad=False)

    def _drop(self, *, bad: bool) -> None:
        self.bad_frames += bad
        self.noise_bytes += len(self._partial)
        if len(self._heard) < 80:
            self._heard += self._partial[: 80 - len(self._heard)]
        self._partial.clear()
