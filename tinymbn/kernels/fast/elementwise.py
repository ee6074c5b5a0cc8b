"""ADD, MUL and functions of one value."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from tinymbn.fixedpoint import ADD_LEFT_SHIFT, requantize, to_output
from tinymbn.kernels.fast import host, vectors
from tinymbn.kernels.fast.memory import OFFSET, instruction, load_element, record, routine, store_element, write_value
from tinymbn.kernels.fast.parameters import ADDITION, LOOKUP, MULTIPLICATION
from tinymbn.kernels.fast.vectors import ACCUMULATOR, ELEMENT, ELEMENT_BYTES, LANES, constant

_BLOCK = host.SET.block
_BLOCK_BYTES = _BLOCK * ELEMENT_BYTES
_CONSTANT_BYTES = host.SET.constant_bytes


@instruction
def _add_block(builder: Any, addition: Any, a: Any, b: Any, out: Any) -> None:
    def given(name: str) -> Any:
        return vectors.parameter(builder, addition, ADDITION, name)

    scalings = [builder.add(given("constants"), constant(k * _CONSTANT_BYTES)) for k in range(3)]
    operands = []
    for address, name, scaling in ((a, "a_zero", scalings[0]), (b, "b_zero", scalings[1])):
        zeros = vectors.splat(builder, builder.trunc(given(name), vectors.I32), ACCUMULATOR)
        shift = vectors.all_equal(ACCUMULATOR, ADD_LEFT_SHIFT)
        values = _widened(builder, vectors.load(builder, address, ir.VectorType(ELEMENT, _BLOCK)))
        shifted = [builder.shl(builder.sub(x, zeros), shift) for x in values]
        operands.append([vectors.requantize(builder, x, scaling, rectified=False) for x in shifted])
    sums = [builder.add(x, y) for x, y in zip(*operands, strict=True)]

    def rescale(rectified: bool) -> None:
        lanes = [vectors.requantize(builder, x, scalings[2], rectified=rectified) for x in sums]
        for k, packed in enumerate(vectors.pack(builder, lanes, scalings[2])):
            vectors.store(builder, packed, builder.add(out, constant(k * LANES * ELEMENT_BYTES)))

    vectors.choose(builder, given("rectified"), rescale)


def _widened(builder: Any, values: Any) -> list[Any]:
    """The elements of a block as int32 lanes, in the order in which they are packed."""
    order = host.SET.pair_order or range(_BLOCK)
    extend = builder.zext if OFFSET else builder.sext
    return [
        extend(vectors.shuffle(builder, values, None, order[at : at + LANES]), ACCUMULATOR)
        for at in range(0, _BLOCK, LANES)
    ]


@routine
def add(address: int, begin: int, end: int) -> None:
    """The rows from ``begin`` to ``end`` of a sum."""
    p = record(address, ADDITION)
    for y in range(begin, end):
        a, b, out = p.a + y * p.a_row, p.b + y * p.b_row, p.output + y * p.output_row
        whole = 0 if p.exactly else p.run - p.run % _BLOCK
        for x in range(0, whole * ELEMENT_BYTES, _BLOCK_BYTES):
            _add_block(address, a + x, b + x, out + x)
        for x in range(whole * ELEMENT_BYTES, p.run * ELEMENT_BYTES, ELEMENT_BYTES):
            a_value, b_value = load_element(a + x) - p.a_zero, load_element(b + x) - p.b_zero
            a_scaled = requantize(a_value << ADD_LEFT_SHIFT, p.a_multiplier, p.a_shift)
            b_scaled = requantize(b_value << ADD_LEFT_SHIFT, p.b_multiplier, p.b_shift)
            total = requantize(a_scaled + b_scaled, p.multiplier, p.shift)
            store_element(out + x, to_output(total, p.zero, p.low, p.high))


@routine
def multiply(address: int, begin: int, end: int) -> None:
    """The rows from ``begin`` to ``end`` of a product."""
    p = record(address, MULTIPLICATION)
    for y in range(begin, end):
        a, b, out = p.a + y * p.a_row, p.b + y * p.b_row, p.output + y * p.output_row
        for x in range(0, p.run * ELEMENT_BYTES, ELEMENT_BYTES):
            product = (load_element(a + x) - OFFSET - p.a_zero) * (load_element(b + x) - OFFSET - p.b_zero)
            rescaled = requantize(product, p.multiplier, p.shift)
            write_value(out + x, to_output(rescaled, p.zero, p.low, p.high))


@routine
def look_up(address: int, begin: int, end: int) -> None:
    """The rows from ``begin`` to ``end`` of a function of each value."""
    p = record(address, LOOKUP)
    for y in range(begin, end):
        source, out = p.input + y * p.input_row, p.output + y * p.output_row
        for x in range(0, p.run * ELEMENT_BYTES, ELEMENT_BYTES):
            index = (load_element(source + x) - OFFSET + 128) & 255
            store_element(out + x, load_element(p.table + index * ELEMENT_BYTES))
