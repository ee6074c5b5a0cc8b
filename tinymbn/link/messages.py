"""What the frames say: operations, regions, and the records that come back. Bytes in, values out; no input or output.

The C twin is ``firmware_templates/link/protocol.h``; ``docs/link.md`` explains both.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from tinymbn.errors import FirmwareError

NAME_BYTES = 4  # a reply or event begins with the CRC of the request it belongs to
MAGIC = b"tmbn"


class Operation(IntEnum):
    """What a request asks for."""

    NONE = 0
    SYNC = 1
    HELLO = 2
    MODEL = 3
    CONSTANTS = 4
    WRITE = 5
    READ = 6
    CRC = 7
    RUN = 8
    DUMP = 9
    STACK = 10
    FAULT = 11
    BAUD = 12
    RESET = 13
    ECHO = 14
    COUNTERS = 15


class Status(IntEnum):
    """How a request ended."""

    OK = 0
    NOT_SYNCED = 1
    UNKNOWN_OPERATION = 2
    BAD_ARGUMENT = 3
    INPUT_DIFFERS = 4
    BAUD_IMPOSSIBLE = 5
    BAD_FRAME = 6
    VERSION = 7
    INCONSISTENT = 8


class Region(IntEnum):
    """Memory that requests may read; the first two also take bytes."""

    INPUT = 0
    ARENA = 1
    OUTPUT = 2
    RECORDS = 3


class RunFlag(IntFlag):
    """How RUN and DUMP run the network."""

    TRACED = 1
    GUARDED = 2
    ALONE = 4


class EventKind(IntEnum):
    """The first byte of an event, behind the name of its request."""

    ACCEPTED = 1
    PROGRESS = 2
    DATA = 3


class Feature(IntFlag):
    """What the compiler was allowed to use."""

    DSP = 1
    MVE = 2
    HARD_FLOAT = 4


class Rounding(IntEnum):
    """The arithmetic of requantisation."""

    DOUBLE = 1


@dataclass(frozen=True)
class Hello:
    """Which firmware answers, and on what."""

    protocol_first: int
    protocol_last: int
    credits: int  # WRITEs that may be under way unanswered
    rounding: int  # a Rounding
    counter_bits: int
    rx_max: int  # bytes of the longest frame, delimiters not counted
    clock_hz: int  # nominal
    counter_hz: int  # nominal
    board_status: int  # 0, or the step of the clock's bring-up that failed
    features: Feature
    version: str  # of the tinymbn that generated the firmware
    board: str
    core: str
    counter: str  # what it counts by: "dwt", "systick", ...

    def __post_init__(self) -> None:
        if not 8 <= self.counter_bits <= 32 or self.counter_hz < 1 or self.rx_max < 64:
            raise FirmwareError(
                f"board {self.board!r}: its greeting is impossible: a counter of {self.counter_bits} bits at"
                f" {self.counter_hz} Hz, frames of {self.rx_max} bytes; flash the firmware again"
            )


@dataclass(frozen=True)
class ModelIdentity:
    """Which model the firmware holds."""

    sha256: str  # 64 hexadecimal digits
    input_bytes: int
    output_bytes: int
    arena_bytes: int
    layers: int
    name: str
    options: str  # what the generator was asked for


@dataclass(frozen=True)
class LayerRecord:
    """What a traced run reported of one layer."""

    index: int
    bytes: int  # of its output that it reported; 0 where it did not run
    ticks: int  # of the board's counter, while it computed
    crc32: int  # of its output, in tensor order


@dataclass(frozen=True)
class LayerRows:
    """Rows of a layer that are run alone; in a whole run, where the layer has all of its own, none."""

    layer: int
    first: int = 0
    count: int = 0


@dataclass(frozen=True)
class RunResult:
    """How a run ended; of a single layer's run the output is none of the network's."""

    ticks: int  # of the board's counter, modulo 2**counter_bits for a plain run
    output_crc32: int


@dataclass(frozen=True)
class StackUse:
    """The board's stack, by the paint that is gone."""

    reserved_bytes: int
    used_bytes: int


@dataclass(frozen=True)
class Counters:
    """What the board's receiver saw go wrong since its reset, and what its clocks show."""

    overruns: int
    bad_frames: int
    cycles: int  # the counter, modulo 2**counter_bits
    milliseconds: int


@dataclass(frozen=True)
class Fault:
    """Registers of the last fault that the board survived by a reset."""

    count: int
    pc: int
    lr: int
    psr: int
    sp: int
    cfsr: int
    hfsr: int
    mmfar: int
    bfar: int


_HELLO = struct.Struct("<4s5B5I")
_MODEL = struct.Struct("<32s4I")
_RECORD = struct.Struct("<3I")
_FAULT = struct.Struct("<9I")

RECORD_BYTES = _RECORD.size


def _texts(data: bytes, count: int, what: str) -> list[str]:
    """So many zero-terminated texts."""
    pieces = data.split(b"\0")
    if len(pieces) != count + 1 or pieces[-1]:
        raise FirmwareError(
            f"board: its {what} has {len(pieces) - 1} texts, expected {count}; flash the firmware again"
        )
    return [piece.decode("utf-8", "replace") for piece in pieces[:-1]]


def _short(data: bytes, least: int, what: str) -> None:
    if len(data) < least:
        raise FirmwareError(
            f"board: its {what} has {len(data)} bytes, expected {least} or more; flash the firmware again"
        )


def to_hello(data: bytes) -> Hello:
    """The greeting.

    Raises:
        FirmwareError: it is none of tinymbn's.
    """
    if not data.startswith(MAGIC):
        raise FirmwareError(f"board: greets with {data[:4]!r}, expected {MAGIC!r}; it runs another firmware")
    _short(data, _HELLO.size, "greeting")
    _, first, last, credits_, rounding, bits, rx_max, clock, counter, status, features = _HELLO.unpack_from(data)
    version, board, core, counter_name = _texts(data[_HELLO.size :], 4, "greeting")
    return Hello(
        protocol_first=first,
        protocol_last=last,
        credits=credits_,
        rounding=rounding,
        counter_bits=bits,
        rx_max=rx_max,
        clock_hz=clock,
        counter_hz=counter,
        board_status=status,
        features=Feature(features),
        version=version,
        board=board,
        core=core,
        counter=counter_name,
    )


def to_model(data: bytes) -> ModelIdentity:
    """The model's identity.

    Raises:
        FirmwareError: it is none.
    """
    _short(data, _MODEL.size, "model's description")
    sha256, input_bytes, output_bytes, arena_bytes, layers = _MODEL.unpack_from(data)
    name, options = _texts(data[_MODEL.size :], 2, "model's description")
    return ModelIdentity(sha256.hex(), input_bytes, output_bytes, arena_bytes, layers, name, options)


def to_records(data: bytes) -> tuple[LayerRecord, ...]:
    """The records of a traced run, one a layer."""
    return tuple(LayerRecord(index, *fields) for index, fields in enumerate(_RECORD.iter_unpack(data)))


def to_fault(data: bytes) -> Fault | None:
    """The fault's registers; None where there was no fault."""
    return Fault(*_FAULT.unpack(data)) if len(data) == _FAULT.size else None


def to_u32(data: bytes, count: int) -> tuple[int, ...]:
    """So many 32-bit numbers.

    Raises:
        FirmwareError: the board sent another number of bytes.
    """
    if len(data) != 4 * count:
        raise FirmwareError(f"board: answered {len(data)} bytes, expected {4 * count}; it runs another firmware")
    return struct.unpack(f"<{count}I", data)


def piece(offset: int) -> bytes:
    """Arguments of HELLO and MODEL: the description from this byte on."""
    return struct.pack("<H", offset)


def write(region: Region, offset: int, data: bytes) -> bytes:
    """Arguments of WRITE."""
    return struct.pack("<BI", region, offset) + data


def read(region: Region, offset: int, length: int) -> bytes:
    """Arguments of READ."""
    return struct.pack("<BIH", region, offset, length)


def crc(region: Region, offset: int, length: int) -> bytes:
    """Arguments of CRC."""
    return struct.pack("<BII", region, offset, length)


def constants(first: int, count: int) -> bytes:
    """Arguments of CONSTANTS."""
    return struct.pack("<HH", first, count)


def run(flags: RunFlag, input_crc32: int, rows: LayerRows | None = None) -> bytes:
    """Arguments of RUN: of the whole network, or of some rows of a layer alone."""
    which = (0, 0, 0) if rows is None else (rows.layer, rows.first, rows.count)
    return struct.pack("<HHHBI", *which, flags, input_crc32)


def dump(rows: LayerRows, flags: RunFlag, input_crc32: int, offset: int, length: int, piece_bytes: int) -> bytes:
    """Arguments of DUMP; of a layer of a whole run ``rows`` has the number alone."""
    return run(flags, input_crc32, rows) + struct.pack("<IIH", offset, length, piece_bytes)


WRITE_HEAD_BYTES = len(write(Region.INPUT, 0, b""))
DATA_HEAD_BYTES = 5  # an event's kind, and where its data lie


def unwrapped(ticks: int, counter_bits: int, estimate: int) -> int:
    """The number of ticks nearest to an estimate that a counter of so many bits would show as ``ticks``."""
    period = 1 << counter_bits
    return max(ticks % period, ticks + round((estimate - ticks) / period) * period)
