"""What follows the sums of a tile: instructions that make bytes of them, and go on to the next two output channels.

They have the operands of ``tile.Sums``, and in memory ``out``, where the bytes of the next channel A begin; ``end``,
the last word of the constants; ``first``, where x comes from if it moves; and ``lane0``, ... where each pixel's byte
is, counted from ``out``, unless that is the same for every tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinymbn_codegen.dsp.stream import Stream
from tinymbn_codegen.dsp.tile import Sums, address, load_and_move

_LARGEST_OFFSET = 4095  # of a store


@dataclass(frozen=True)
class Stores:
    """Where the bytes of a tile go.

    Attributes:
        places: of each pixel, counted from ``out``; None: they are lane0, ...
        next_channel: from a byte of channel A to that of channel B.
        clear: where a word of 0 is stored in both channels before the bytes; None: nowhere.
        signed: they saturate as int8, otherwise as uint8.
        alone: there is no channel B beside the last channel A.
    """

    places: tuple[int, ...] | None
    next_channel: int
    clear: int | None
    signed: bool
    alone: bool

    @property
    def within_reach(self) -> bool:
        """Whether a store has room for every offset."""
        return max(self.places or (0,)) + (self.clear or 0) + 2 * self.next_channel <= _LARGEST_OFFSET


def sums_alone(sums: Sums, head_words: int) -> tuple[str, ...]:
    """The sums of two channels; ``constants`` goes from the biases to what follows the weights."""
    done = 4 if sums.moves else 4 + 4 * head_words
    move = "sub %[constants], %[constants], #4"
    return (move, *sums.lines, f"add %[constants], %[constants], #{done}")


def whole_tile(sums: Sums, size: int, stream: Stream, stores: Stores) -> tuple[str, ...]:
    """Sums and bytes of all channels; ``constants`` comes as the first word of the stream."""
    a, b = (tuple(f"%[{name}{p}]" for p in range(size)) for name in "ab")
    lines = ["sub %[constants], %[constants], #4", "0:"]
    lines += ["ldr %[x], %[first]"] if sums.moves else []
    lines += sums.lines
    if not stream.wide:
        lines += [f"sub {y}, {y}, {x}" for x, y in zip(a, b, strict=True)]
    tail_at = 4 if sums.moves else 4 + 4 * (stream.values.shape[1] - stream.tail)
    lines += _short(a, b, tail_at, stream) if stream.form == "short" else _exact(a, b, tail_at, stream)
    shift = f", asr #{stream.shift}" if stream.form == "short" else ""
    lines += _bytes(a, b, f"{'ssat' if stores.signed else 'usat'} {{0}}, #8, {{0}}{shift}", stores)
    return tuple(lines)


def _short(a: Sequence[str], b: Sequence[str], at: int, stream: Stream) -> Iterator[str]:
    if stream.delta:
        yield from _load(("%[t0]", "%[t1]", "%[t2]", "%[t3]"), at)
        yield from (f"add {x}, %[t2], {x}, lsl #8" for x in a)
        yield from (f"smmla {x}, {x}, %[t0], %[t1]" for x in a)
        yield from load_and_move("constants", "%[t2]", at + 16)
        yield from (f"smmla {x}, {x}, %[t3], %[t2]" for x in b)
        return
    yield from _load(("%[t0]", "%[t1]", "%[t2]"), at)
    yield from load_and_move("constants", "%[t3]", at + 12)
    if not stream.wide:
        yield from (f"lsl {x}, {x}, #8" for x in a)
    yield from (f"smmla {x}, {x}, %[t0], %[t1]" for x in a)
    yield from (f"smmla {x}, {x}, %[t2], %[t3]" for x in b)


def _exact(a: Sequence[str], b: Sequence[str], at: int, stream: Stream) -> Iterator[str]:
    yield from _load(("%[t0]", "%[t1]", "%[t2]", "%[t3]"), at)
    if not stream.wide:
        yield from (f"lsl {x}, {x}, #1" for x in a)
        yield from (f"asr {x}, {x}, #7" for x in b)
    yield from _rounded_twice(a, "%[t0]", "%[t1]", "%[t2]")
    yield from _load(("%[t0]",), at + 16)
    yield from load_and_move("constants", "%[t1]", at + 20)
    yield from _rounded_twice(b, "%[t3]", "%[t0]", "%[t1]")


def _rounded_twice(sums: Sequence[str], multiplier: str, addend: str, right: str) -> Iterator[str]:
    yield from (f"smmulr {x}, {x}, {multiplier}" for x in sums)
    yield from (f"add {x}, {x}, {x}, asr #31" for x in sums)
    yield from (f"add {x}, {x}, {addend}" for x in sums)
    yield from (f"asr {x}, {x}, {right}" for x in sums)


def _bytes(a: Sequence[str], b: Sequence[str], saturate: str, stores: Stores) -> Iterator[str]:
    yield from ("ldr %[t0], %[out]", "ldr %[t1], %[end]")
    if stores.clear is not None:
        yield "mov %[t2], #0"
        yield f"str %[t2], {address('t0', stores.clear)}"
        yield f"str %[t2], {address('t0', stores.clear + stores.next_channel)}"
    if stores.places is None:
        lanes = tuple(f"%[t{2 + p}]" for p in range(len(a)))
        yield from (f"ldr {lane}, %[lane{p}]" for p, lane in enumerate(lanes))
        yield from (f"add {lane}, %[t0], {lane}" for lane in lanes)
        places = tuple((f"t{2 + p}", 0) for p in range(len(a)))
    else:
        places = tuple(("t0", place) for place in stores.places)
    yield from (saturate.format(x) for x in (*a, *b))
    yield from _store(a, places, 0)
    if stores.alone:
        yield from ("cmp %[constants], %[t1]", "beq 2f")
    yield from _store(b, places, stores.next_channel)
    yield from (f"add %[t0], %[t0], #{2 * stores.next_channel}", "str %[t0], %[out]")
    if stores.alone:
        yield from ("b 0b", "2:")
    else:
        yield from ("cmp %[constants], %[t1]", "bne 0b")


def _store(sums: Sequence[str], places: Sequence[tuple[str, int]], further: int) -> Iterator[str]:
    for register, (pointer, offset) in zip(sums, places, strict=True):
        yield f"strb {register}, {address(pointer, offset + further)}"


def _load(registers: Sequence[str], at: int) -> Iterator[str]:
    for i, register in enumerate(registers):
        yield f"ldr {register}, {address('constants', at + 4 * i)}"
