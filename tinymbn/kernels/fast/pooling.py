"""AVERAGE_POOL_2D, MAX_POOL_2D and MEAN: channels innermost, so that the compiler makes vectors of the loops."""

from __future__ import annotations

from tinymbn.fixedpoint import requantize, rounding_average, to_output, wrap_int32
from tinymbn.kernels.fast.memory import (
    OFFSET,
    fill_elements,
    load_element,
    read_int32,
    record,
    routine,
    store_element,
    write_int32,
    write_value,
)
from tinymbn.kernels.fast.parameters import MEAN, POOL
from tinymbn.kernels.fast.vectors import ELEMENT_BYTES


@routine
def _accumulate(source: int, totals: int, count: int) -> None:
    """Add elements to int32 totals."""
    for k in range(count):
        place = totals + 4 * k
        write_int32(place, read_int32(place) + load_element(source + k * ELEMENT_BYTES))


@routine
def average_pool(address: int, begin: int, end: int, thread: int) -> None:
    """The output rows from ``begin`` to ``end`` of averages."""
    p = record(address, POOL)
    totals = p.scratch + thread * 4 * p.channels
    for oy in range(begin, end):
        top = oy * p.stride_vertical - p.top
        first_row, end_row = max(top, 0), min(top + p.kernel_height, p.height)
        for ox in range(p.output_columns):
            left = ox * p.stride_horizontal - p.left
            first_column, end_column = max(left, 0), min(left + p.kernel_width, p.width)
            count = (end_row - first_row) * (end_column - first_column)
            for c in range(p.channels):
                write_int32(totals + 4 * c, count * (p.offset - OFFSET))
            for iy in range(first_row, end_row):
                for ix in range(first_column, end_column):
                    _accumulate(p.input + iy * p.input_row + ix * p.input_column, totals, p.channels)
            out = p.output + oy * p.output_row + ox * p.output_column
            for c in range(p.channels):
                average = rounding_average(read_int32(totals + 4 * c), count) - p.offset
                write_value(out + c * ELEMENT_BYTES, min(max(average, p.low), p.high))


@routine
def max_pool(address: int, begin: int, end: int) -> None:
    """The output rows from ``begin`` to ``end`` of maxima."""
    p = record(address, POOL)
    for oy in range(begin, end):
        top = oy * p.stride_vertical - p.top
        for ox in range(p.output_columns):
            left = ox * p.stride_horizontal - p.left
            out = p.output + oy * p.output_row + ox * p.output_column
            fill_elements(out, p.channels, p.low + OFFSET)
            for iy in range(max(top, 0), min(top + p.kernel_height, p.height)):
                for ix in range(max(left, 0), min(left + p.kernel_width, p.width)):
                    x = p.input + iy * p.input_row + ix * p.input_column
                    for at in range(0, p.channels * ELEMENT_BYTES, ELEMENT_BYTES):
                        store_element(out + at, max(load_element(out + at), load_element(x + at)))
            for at in range(0, p.channels * ELEMENT_BYTES, ELEMENT_BYTES):
                store_element(out + at, min(load_element(out + at), p.high + OFFSET))


@routine
def mean(address: int) -> None:
    """A mean over any axes."""
    p = record(address, MEAN)
    for k in range(p.kept_count):
        write_int32(p.scratch + 4 * k, 0)
    for r in range(p.reduced_count):
        start = p.input + read_int32(p.reduced + 4 * r) * ELEMENT_BYTES
        if p.contiguous:
            _accumulate(start + read_int32(p.kept) * ELEMENT_BYTES, p.scratch, p.kept_count)
        else:
            for k in range(p.kept_count):
                place = p.scratch + 4 * k
                element = load_element(start + read_int32(p.kept + 4 * k) * ELEMENT_BYTES)
                write_int32(place, read_int32(place) + element)
    for k in range(p.kept_count):
        total = read_int32(p.scratch + 4 * k)
        centred = wrap_int32(total - (p.input_zero + OFFSET) * p.reduced_count)
        value = to_output(requantize(centred, p.multiplier, p.shift), p.output_zero, -128, 127)
        write_value(p.output + read_int32(p.output_offsets + 4 * k) * ELEMENT_BYTES, value)
