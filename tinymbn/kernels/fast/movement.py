"""Operations that move elements: between tensors, around them, and from and to the outside world."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from tinymbn.kernels.fast import vectors
from tinymbn.kernels.fast.memory import (
    OFFSET,
    copy_elements,
    fill_elements,
    instruction,
    load_element,
    read_byte,
    read_int32,
    record,
    routine,
    store_element,
    write_byte,
)
from tinymbn.kernels.fast.parameters import BORDER, MOVE, TRANSFER
from tinymbn.kernels.fast.vectors import ELEMENT_BYTES


@routine
def move(address: int, begin: int, end: int) -> None:
    """The runs from ``begin`` to ``end`` of a movement."""
    p = record(address, MOVE)
    for i in range(begin, end):
        run = p.runs + 12 * i
        to, source, count = read_int32(run), read_int32(run + 4), read_int32(run + 8)
        if source < 0:
            fill_elements(p.output + to * ELEMENT_BYTES, count, p.value)
        else:
            copy_elements(p.input + source * ELEMENT_BYTES, p.output + to * ELEMENT_BYTES, count)


@routine
def fill_border(address: int) -> None:
    """Write a tensor's border, whatever stood there."""
    p = record(address, BORDER)
    row, value = p.row * ELEMENT_BYTES, p.value
    # The border at a row's end and the one at the next row's beginning are neighbours.
    fill_elements(p.address, p.top * p.row + p.left, value)
    gap, beside = p.address + (p.top + 1) * row - p.right * ELEMENT_BYTES, p.right + p.left
    for _ in range(p.height - 1):
        fill_elements(gap, beside, value)
        gap += row
    fill_elements(gap, p.right + p.bottom * p.row, value)


# Elements of 8 bits are the byte with its sign bit turned.
_MASK = 0x80 if OFFSET else 0
_BYTES = ir.VectorType(vectors.I8, 16)


@instruction
def _load_16(b: Any, source: Any, target: Any, mask: Any) -> None:
    """Sixteen bytes as elements."""
    flipped = b.xor(vectors.load(b, source, _BYTES), vectors.splat(b, b.trunc(mask, vectors.I8), _BYTES))
    vectors.store(b, flipped if OFFSET else b.sext(flipped, ir.VectorType(vectors.ELEMENT, 16)), target)


@routine
def load_rows(address: int, begin: int, end: int) -> None:
    """The rows from ``begin`` to ``end`` of an array of bytes, as elements."""
    p = record(address, TRANSFER)
    # One run, or one a pixel where they are further apart than their channels are many.
    dense = p.element_column == p.channels
    runs, count = (1, p.columns * p.channels) if dense else (p.columns, p.channels)
    column = p.element_column * ELEMENT_BYTES
    mask = p.mask ^ _MASK
    for y in range(begin, end):
        x = p.bytes + y * p.columns * p.channels
        out = p.elements + y * p.element_row * ELEMENT_BYTES
        for _ in range(runs):
            at = 0
            while at + 16 <= count:
                _load_16(x + at, out + at * ELEMENT_BYTES, mask)
                at += 16
            while at < count:
                store_element(out + at * ELEMENT_BYTES, _value(read_byte(x + at) ^ mask))
                at += 1
            x += count
            out += column


@routine
def save_rows(address: int, begin: int, end: int) -> None:
    """The rows from ``begin`` to ``end`` of a tensor, as bytes."""
    p = record(address, TRANSFER)
    mask = p.mask ^ _MASK
    columns, channels, column = p.columns, p.channels, p.element_column * ELEMENT_BYTES
    for y in range(begin, end):
        out = p.bytes + y * columns * channels
        x = p.elements + y * p.element_row * ELEMENT_BYTES
        for _ in range(columns):
            for c in range(channels):
                write_byte(out + c, load_element(x + c * ELEMENT_BYTES) ^ mask)
            out += channels
            x += column


@routine
def _value(byte: int) -> int:
    """What a byte of an int8 stands for."""
    return (byte ^ 0x80) - 0x80
