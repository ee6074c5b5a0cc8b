"""Frames: the Python and the C code on the same bytes."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shared import CHECKOUT
from tinymbn.link.frame import Frame, FrameReader, from_stuffed, payload_room

VECTORS: list[dict[str, Any]] = json.loads((CHECKOUT / "tests" / "data" / "link_frames.json").read_text())
BYTE = st.integers(0, 255)
FRAMES = st.builds(
    Frame,
    type=st.integers(0, 15),
    sequence=BYTE,
    operation=BYTE,
    status=BYTE,
    # Few zeros and many: blocks of all lengths.
    payload=st.one_of(
        st.binary(max_size=600),
        st.lists(st.sampled_from([0, 1, 254, 255]), max_size=600).map(bytes),
        st.integers(230, 520).map(lambda n: b"\1" * n),
    ),
    version=st.integers(0, 15),
)


def _frame_of(vector: dict[str, Any]) -> Frame:
    payload = bytes.fromhex(vector["payload"])
    return Frame(vector["type"], vector["sequence"], vector["operation"], vector["status"], payload)


class _CFrame(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_uint8),
        ("type", ctypes.c_uint8),
        ("sequence", ctypes.c_uint8),
        ("operation", ctypes.c_uint8),
        ("status", ctypes.c_uint8),
        ("payload_bytes", ctypes.c_uint32),
        ("payload", ctypes.POINTER(ctypes.c_uint8)),
        ("crc", ctypes.c_uint32),
    )


@dataclass(frozen=True)
class CCode:
    """frame.c as a library."""

    library: ctypes.CDLL

    def crc(self, data: bytes, start: int = 0) -> int:
        return int(self.library.frame_crc(ctypes.c_uint32(start), data, len(data)))

    def to_bytes(self, frame: Frame) -> bytes:
        """The frame as the board sends it."""
        sent = bytearray()
        sink_type = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint8), ctypes.c_uint32)
        sink = sink_type(lambda data, count: sent.extend(data[:count]))
        plain = ctypes.create_string_buffer(frame.plain, len(frame.plain) + 4)
        self.library.frame_send(plain, len(frame.plain), sink)
        return bytes(sent)

    def from_stuffed(self, stuffed: bytes) -> Frame | None:
        """What the board reads."""
        buffer = ctypes.create_string_buffer(stuffed, len(stuffed))
        count = self.library.frame_unstuff(buffer, len(stuffed))
        read = _CFrame()
        if not self.library.frame_read(buffer, count, ctypes.byref(read)):
            return None
        payload = bytes(read.payload[: read.payload_bytes])
        frame = Frame(read.type, read.sequence, read.operation, read.status, payload, read.version)
        assert frame.crc == read.crc
        return frame


@pytest.fixture(scope="module")
def c_code(tmp_path_factory: pytest.TempPathFactory) -> CCode:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here")
    output = tmp_path_factory.mktemp("frame") / "frame.so"
    source = CHECKOUT / "firmware_templates" / "link" / "frame.c"
    subprocess.run(["gcc", "-std=c11", "-O1", "-shared", "-fPIC", str(source), "-o", str(output)], check=True)
    library = ctypes.CDLL(str(Path(output)))
    library.frame_crc.restype = ctypes.c_uint32
    library.frame_unstuff.restype = ctypes.c_uint32
    library.frame_read.restype = ctypes.c_bool
    return CCode(library)


def test_a_frame_worked_by_hand() -> None:
    # Header 11 34 01 12 04 00, payload 78 56 34 12, CRC-32 of both; the only zero is the sixth byte.
    plain = bytes.fromhex("113401120400" + "78563412")
    crc = zlib.crc32(plain).to_bytes(4, "little")
    assert 0 not in crc
    wire = b"\0" + b"\x06" + plain[:5] + b"\x09" + plain[6:] + crc + b"\0"
    assert Frame(1, 0x34, 1, 0x12, bytes.fromhex("78563412")).to_bytes() == wire


@pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])
def test_python_and_c_agree_with_the_committed_frames(vector: dict[str, Any], c_code: CCode) -> None:
    frame, wire = _frame_of(vector), bytes.fromhex(vector["wire"])
    assert frame.to_bytes() == wire
    assert c_code.to_bytes(frame) == wire
    assert from_stuffed(wire[1:-1]) == frame
    assert c_code.from_stuffed(wire[1:-1]) == frame


@given(frame=FRAMES)
def test_what_one_side_sends_the_other_reads(frame: Frame, c_code: CCode) -> None:
    wire = frame.to_bytes()
    assert from_stuffed(wire[1:-1]) == frame
    assert c_code.from_stuffed(wire[1:-1]) == frame
    if frame.version == 1:  # the board sends its own version alone
        plain = Frame(frame.type, frame.sequence, frame.operation, frame.status, frame.payload)
        assert c_code.to_bytes(plain) == plain.to_bytes()


@given(stuffed=st.lists(st.integers(1, 255), min_size=1, max_size=300).map(bytes))
def test_both_sides_refuse_the_same_noise(stuffed: bytes, c_code: CCode) -> None:
    assert from_stuffed(stuffed) == c_code.from_stuffed(stuffed)


@given(frame=FRAMES, data=st.data())
def test_a_flipped_bit_is_never_a_frame(frame: Frame, data: st.DataObject, c_code: CCode) -> None:
    stuffed = bytearray(frame.to_bytes()[1:-1])
    at = data.draw(st.integers(0, len(stuffed) - 1))
    stuffed[at] ^= 1 << data.draw(st.integers(0, 7))
    assert from_stuffed(bytes(stuffed)) in (None, frame)  # a last code of 255 may be 254: no zero follows either way
    assert c_code.from_stuffed(bytes(stuffed)) in (None, frame)


@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
def test_the_crc_is_that_of_zlib_in_one_piece_or_two(data: bytes, cut: int, c_code: CCode) -> None:
    assert c_code.crc(data) == zlib.crc32(data)
    assert c_code.crc(data[cut:], c_code.crc(data[:cut])) == zlib.crc32(data)


@given(rx_max=st.integers(64, 2048), filler=st.sampled_from([0, 1, 255]))
def test_a_frame_of_the_room_fits_the_receiver_and_one_more_may_not(rx_max: int, filler: int) -> None:
    room = payload_room(rx_max)
    assert len(Frame(1, 1, 1, 1, bytes([filler]) * room).to_bytes()) - 2 <= rx_max
    longer = bytes([255]) * (room + 1)
    assert len(Frame(1, 1, 1, 1, longer).to_bytes()) - 2 >= rx_max  # up to one byte is spared by the header's zero


@given(frames=st.lists(FRAMES, max_size=5), cuts=st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_the_reader_finds_frames_in_pieces_of_any_length(frames: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(frame.to_bytes() for frame in frames)
    reader, found, at, turn = FrameReader(), list[Frame](), 0, 0
    while at < len(stream):
        found += reader.feed(stream[at : at + cuts[turn % len(cuts)]])
        at += cuts[turn % len(cuts)]
        turn += 1
    assert found == frames
    assert reader.bad_frames == 0


def test_the_reader_counts_what_was_no_frame_and_goes_on() -> None:
    frame = Frame(2, 1, 2, 0, b"x")
    reader = FrameReader()
    damaged = bytearray(frame.to_bytes())
    damaged[-3] ^= 1
    found = reader.feed(b"m-ready\r\n" + frame.to_bytes() + bytes(damaged) + frame.to_bytes())
    assert found == [frame, frame]
    assert reader.bad_frames == 1  # text is no frame, damaged or not
    assert reader.noise_bytes == len(b"m-ready\r\n") + len(damaged) - 2
    assert reader.noise.startswith(b"m-ready\r\n")


def test_endless_noise_does_not_fill_the_memory() -> None:
    reader = FrameReader()
    for _ in range(100):
        assert reader.feed(b"\xaa" * 1000) == []
    assert len(reader.noise) <= 200
    assert reader.noise_bytes >= 90_000
