"""DEPTHWISE_CONV_2D: a register of channels at a time, taps multiplied and summed in groups.

A group takes the same channel of several taps into one lane: of 16-bit elements two, of bytes four. For 3x3 windows the
three taps of a column make groups that neighbouring outputs share; any other window is a list of taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from tinymbn.fixedpoint import requantize, to_output, wrap_int32
from tinymbn.kernels.fast import host, vectors
from tinymbn.kernels.fast.memory import OFFSET, instruction, read_int8, read_int32, record, routine, write_value
from tinymbn.kernels.fast.parameters import DEPTHWISE
from tinymbn.kernels.fast.vectors import ACCUMULATOR, ELEMENT, ELEMENT_BYTES, I32, I64, LANES, constant, load

BLOCK = host.SET.block
_ELEMENTS = ir.VectorType(ELEMENT, BLOCK)
VECTORS_A_BLOCK = BLOCK // LANES
_BLOCK_CONSTANTS = VECTORS_A_BLOCK * host.SET.constant_bytes
_BLOCK_BYTES = BLOCK * ELEMENT_BYTES


def _interleave(b: Any, taps: Sequence[Any]) -> list[Any]:
    """Vectors of groups, the lanes of a group being the same channel of each tap; see ``InstructionSet.pair_order``."""
    if host.SET.group == 4:
        one, other = (vectors.shuffle(b, taps[k], taps[k + 1], range(32)) for k in (0, 2))
        order = [16 * (tap // 2) * 2 + 16 * (tap % 2) + c for c in range(16) for tap in range(4)]
        return [b.bitcast(vectors.shuffle(b, one, other, order), ACCUMULATOR)]
    groups = []
    for half in (0, 4):  # of each 128 bits, as unpack instructions do
        order = [tap * BLOCK + 8 * part + half + c for part in range(BLOCK // 8) for c in range(4) for tap in range(2)]
        groups.append(b.bitcast(vectors.shuffle(b, taps[0], taps[1], order), ACCUMULATOR))
    return groups


def _weights(b: Any, weights: Any, group: int, vector: int) -> Any:
    offset = (group * VECTORS_A_BLOCK + vector) * 4 * LANES
    return load(b, b.add(weights, constant(offset)), ACCUMULATOR, 4 * LANES)


def _tap(b: Any, row: Any, tap_column: Any, column: int) -> Any:
    return load(b, b.add(row, b.mul(tap_column, constant(column))), _ELEMENTS)


def _weight_groups(kind: str, column: int, terms: int) -> Sequence[int]:
    """Which groups of weights a group of taps is for, if it begins at this column of an output's window."""
    if column not in range(3):
        return ()
    if kind == "column":
        return [column + 3 * term for term in range(terms)]
    if kind == "upper":
        return [column]
    return {0: [3], 2: [4]}.get(column, [])


def _blocks(b: Any, constants: Any) -> list[Any]:
    return [b.add(constants, constant(v * host.SET.constant_bytes)) for v in range(VECTORS_A_BLOCK)]


def _rescaled(b: Any, sums: Any, blocks: Any, rectified: bool) -> list[Any]:
    return [vectors.requantize(b, x, c, rectified=rectified) for x, c in zip(sums, blocks, strict=True)]


def _write(b: Any, constants: Any, rows: Any, places: Any) -> None:
    """Store a block of channels at each place."""
    if host.SET.group == 4:
        packed = vectors.pack(b, [row[0] for row in rows], constants)
        for elements, place in zip(packed, places, strict=True):
            vectors.store(b, elements, place)
        return
    for row, place in zip(rows, places, strict=True):
        for k, elements in enumerate(vectors.pack(b, row, constants)):
            vectors.store(b, elements, b.add(place, constant(k * LANES * ELEMENT_BYTES)))


def _make_window(stride: int, outputs: int, terms: int) -> Any:
    """The intrinsic for so many neighbouring outputs of a 3x3 window, a block of channels."""

    @instruction
    def window(b: Any, record: Any, top: Any, weights: Any, constants: Any, out: Any) -> None:
        def given(name: str) -> Any:
            return vectors.parameter(b, record, DEPTHWISE, name)

        tap_row, tap_column, out_column = given("tap_row"), given("tap_column"), given("output_column")
        rows = [top, b.add(top, tap_row), b.add(top, b.mul(tap_row, constant(2)))]
        blocks = _blocks(b, constants)
        bias = [vectors.field(b, block, "bias") for block in blocks]
        sums = [list(bias) for _ in range(outputs)]
        last = stride * (outputs - 1) + 2
        # Column by column, each used by all outputs that it is part of and then forgotten: registers are few.
        right: list[Any] | None = None
        for column in range(last + 1):
            here = right or [_tap(b, row, tap_column, column) for row in rows]
            right = None
            if host.SET.group == 4:
                groups = [("column", _interleave(b, [*here, here[2]]))]
            else:
                # Beyond the last output's window the second tap counts for nothing: any will do.
                right = [_tap(b, row, tap_column, column + 1) for row in rows] if column < last else here
                groups = [("upper", _interleave(b, here[:2])), ("lower", _interleave(b, [here[2], right[2]]))]
            for kind, activations in groups:
                for i in range(outputs):
                    for k in _weight_groups(kind, column - stride * i, terms):
                        for v, lanes in enumerate(activations):
                            weight = _weights(b, weights, k, v)
                            sums[i][v] = vectors.dot(b, sums[i][v], lanes, weight)
        places = [b.add(out, b.mul(out_column, constant(i))) for i in range(outputs)]

        def rescale(rectified: bool) -> None:
            rows = [_rescaled(b, row, blocks, rectified) for row in sums]
            _write(b, constants, rows, places)

        vectors.choose(b, given("rectified"), rescale)

    return window


def _make_taps(*, raw: bool) -> Any:
    """The intrinsic for one output of any window, a block of channels."""

    @instruction
    def any_window(b: Any, record: Any, source: Any, weights: Any, constants: Any, out: Any) -> None:
        def given(name: str) -> Any:
            return vectors.parameter(b, record, DEPTHWISE, name)

        taps, tap_groups, blocks = given("taps"), given("tap_groups"), _blocks(b, constants)
        if raw:
            bias = [ir.Constant(ACCUMULATOR, None)] * VECTORS_A_BLOCK
        else:
            bias = [vectors.field(b, block, "bias") for block in blocks]
        entry = b.block
        body, end = b.append_basic_block("taps"), b.append_basic_block("taps_end")
        b.branch(body)
        b.position_at_end(body)
        group = b.phi(I64)
        before = [b.phi(ACCUMULATOR) for _ in bias]
        for phi, value in zip([group, *before], [constant(0), *bias], strict=True):
            phi.add_incoming(value, entry)
        members = []
        for k in range(host.SET.group):
            index = b.add(b.mul(group, constant(host.SET.group)), constant(k))
            distance = b.sext(load(b, b.add(taps, b.shl(index, constant(2))), I32, 4), I64)
            members.append(load(b, b.add(source, distance), _ELEMENTS))
        here = b.add(weights, b.mul(group, constant(4 * LANES * VECTORS_A_BLOCK)))
        after = [
            vectors.dot(b, before[v], activations, _weights(b, here, 0, v))
            for v, activations in enumerate(_interleave(b, members))
        ]
        following = b.add(group, constant(1))
        for phi, value in zip([group, *before], [following, *after], strict=True):
            phi.add_incoming(value, body)
        b.cbranch(b.icmp_signed("<", following, tap_groups), body, end)
        b.position_at_end(end)
        if raw:
            if host.SET.pair_order is not None:
                order = [host.SET.pair_order.index(c) for c in range(16)]
                after = [vectors.shuffle(b, after[0], after[1], order[at : at + LANES]) for at in (0, LANES)]
            for v, value in enumerate(after):
                vectors.store(b, value, b.add(out, constant(4 * LANES * v)))
            return

        def rescale(rectified: bool) -> None:
            row = _rescaled(b, after, blocks, rectified)
            if BLOCK == 8:
                _write(b, constants, [row], [out])
                return

            def write(half: bool) -> None:
                if half:
                    (packed,) = vectors.pack(b, row, constants)
                    vectors.store(b, vectors.shuffle(b, packed, None, range(8)), out)
                else:
                    _write(b, constants, [row], [out])

            vectors.choose(b, given("half"), write)

        vectors.choose(b, given("rectified"), rescale)

    return any_window


_ANY_WINDOW, _RAW_WINDOW = _make_taps(raw=False), _make_taps(raw=True)
_BLOCK_GROUP_WEIGHTS = VECTORS_A_BLOCK * 4 * LANES


def _make_sweep(stride: int, outputs: int, terms: int) -> Any:
    """Rows of outputs of a 3x3 window, so many neighbours at a time; the last ones may begin before."""
    window = _make_window(stride, outputs, terms)
    weight_bytes = terms * host.SET.window_groups * _BLOCK_GROUP_WEIGHTS

    @routine
    def sweep(address: int, begin: int, end: int) -> None:
        p = record(address, DEPTHWISE)
        for y in range(begin, end):
            weights, constants = p.weights, p.constants
            for block in range(p.blocks):
                channel = min(block * _BLOCK_BYTES, p.last_block)
                x = 0
                while x < p.columns:
                    first = min(x, p.columns - outputs)
                    window(
                        address,
                        p.input + y * p.input_row + first * p.input_column + channel,
                        weights,
                        constants,
                        p.output + y * p.output_row + first * p.output_column + channel,
                    )
                    x += outputs
                weights += weight_bytes
                constants += _BLOCK_CONSTANTS

    return sweep


_FEW, _MANY = host.SET.outputs[0], host.SET.outputs[-1]
_sweep_1, _sweep_2 = _make_sweep(1, _FEW, 1), _make_sweep(2, _FEW, 1)
_sweep_1_many, _sweep_2_many = (
    (_make_sweep(1, _MANY, 1), _make_sweep(2, _MANY, 1)) if _MANY > _FEW else (_sweep_1, _sweep_2)
)
# Weights of 16 bits fit where groups have two.
_sweep_1_split, _sweep_2_split = (
    (_make_sweep(1, _FEW, 2), _make_sweep(2, _FEW, 2)) if host.SET.group == 4 else (_sweep_1, _sweep_2)
)


@routine
def depthwise_3x3(address: int, begin: int, end: int) -> None:
    """The output rows from ``begin`` to ``end``, of at least as many columns as are made at a time, of a 3x3 window.

    Neighbouring outputs are one or two columns of taps apart.
    """
    p = record(address, DEPTHWISE)
    if p.input_column == p.tap_column:
        if p.terms > 1:
            _sweep_1_split(address, begin, end)
        elif p.outputs == _FEW:
            _sweep_1(address, begin, end)
        else:
            _sweep_1_many(address, begin, end)
    elif p.terms > 1:
        _sweep_2_split(address, begin, end)
    elif p.outputs == _FEW:
        _sweep_2(address, begin, end)
    else:
        _sweep_2_many(address, begin, end)


@routine
def depthwise_taps(address: int, begin: int, end: int) -> None:
    """The output rows from ``begin`` to ``end`` of any window."""
    p = record(address, DEPTHWISE)
    for y in range(begin, end):
        weights, constants = p.weights, p.constants
        for block in range(p.blocks):
            channel = min(block * _BLOCK_BYTES, p.last_block)
            for x in range(p.columns):
                source = p.input + y * p.input_row + x * p.input_column + channel
                out = p.output + y * p.output_row + x * p.output_column + channel
                _ANY_WINDOW(address, source, weights, constants, out)
            weights += p.tap_groups * _BLOCK_GROUP_WEIGHTS
            constants += _BLOCK_CONSTANTS


@routine
def depthwise_exactly(address: int, begin: int, end: int, thread: int) -> None:
    """As ``depthwise_taps``, but each output rescaled by the specification's own functions."""
    p = record(address, DEPTHWISE)
    scratch = p.scratch + thread * 4 * BLOCK
    zero, low, high = p.zero - OFFSET, p.low - OFFSET, p.high - OFFSET
    for y in range(begin, end):
        weights = p.weights
        for block in range(p.blocks):
            channel = min(block * _BLOCK_BYTES, p.last_block)
            first = channel // ELEMENT_BYTES
            for x in range(p.columns):
                source = p.input + y * p.input_row + x * p.input_column + channel
                _RAW_WINDOW(address, source, weights, 0, scratch)
                place = p.output + y * p.output_row + x * p.output_column
                for c in range(first, min(first + BLOCK, p.channels)):
                    accumulator = wrap_int32(read_int32(scratch + 4 * (c - first)) + read_int32(p.bias + 4 * c))
                    multiplier, shift = read_int32(p.multiplier + 4 * c), read_int8(p.shift + c)
                    rescaled = requantize(accumulator, multiplier, shift)
                    write_value(place + c * ELEMENT_BYTES, to_output(rescaled, zero, low, high))
            weights += p.tap_groups * _BLOCK_GROUP_WEIGHTS
