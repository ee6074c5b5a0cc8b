"""UF2 files, decoded again as the specification has them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymbn.elf import Segment
from tinymbn.errors import ToolError
from tinymbn.uf2 import to_uf2

FAMILY = 0xE48BFF56
FLASH = 0x10000000


def decode(data: bytes) -> dict[int, bytes]:
    """Pages by address; every field of every block is checked."""
    assert len(data) % 512 == 0
    blocks = len(data) // 512
    pages: dict[int, bytes] = {}
    for number in range(blocks):
        block = data[512 * number : 512 * (number + 1)]
        words = struct.unpack("<8I", block[:32])
        assert words[:3] == (0x0A324655, 0x9E5D5157, 0x2000)
        address, size, own_number, all_blocks, family = words[3:]
        assert (size, own_number, all_blocks, family) == (256, number, blocks, FAMILY)
        assert block[32 + size : 508] == bytes(476 - size)
        assert block[508:] == bytes([0x30, 0x6F, 0xB1, 0x0A])
        assert address % 256 == 0
        assert address not in pages
        pages[address] = block[32 : 32 + size]
    assert list(pages) == sorted(pages)
    return pages


def memory(pages: dict[int, bytes], address: int, size: int) -> bytes:
    return bytes(pages[a - a % 256][a % 256] for a in range(address, address + size))


def test_one_byte_makes_one_whole_sector() -> None:
    data = to_uf2([Segment(FLASH, b"\x5a")], FAMILY)
    assert data[:32].hex() == "5546320a 57515d9e 00200000 00000010 00010000 00000000 10000000 56ff8be4".replace(" ", "")
    pages = decode(data)
    assert list(pages) == list(range(FLASH, FLASH + 4096, 256))
    assert b"".join(pages.values()) == b"\x5a" + b"\xff" * 4095


def test_sectors_between_segments_are_left_alone() -> None:
    pages = decode(to_uf2([Segment(FLASH + 0x5000, b"b"), Segment(FLASH, b"a")], FAMILY))
    assert {address & ~0xFFF for address in pages} == {FLASH, FLASH + 0x5000}


def test_segments_share_a_page() -> None:
    pages = decode(to_uf2([Segment(FLASH + 0x10, b"abc"), Segment(FLASH + 0x13, b"def")], FAMILY))
    assert pages[FLASH][0x10:0x17] == b"abcdef\xff"


@given(
    st.lists(st.tuples(st.integers(0, 6000), st.binary(min_size=1, max_size=5000)), min_size=1, max_size=4),
    st.integers(0, 300),
)
def test_every_byte_is_at_its_address(parts: list[tuple[int, bytes]], offset: int) -> None:
    segments = []
    address = FLASH + offset
    for gap, data in parts:
        segments.append(Segment(address + gap, data))
        address += gap + len(data)
    pages = decode(to_uf2(segments, FAMILY))
    for segment in segments:
        assert memory(pages, segment.address, len(segment.data)) == segment.data
    covered = sum(len(segment.data) for segment in segments)
    assert len(pages) * 256 < covered + 2 * 4096 * len(segments)


def test_overlapping_segments_are_refused() -> None:
    with pytest.raises(ToolError, match="two segments at 0x10000002"):
        to_uf2([Segment(FLASH, b"abc"), Segment(FLASH + 2, b"d")], FAMILY)


def test_nothing_to_load_is_refused() -> None:
    with pytest.raises(ToolError, match="nothing to load"):
        to_uf2([], FAMILY)
