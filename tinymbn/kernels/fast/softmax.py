"""SOFTMAX: there are 256 distances from the largest value, so their exponentials are a table."""

from __future__ import annotations

from typing import Any

from tinymbn.fixedpoint import SOFTMAX_SUM_INTEGER_BITS, high_multiply, reciprocal, shift_right
from tinymbn.kernels.fast import vectors
from tinymbn.kernels.fast.memory import instruction, load_element, read_int32, record, routine, write_value
from tinymbn.kernels.fast.parameters import SOFTMAX
from tinymbn.kernels.fast.vectors import ELEMENT_BYTES


@instruction
def _exponential(b: Any, address: Any) -> Any:
    """An entry of the table; atomic, so that LLVM makes no gather of it, which is slower than as many loads."""
    value = b.load_atomic(b.inttoptr(address, vectors.I32.as_pointer()), "unordered", 4)
    return b.sext(value, vectors.I64)


@routine
def softmax(address: int, begin: int, end: int) -> None:
    """The rows from ``begin`` to ``end``; see ``kernels.softmax``."""
    p = record(address, SOFTMAX)
    size = p.classes * ELEMENT_BYTES
    for n in range(begin, end):
        x = p.input + read_int32(p.input_offsets + 4 * n)
        out = p.output + read_int32(p.output_offsets + 4 * n)
        largest = load_element(x)
        for at in range(0, size, ELEMENT_BYTES):
            largest = max(largest, load_element(x + at))
        total = 0
        for at in range(0, size, ELEMENT_BYTES):
            exponential = _exponential(p.exponentials + 4 * (largest - load_element(x + at)))
            if exponential >= 0:
                total += shift_right(exponential, SOFTMAX_SUM_INTEGER_BITS)
        bits = 0
        while total >> bits != 0:
            bits += 1
        bits_over_unit = bits - (31 - SOFTMAX_SUM_INTEGER_BITS) - 1
        inverse = reciprocal((total << (32 - bits)) - 2147483648)
        for at in range(0, size, ELEMENT_BYTES):
            exponential = _exponential(p.exponentials + 4 * (largest - load_element(x + at)))
            probability = 0
            if exponential >= 0:
                probability = shift_right(high_multiply(inverse, exponential), bits_over_unit + 31 - 8)
            write_value(out + at, min(max(probability - 128, -128), 127))
