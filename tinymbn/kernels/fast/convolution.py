"""CONV_2D of any window, and with it pointwise convolution, the first convolution and FULLY_CONNECTED.

A convolution is a matrix product without the matrix: a pixel's window is some *segments*, runs of neighbouring
elements, at the same distances from each pixel's own place. A tile of pixels times output channels stays in registers
while the segments go by. Weights are packed for that: by block of output channels, group of activations, lane.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from tinymbn.fixedpoint import DENSE_STEPS, requantize, requantize_once, step_count, to_output, wrap_int32
from tinymbn.kernels.fast import host, vectors
from tinymbn.kernels.fast.memory import (
    OFFSET,
    carray,
    instruction,
    pointer,
    read_int8,
    read_int32,
    record,
    routine,
    write_int32,
    write_value,
)
from tinymbn.kernels.fast.parameters import CONVOLUTION, ONCE, TWICE
from tinymbn.kernels.fast.vectors import ACCUMULATOR, ELEMENT_BYTES, I32, I64, LANES, constant, load


def _make_tile(pixels: int, count: int, *, raw: bool = False) -> Any:
    """The intrinsic for a tile of so many pixels and vectors of output channels."""

    @instruction
    def tile(b: Any, record: Any, pixel: Any, weights: Any, constants: Any, out: Any, half: Any) -> None:
        def given(name: str) -> Any:
            return vectors.parameter(b, record, CONVOLUTION, name)

        source_offsets = b.add(given("input_offsets"), b.shl(pixel, constant(2)))
        rows = [b.add(given("input"), _offset(b, source_offsets, k)) for k in range(pixels)]
        blocks = [b.add(constants, constant(host.SET.constant_bytes * v)) for v in range(count)]
        if raw:
            bias = [ir.Constant(ACCUMULATOR, None)] * count
        else:
            bias = [vectors.field(b, block, "bias") for block in blocks]
        sums = _products(b, record, rows, weights, [bias] * pixels)
        sums = _corrected(b, sums, given("corrections"), pixel)
        if raw:
            for v in range(count):
                vectors.store(b, sums[0][v], b.add(out, constant(4 * LANES * v)))
            return
        out_offsets = b.add(given("output_offsets"), b.shl(pixel, constant(2)))
        places = [b.add(out, _offset(b, out_offsets, k)) for k in range(pixels)]

        def rescale(rectified: bool) -> None:
            lanes = [
                [vectors.requantize(b, row[v], blocks[v], rectified=rectified) for v in range(count)] for row in sums
            ]
            _store_tile(b, constants, lanes, places, half)

        vectors.choose(b, given("rectified"), rescale)

    return tile


def _offset(b: Any, table: Any, index: int) -> Any:
    return b.sext(load(b, b.add(table, constant(4 * index)), I32, 4), I64)


def _products(b: Any, record: Any, rows: Any, weights: Any, bias: Any) -> list[list[Any]]:
    """The bias plus, for each pixel and vector of channels, the products of all segments."""
    segments, segment_count, groups = (
        vectors.parameter(b, record, CONVOLUTION, name) for name in ("segments", "segment_count", "groups")
    )
    count = len(bias[0])
    flat = [value for row in bias for value in row]
    entry = b.block
    next_segment, next_group, end_segment, end = (
        b.append_basic_block(name) for name in ("segment", "group", "segment_end", "products_end")
    )
    b.branch(next_segment)

    b.position_at_end(next_segment)
    segment, segment_weights = b.phi(I64), b.phi(I64)
    before = [b.phi(ACCUMULATOR) for _ in flat]
    for phi, value in zip([segment, segment_weights, *before], [constant(0), weights, *flat], strict=True):
        phi.add_incoming(value, entry)
    distance = b.sext(load(b, b.add(segments, b.shl(segment, constant(2))), I32, 4), I64)
    starts = [b.add(row, distance) for row in rows]
    b.branch(next_group)

    b.position_at_end(next_group)
    group = b.phi(I64)
    sums = [b.phi(ACCUMULATOR) for _ in flat]
    for phi, value in zip([group, *sums], [constant(0), *before], strict=True):
        phi.add_incoming(value, next_segment)
    offset = b.shl(group, constant(2))
    here = b.add(segment_weights, b.mul(group, constant(4 * LANES * count)))
    columns = [load(b, b.add(here, constant(4 * LANES * v)), ACCUMULATOR, 4 * LANES) for v in range(count)]
    after = []
    for pixel, start in enumerate(starts):
        activations = vectors.splat(b, load(b, b.add(start, offset), I32), ACCUMULATOR)
        after += [vectors.dot(b, sums[pixel * count + v], activations, columns[v]) for v in range(count)]
    following = b.add(group, constant(1))
    for phi, value in zip([group, *sums], [following, *after], strict=True):
        phi.add_incoming(value, next_group)
    b.cbranch(b.icmp_signed("<", following, groups), next_group, end_segment)

    b.position_at_end(end_segment)
    later = b.add(segment, constant(1))
    later_weights = b.add(segment_weights, b.mul(groups, constant(4 * LANES * count)))
    for phi, value in zip([segment, segment_weights, *before], [later, later_weights, *after], strict=True):
        phi.add_incoming(value, end_segment)
    b.cbranch(b.icmp_signed("<", later, segment_count), next_segment, end)
    b.position_at_end(end)
    return [after[at : at + count] for at in range(0, len(after), count)]


def _corrected(b: Any, sums: Any, corrections: Any, pixel: Any) -> list[list[Any]]:
    """Add each pixel's correction to its accumulators, if there are any."""
    if host.SET.group == 2:
        return [list(row) for row in sums]  # weights have 16 bits, their zero point is in them
    before = b.block
    add, end = b.append_basic_block("correct"), b.append_basic_block("corrected")
    b.cbranch(b.icmp_signed("!=", corrections, constant(0)), add, end)
    b.position_at_end(add)
    corrected = []
    first = b.add(corrections, b.shl(pixel, constant(2)))
    for k, row in enumerate(sums):
        value = vectors.splat(b, load(b, b.add(first, constant(4 * k)), I32, 4), ACCUMULATOR)
        corrected.append([b.add(x, value) for x in row])
    b.branch(end)
    b.position_at_end(end)
    result = []
    for row, other in zip(sums, corrected, strict=True):
        merged = [b.phi(ACCUMULATOR) for _ in row]
        for phi, plain, added in zip(merged, row, other, strict=True):
            phi.add_incoming(plain, before)
            phi.add_incoming(added, add)
        result.append(merged)
    return result


def _store_tile(b: Any, constants: Any, lanes: Any, places: Any, half: Any) -> None:
    if host.SET.group == 2:
        for row, place in zip(lanes, places, strict=True):
            for k, elements in enumerate(vectors.pack(b, row, constants)):
                vectors.store(b, elements, b.add(place, constant(k * LANES * ELEMENT_BYTES)))
        return
    packed = vectors.pack(b, [value for row in lanes for value in row], constants)
    count = len(lanes[0])

    def write(halved: bool) -> None:
        kept = range(16 * count - (8 if halved else 0))
        for k, place in enumerate(places):
            row = packed[k * count : (k + 1) * count]
            vectors.store(b, vectors.shuffle(b, row[0], row[1] if count == 2 else None, kept), place)

    vectors.choose(b, half, write)


_TALL_0, _TALL_1, _TALL_2 = (_make_tile(pixels, 2) for pixels in (*host.SET.tall, host.SET.tall[-1])[:3])
_TALL_PIXELS_0, _TALL_PIXELS_1, _TALL_PIXELS_2 = (*host.SET.tall, host.SET.tall[-1])[:3]
_NARROW = _make_tile(host.SET.narrow, 1)
_NARROW_PIXELS = host.SET.narrow
_ONE, _ONE_NARROW = _make_tile(1, 2), _make_tile(1, 1)
_RAW = _make_tile(1, 2, raw=True)

_VECTOR_OUTPUT = LANES * ELEMENT_BYTES  # bytes of a vector of output channels
_VECTOR_WEIGHTS = 4 * LANES  # bytes of a group's weights for one vector
_VECTOR_CONSTANTS = host.SET.constant_bytes


def _make_sweep(tile: Any, pixels: int) -> Any:
    """A block of output channels for the pixels from ``begin`` to ``end``; the last tile may begin before."""

    @routine
    def sweep(address: int, begin: int, end: int, weights: int, constants: int, out: int, half: int) -> None:
        pixel = begin
        while pixel < end:
            tile(address, max(min(pixel, end - pixels), 0), weights, constants, out, half)
            pixel += pixels

    return sweep


_sweep_tall_0 = _make_sweep(_TALL_0, _TALL_PIXELS_0)
_sweep_tall_1 = _make_sweep(_TALL_1, _TALL_PIXELS_1)
_sweep_tall_2 = _make_sweep(_TALL_2, _TALL_PIXELS_2) if len(host.SET.tall) > 2 else _sweep_tall_1
_sweep_one = _make_sweep(_ONE, 1)
_sweep_narrow = _make_sweep(_NARROW, _NARROW_PIXELS) if LANES > 4 else _sweep_one
_sweep_one_narrow = _make_sweep(_ONE_NARROW, 1) if LANES > 4 else _sweep_one


_SUMMED = 16  # bytes at a time


@instruction
def _sum_of_bytes(b: Any, start: Any, count: Any) -> Any:
    """The sum of a run of uint8; nothing beyond the run is read."""
    if host.SET.group == 2:
        return constant(0)  # no corrections are asked for
    octets, sums = ir.VectorType(vectors.I8, _SUMMED), ir.VectorType(I64, 2)
    entry, body, end = b.block, b.append_basic_block("bytes"), b.append_basic_block("bytes_end")
    b.branch(body)
    b.position_at_end(body)
    at, before = b.phi(I64), b.phi(sums)
    at.add_incoming(constant(0), entry)
    before.add_incoming(ir.Constant(sums, None), entry)
    left = b.sub(count, at)
    left = b.select(b.icmp_signed("<", left, constant(_SUMMED)), left, constant(_SUMMED))
    there = b.icmp_unsigned(
        "<", ir.Constant(octets, list(range(_SUMMED))), vectors.splat(b, b.trunc(left, vectors.I8), octets)
    )
    nothing = ir.Constant(octets, None)
    address = b.inttoptr(b.add(start, at), octets.as_pointer())
    some = vectors.call(b, "llvm.masked.load.v16i8.p0", octets, [address, ir.Constant(I32, 1), there, nothing])
    after = b.add(before, vectors.call(b, "llvm.x86.sse2.psad.bw", sums, [some, nothing]))
    following = b.add(at, constant(_SUMMED))
    at.add_incoming(following, body)
    before.add_incoming(after, body)
    b.cbranch(b.icmp_signed("<", following, count), body, end)
    b.position_at_end(end)
    return b.add(*(b.extract_element(after, ir.Constant(I32, k)) for k in (0, 1)))


@routine
def _correct(address: int, begin: int, end: int) -> None:
    """What the weights' zero point takes from the accumulators of each pixel: itself times the window's sum."""
    p = record(address, CONVOLUTION)
    for pixel in range(begin, end):
        first = p.input + read_int32(p.input_offsets + 4 * pixel)
        total = 0
        for segment in range(p.segment_count):
            total += _sum_of_bytes(first + read_int32(p.segments + 4 * segment), p.run)
        write_int32(p.corrections + 4 * pixel, -p.weight_zero * total)


_LARGEST_TILE = max(*host.SET.tall, host.SET.narrow)


@routine
def convolve(address: int, begin: int, end: int) -> None:
    """The pixels, or the blocks of output channels, from ``begin`` to ``end``, rescaled in vectors."""
    p = record(address, CONVOLUTION)
    first, last = 0, p.wide + p.narrow
    if p.by_block:
        first, last = begin, end
        begin, end = 0, p.pixels
    if p.corrections != 0:
        # The last tile may begin before the first pixel, where another thread is still at it: the same bytes.
        _correct(address, max(begin - _LARGEST_TILE, 0), end)
    weight_bytes = p.segment_count * p.groups * 2 * _VECTOR_WEIGHTS
    for block in range(first, last):
        weights, constants = p.weights + block * weight_bytes, p.constants + block * 2 * _VECTOR_CONSTANTS
        out = p.output + block * 2 * _VECTOR_OUTPUT
        half = p.half if block == p.wide + p.narrow - 1 else 0
        if block == p.wide:
            if p.narrow_tile == 1:
                _sweep_one_narrow(address, begin, end, weights, constants, out, half)
            else:
                _sweep_narrow(address, begin, end, weights, constants, out, half)
        elif p.tile == _TALL_PIXELS_0:
            _sweep_tall_0(address, begin, end, weights, constants, out, half)
        elif p.tile == _TALL_PIXELS_1:
            _sweep_tall_1(address, begin, end, weights, constants, out, half)
        elif p.tile == _TALL_PIXELS_2:
            _sweep_tall_2(address, begin, end, weights, constants, out, half)
        else:
            _sweep_one(address, begin, end, weights, constants, out, half)


@routine
def convolve_exactly(address: int, begin: int, end: int, thread: int) -> None:
    """As ``convolve``, but each output rescaled by the specification's own functions; all blocks are wide."""
    p = record(address, CONVOLUTION)
    scratch = p.scratch + thread * 8 * LANES
    zero, low, high = p.zero - OFFSET, p.low - OFFSET, p.high - OFFSET
    first_channel, last_channel = 0, p.channels
    if p.by_block:
        first_channel, last_channel = begin * 2 * LANES, min(end * 2 * LANES, p.channels)
        begin, end = 0, p.pixels
    if p.corrections != 0:
        _correct(address, begin, end)
    weight_bytes = p.segment_count * p.groups * 2 * _VECTOR_WEIGHTS
    for pixel in range(begin, end):
        out = p.output + read_int32(p.output_offsets + 4 * pixel)
        for first in range(first_channel, last_channel, 2 * LANES):
            weights = p.weights + first // (2 * LANES) * weight_bytes
            _RAW(address, pixel, weights, 0, scratch, 0)
            for c in range(first, min(first + 2 * LANES, p.channels)):
                accumulator = wrap_int32(read_int32(scratch + 4 * (c - first)) + read_int32(p.bias + 4 * c))
                multiplier, shift = read_int32(p.multiplier + 4 * c), read_int8(p.shift + c)
                if p.rounding == TWICE:
                    value = to_output(requantize(accumulator, multiplier, shift), zero, low, high)
                elif p.rounding == ONCE:
                    value = min(max(requantize_once(accumulator, multiplier, shift) + zero, low), high)
                else:
                    steps = carray(pointer(p.steps + 4 * DENSE_STEPS * c), (DENSE_STEPS,), dtype=np.int32)
                    value = min(max(step_count(accumulator, steps) + zero, low), high)
                write_value(out + c * ELEMENT_BYTES, value)
