"""UF2 files, which boot loaders take as blocks written to a drive they show.

Source: the format's specification, github.com/microsoft/uf2; RP2040 datasheet 2.8.4.2 and its erratum E14.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tinymbn.elf import Segment
from tinymbn.errors import ToolError

_MAGIC_START = (0x0A324655, 0x9E5D5157)
_MAGIC_END = 0x0AB16F30
_FAMILY_ID_PRESENT = 0x00002000  # the last header word says which chip, not the file's size
_BLOCK_BYTES = 512
_PAGE_BYTES = 256  # what flash is programmed by, and all that a block carries of the 476 bytes it has room for
_SECTOR_BYTES = 4096  # what flash is erased by


def to_uf2(segments: Sequence[Segment], family: int) -> bytes:
    """The segments as blocks of one flash page each, in order of address.

    Every sector that is touched is written whole, with 0xFF where no segment is: the RP2040 may leave a sector
    unerased of which pages are missing (erratum E14).

    Args:
        segments: by physical address; they may begin and end anywhere.
        family: number of the chip's family, which the boot loader compares with its own.

    Raises:
        ToolError: there is nothing to write, or two segments overlap.
    """
    sectors: dict[int, bytearray] = {}
    end = 0
    for segment in sorted(segments, key=lambda segment: segment.address):
        if segment.address < end:
            raise ToolError(f"UF2: two segments at 0x{segment.address:08x}; expected one byte for each address")
        end = segment.address + len(segment.data)
        _place(segment, sectors)
    if not sectors:
        raise ToolError("UF2: there is nothing to load")
    pages = [
        (base + offset, bytes(sector[offset : offset + _PAGE_BYTES]))
        for base, sector in sorted(sectors.items())
        for offset in range(0, _SECTOR_BYTES, _PAGE_BYTES)
    ]
    return b"".join(_block(address, page, number, len(pages), family) for number, (address, page) in enumerate(pages))


def _place(segment: Segment, sectors: dict[int, bytearray]) -> None:
    """Copy a segment's bytes into the sectors, by their first address, that they belong to."""
    done = 0
    while done < len(segment.data):
        address = segment.address + done
        base = address - address % _SECTOR_BYTES
        sector = sectors.setdefault(base, bytearray(b"\xff" * _SECTOR_BYTES))
        piece = segment.data[done : done + base + _SECTOR_BYTES - address]
        sector[address - base : address - base + len(piece)] = piece
        done += len(piece)


def _block(address: int, page: bytes, number: int, blocks: int, family: int) -> bytes:
    header = struct.pack("<8I", *_MAGIC_START, _FAMILY_ID_PRESENT, address, len(page), number, blocks, family)
    return (header + page).ljust(_BLOCK_BYTES - 4, b"\0") + struct.pack("<I", _MAGIC_END)
