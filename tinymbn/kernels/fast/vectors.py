"""Vector instructions as LLVM builds them, for the intrinsics of the kernels beside this module.

Every function takes the builder of the code that is being written first, and returns what it computes. Addresses
are integers of 64 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from tinymbn.kernels.fast import host
from tinymbn.kernels.fast.instruction_set import CONSTANT_FIELDS

Builder = Any
Value = Any
VectorType = Any

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
LANES = host.SET.lanes
ACCUMULATOR = ir.VectorType(I32, LANES)
_WIDE = ir.VectorType(I64, LANES // 2)
ELEMENT = I8 if host.SET.element == np.uint8 else I16
ELEMENT_BYTES = host.SET.element.itemsize


def constant(value: int) -> Value:
    """An address, offset or count."""
    return ir.Constant(I64, value)


def all_equal(kind: VectorType, value: int) -> Value:
    """A vector with one value in all lanes."""
    return ir.Constant(kind, [value] * kind.count)


def call(b: Builder, name: str, result: Any, arguments: Sequence[Value]) -> Value:
    """Call one of LLVM's intrinsic functions."""
    known = b.module.globals
    function = known.get(name)
    if function is None:
        function = ir.Function(b.module, ir.FunctionType(result, [value.type for value in arguments]), name)
    return b.call(function, arguments)


def load(b: Builder, address: Value, kind: Any, align: int = 1) -> Value:
    """What stands at an address."""
    value = b.load(b.inttoptr(address, kind.as_pointer()))
    value.align = align
    return value


def parameter(b: Builder, record: Value, kind: np.dtype[Any], name: str) -> Value:
    """One of the whole numbers in an operation's record."""
    assert kind.fields is not None
    return load(b, b.add(record, constant(kind.fields[name][1])), I64, 8)


def store(b: Builder, value: Value, address: Value) -> None:
    """Write to an address of any alignment."""
    b.store(value, b.inttoptr(address, value.type.as_pointer())).align = 1


def splat(b: Builder, value: Value, kind: VectorType) -> Value:
    """A vector with this scalar in all lanes."""
    undefined = ir.Constant(kind, ir.Undefined)
    return b.shuffle_vector(
        b.insert_element(undefined, value, ir.Constant(I32, 0)), undefined, _indices([0] * kind.count)
    )


def shuffle(b: Builder, one: Value, other: Value | None, indices: Sequence[int]) -> Value:
    """Lanes of one vector, and from its count on of the other."""
    return b.shuffle_vector(one, ir.Constant(one.type, ir.Undefined) if other is None else other, _indices(indices))


def _indices(indices: Sequence[int]) -> Value:
    return ir.Constant(ir.VectorType(I32, len(indices)), list(indices))


def clamp(b: Builder, value: Value, low: Value, high: Value, *, signed: bool = True) -> Value:
    """Lane by lane within [low, high]."""
    compare = b.icmp_signed if signed else b.icmp_unsigned
    value = b.select(compare(">", value, low), value, low)
    return b.select(compare("<", value, high), value, high)


_MULTIPLY_PAIRS = {"avx2": "llvm.x86.avx2.pmadd.wd", "sse2": "llvm.x86.sse2.pmadd.wd"}
_PACK_PAIRS = {"avx2": "llvm.x86.avx2.packssdw", "sse2": "llvm.x86.sse2.packssdw.128"}


def dot(b: Builder, accumulator: Value, activations: Value, weights: Value) -> Value:
    """The accumulator plus, in each lane, the sum of a group's activations times its weights.

    Args:
        b: the builder.
        accumulator: int32 lanes.
        activations: as many lanes of 32 bits, a group each.
        weights: the same; int8 where activations are uint8, int16 where they are int16.
    """
    if host.SET.name == "avx512_vnni":
        return call(b, "llvm.x86.avx512.vpdpbusd.512", ACCUMULATOR, [accumulator, activations, weights])
    pairs = ir.VectorType(I16, 2 * LANES)
    a, w = b.bitcast(activations, pairs), b.bitcast(weights, pairs)
    if host.SET.name in _MULTIPLY_PAIRS:
        return b.add(accumulator, call(b, _MULTIPLY_PAIRS[host.SET.name], ACCUMULATOR, [a, w]))
    products = []
    for first in (0, 1):
        lanes = range(first, 2 * LANES, 2)
        one, other = (b.sext(shuffle(b, value, None, lanes), ACCUMULATOR) for value in (a, w))
        products.append(b.mul(one, other))
    return b.add(accumulator, b.add(*products))


def field(b: Builder, constants: Value, name: str, kind: VectorType = ACCUMULATOR) -> Value:
    """One field of a vector's constants."""
    offset = CONSTANT_FIELDS.index(name) * 4 * LANES
    return load(b, b.add(constants, constant(offset)), kind, 4 * LANES)


def requantize(b: Builder, accumulator: Value, constants: Value, *, rectified: bool) -> Value:
    """``fixedpoint.requantize`` of each lane, for accumulators of 31 bits and shifts that are not positive.

    The roundings of both its steps are added to the 64-bit product at once: a half of 2**31, and for the shift to
    come a half of 2**(31 - shift), which takes one off below zero; and with them the output's zero point.

    Args:
        b: the builder.
        accumulator: int32 lanes.
        constants: the address of their constants.
        rectified: whatever is negative will be clamped to the zero point, so that one more or less is the same.
    """
    # Twice the product has its upper half where it is wanted: of odd lanes in place, of even ones beside.
    twice = b.add(accumulator, accumulator)
    pairs = b.bitcast(twice, _WIDE)
    even = b.mul(_low(b, pairs), _low(b, field(b, constants, "multiplier", _WIDE)))
    odd = b.mul(_high(b, pairs), _low(b, field(b, constants, "odd_multiplier", _WIDE)))
    even = b.add(even, field(b, constants, "even_rounding", _WIDE))
    odd = b.add(odd, field(b, constants, "odd_rounding", _WIDE))
    lanes = [lane + 1 if lane % 2 == 0 else LANES + lane for lane in range(LANES)]
    high = shuffle(b, b.bitcast(even, ACCUMULATOR), b.bitcast(odd, ACCUMULATOR), lanes)
    if not rectified:
        sign = b.ashr(twice, all_equal(ACCUMULATOR, 31))
        high = b.add(high, b.and_(sign, field(b, constants, "negative")))
    return b.ashr(high, field(b, constants, "shift"))


def _low(b: Builder, wide: Value) -> Value:
    """The lower halves of 64-bit lanes, with their signs."""
    return b.ashr(b.shl(wide, all_equal(_WIDE, 32)), all_equal(_WIDE, 32))


def _high(b: Builder, wide: Value) -> Value:
    return b.ashr(wide, all_equal(_WIDE, 32))


def choose(b: Builder, condition: Value, branch: Callable[[bool], None]) -> None:
    """Write both branches of a condition that is a whole number."""
    with b.if_else(b.icmp_signed("!=", condition, constant(0))) as (yes, no):
        with yes:
            branch(True)
        with no:
            branch(False)


def pack(b: Builder, lanes: Sequence[Value], constants: Value) -> list[Value]:
    """Elements of vectors of rescaled values, clamped: a vector of elements for each.

    Of AVX2 and SSE2, whose instructions pack two into one, a vector for both, if there are two.

    Args:
        b: the builder.
        lanes: int32, the zero point included.
        constants: the address of any of the vectors' constants.
    """
    if host.SET.name == "avx512_vnni":
        return _pack_bytes(b, lanes, constants)
    if host.SET.name in _PACK_PAIRS:
        return [_pack_words(b, lanes, constants)]
    low, high = (b.sext(end, ACCUMULATOR) for end in _ends(b, constants, LANES))
    return [b.trunc(clamp(b, x, low, high), ir.VectorType(I16, LANES)) for x in lanes]


def _ends(b: Builder, constants: Value, count: int) -> list[Value]:
    """The least and the greatest element of an output, so many times."""
    half = ir.VectorType(ELEMENT, 2 * LANES // ELEMENT_BYTES)
    first = b.add(constants, constant(CONSTANT_FIELDS.index("clamp") * 4 * LANES))
    both = [load(b, b.add(first, constant(at)), half, 2 * LANES) for at in (0, 2 * LANES)]
    return [shuffle(b, end, None, [k % half.count for k in range(count)]) for end in both]


def _pack_words(b: Builder, lanes: Sequence[Value], constants: Value) -> Value:
    if len(lanes) == 2:
        words = call(b, _PACK_PAIRS[host.SET.name], ir.VectorType(I16, 2 * LANES), list(lanes))
    else:
        halves = [shuffle(b, lanes[0], None, range(at, at + 4)) for at in range(0, LANES, 4)]
        words = call(b, _PACK_PAIRS["sse2"], ir.VectorType(I16, 8), [halves[0], halves[-1]])
        words = shuffle(b, words, None, range(LANES))
    return clamp(b, words, *_ends(b, constants, words.type.count))


def _pack_bytes(b: Builder, lanes: Sequence[Value], constants: Value) -> list[Value]:
    words, octets, dwords = ir.VectorType(I16, 32), ir.VectorType(I8, 64), ir.VectorType(I32, 16)
    low, high = _ends(b, constants, octets.count)
    packed = []
    for at in range(0, len(lanes), 4):
        four = [lanes[min(at + k, len(lanes) - 1)] for k in range(4)]
        halves = [call(b, "llvm.x86.avx512.packssdw.512", words, pair) for pair in (four[:2], four[2:])]
        result = call(b, "llvm.x86.avx512.packuswb.512", octets, halves)
        # Each 128 bits hold four channels of each vector; a 32-bit permutation puts each vector's together.
        in_order = shuffle(b, b.bitcast(result, dwords), None, [4 * (k % 4) + k // 4 for k in range(16)])
        result = clamp(b, b.bitcast(in_order, octets), low, high, signed=False)
        for k in range(min(4, len(lanes) - at)):
            packed.append(shuffle(b, result, None, range(16 * k, 16 * k + 16)))
    return packed
