"""Operations that move elements: between tensors, around them, and from and to the outside world."""

from __future__ import annotations

import numpy as np

from tinymbn.kernels.fast.memory import (
    OFFSET,
    copy_elements,
    fill_elements,
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
        to, source, count = int(read_int32(run)), int(read_int32(run + 4)), int(read_int32(run + 8))
        if source < 0:
            fill_elements(p.output + to * ELEMENT_BYTES, count, p.value)
        else:
            copy_elements(p.input + source * ELEMENT_BYTES, p.output + to * ELEMENT_BYTES, count)


@routine
def fill_border(address: int) -> None:
    """Write a tensor's border, whatever stood there."""
    p = record(address, BORDER)
    # The border at a row's end and the one at the next row's beginning are neighbours.
    fill_elements(p.address, p.top * p.row + p.left, p.value)
    for y in range(p.height - 1):
        gap = p.address + ((p.top + y + 1) * p.row - p.right) * ELEMENT_BYTES
        fill_elements(gap, p.right + p.left, p.value)
    last = p.address + ((p.top + p.height) * p.row - p.right) * ELEMENT_BYTES
    fill_elements(last, p.right + p.bottom * p.row, p.value)


# Elements of 8 bits are the byte with its sign bit turned.
_MASK = 0x80 if OFFSET else 0


@routine
def load_rows(address: int, begin: int, end: int) -> None:
    """The rows from ``begin`` to ``end`` of an array of bytes, as elements."""
    p = record(address, TRANSFER)
    mask = np.uint8(p.mask ^ _MASK)
    for y in range(begin, end):
        x = p.bytes + y * p.columns * p.channels
        out = p.elements + y * p.element_row * ELEMENT_BYTES
        if p.element_column == p.channels:
            for k in range(p.columns * p.channels):
                store_element(out + k * ELEMENT_BYTES, _signed(read_byte(x + k) ^ mask))
        else:
            for column in range(p.columns):
                for c in range(p.channels):
                    byte = read_byte(x + column * p.channels + c) ^ mask
                    store_element(out + (column * p.element_column + c) * ELEMENT_BYTES, _signed(byte))


@routine
def save_rows(address: int, begin: int, end: int) -> None:
    """The rows from ``begin`` to ``end`` of a tensor, as bytes."""
    p = record(address, TRANSFER)
    mask = np.uint8(p.mask ^ _MASK)
    for y in range(begin, end):
        out = p.bytes + y * p.columns * p.channels
        x = p.elements + y * p.element_row * ELEMENT_BYTES
        for column in range(p.columns):
            for c in range(p.channels):
                byte = np.uint8(load_element(x + (column * p.element_column + c) * ELEMENT_BYTES))
                write_byte(out + column * p.channels + c, byte ^ mask)


@routine
def _signed(byte: int) -> int:
    """A byte as an int8 value."""
    return np.int16(np.int8(byte))  # type: ignore[return-value]
