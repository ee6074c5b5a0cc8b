"""The heart of the convolutions: tiles of up to four pixels and two output channels, as instructions.

``vmladava.s8`` adds sixteen products to a register with an even number; there are eight. So a tile has eight sums, and
pointers lie in the odd registers. Sixteen inputs of each pixel and sixteen weights of each channel are loaded and
multiplied at a time; loads and multiplications take turns. Where there are few inputs, the weights of two channels stay
in their vectors, and all pixels of the row pass by (``resident``); otherwise all weights pass by each tile.

Weights are zero beyond the last input, so whatever lies behind a pixel may be loaded with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tinymbn_codegen.mve.requantization import Requantization, narrow, scale

LANES = 16
ODD = ("r1", "r3", "r5", "r7", "r9", "r11")
"""What the compiler has for operands."""
EVEN = ("r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr")

RESIDENT_CHUNKS = 2
UNROLLED_CHUNKS = 16  # beyond, there is a loop, for which registers must be left
_LOOP_CHUNKS = 8  # of a turn, at most
_TOGETHER = (3, 2, 1)  # tiles in a turn, where their number allows
_LARGEST_MOVE = 4095  # of an addition
_WORD_REACH, _BYTE_REACH = 508, 127  # of a load, both ways
_OFFSETS = "q7"


@dataclass(frozen=True)
class Geometry:
    """How the pixels of a tile lie.

    Attributes:
        size: pixels.
        chunks: of sixteen inputs, the last one perhaps with others behind.
        terms: bytes that each weight is the sum of, see ``weights``.
        pixel_bytes: from one pixel to the next.
        next_pixel: from an output byte to that of the next pixel.
        next_channel: to that of the next channel.
    """

    size: int
    chunks: int
    terms: int
    pixel_bytes: int
    next_pixel: int
    next_channel: int

    @property
    def words(self) -> bool:
        """Whether pixels begin at words, so that loads reach farther."""
        return self.pixel_bytes % 4 == 0

    @property
    def pointers(self) -> tuple[int, ...]:
        """Which pixels pointers point at; a pointer serves its neighbour before it and those behind it."""
        reach = _WORD_REACH if self.words else _BYTE_REACH
        if self.size == 1 or self.pixel_bytes > reach:
            return tuple(range(self.size))
        if 2 * self.pixel_bytes <= reach or self.size <= 3:
            return (1,)
        return (1, 3)

    def pixel(self, p: int) -> tuple[int, int]:
        """Which pointer reaches a pixel, and how far from it."""
        pointers = self.pointers
        which = min(range(len(pointers)), key=lambda i: (not -1 <= p - pointers[i] <= 2, abs(p - pointers[i])))
        return which, (p - pointers[which]) * self.pixel_bytes

    def lanes(self) -> tuple[int, ...]:
        """Where each halfword of a narrowed vector goes; what no pixel has goes where another's goes."""
        return tuple(i // 2 % self.size * self.next_pixel + i % 2 * self.next_channel for i in range(8))


def sizes_of(width: int, chunks: int, terms: int) -> tuple[int, ...]:
    """The tiles of a row: of four pixels, and of three so that none is left alone."""
    most = 4 if chunks <= UNROLLED_CHUNKS and terms == 1 else 3
    for threes in range(4):
        fours, rest = divmod(width - 3 * threes, 4)
        if most == 4 and rest == 0 and fours >= 0:
            return (4,) * fours + (3,) * threes
    full, rest = divmod(width, most)
    return (most,) * full + ((rest,) if rest else ())


def _load(geometry: Geometry, vector: str, base: str, offset: int, *, move: int = 0) -> str:
    mnemonic = "vldrw.32" if geometry.words else "vldrb.8"
    if move:
        return f"{mnemonic} {vector}, [{base}], #{move}"
    return f"{mnemonic} {vector}, [{base}, #{offset}]" if offset else f"{mnemonic} {vector}, [{base}]"


def _sum(p: int, channel: int, size: int) -> str:
    """The register of a sum."""
    return EVEN[p + size * channel]


def _gather(size: int) -> Iterator[str]:
    """The sums of two channels into vectors q2 and q3."""
    for channel, vector in enumerate(("q2", "q3")):
        a, b, c, d = (_sum(lane % size, channel, size) for lane in range(4))
        yield f"vmov {vector}[2], {vector}[0], {a}, {c}"
        yield f"vmov {vector}[3], {vector}[1], {b}, {d}"


def _bytes(requantization: Requantization, stream: str, *, move: bool, zero: str | None) -> Iterator[str]:
    """What is stored, from the vectors of sums; the stream is at the parameters, and moves on if it is to."""
    words = requantization.words
    if 2 * words <= len(EVEN):
        registers = EVEN[: 2 * words]
        yield f"ldm {stream}{'!' if move else ''}, {{{', '.join(registers)}}}"
        yield from scale(requantization, ("q2",), registers[:words], "q6")
        yield from scale(requantization, ("q3",), registers[words:], "q6")
    else:
        registers = EVEN[:words]
        for vector in ("q2", "q3"):
            yield f"ldm {stream}!, {{{', '.join(registers)}}}"
            yield from scale(requantization, (vector,), registers, "q6")
        if not move:
            yield f"sub {stream}, {stream}, #{8 * words}"
    yield from narrow(requantization, "q2", "q3", zero)


def resident(runs: tuple[tuple[int, int], ...], geometry: Geometry, requantization: Requantization) -> tuple[str, ...]:
    """A row of all channels.

    Operands: x, stream, output, lanes, count, in memory end. ``lanes`` has the places of each run's tiles.

    Args:
        runs: size and count of tiles, in order.
        geometry: of any of them.
        requantization: of the layer.
    """
    g, chunks, terms = geometry, geometry.chunks, geometry.terms
    weights = [("q0", "q1"), ("q4", "q5")][: chunks * terms]
    lines = ["1:"]
    lines += [f"vldrw.32 {vector}, [%[stream]], #16" for pair in weights for vector in pair]
    moved = 0
    for run, (size, count) in enumerate(runs):
        tile = Geometry(size, chunks, terms, g.pixel_bytes, g.next_pixel, g.next_channel)
        offset = f", #{16 * run}" if run else ""
        lines.append(f"vldrw.32 {_OFFSETS}, [%[lanes]{offset}]")
        turns = turns_of(count)
        if turns > 1:
            lines += [f"mov %[count], #{turns}" if turns < 256 else f"movw %[count], #{turns}", f"{run + 2}:"]
        for _ in range(count // turns):
            lines += _products(tile, weights)
            lines += _gather(size)
            lines += _bytes(requantization, "%[stream]", move=False, zero="%[zero]")
            lines.append(f"vstrb.16 q2, [%[output], {_OFFSETS}]")
            lines += add("%[output]", size * g.next_pixel)
        if turns > 1:
            lines += ["subs %[count], %[count], #1", f"bne {run + 2}b"]
        moved += size * count
    lines += add("%[x]", -moved * g.pixel_bytes)
    lines += add("%[output]", 2 * g.next_channel - moved * g.next_pixel)
    lines += add("%[stream]", 8 * requantization.words)
    lines += ["ldr r0, %[end]", "cmp %[stream], r0", "bne 1b"]
    return tuple(lines)


def turns_of(count: int) -> int:
    """In how many turns of a loop so many tiles pass by resident weights."""
    return count // next(n for n in _TOGETHER if count % n == 0)


def _products(tile: Geometry, weights: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The sums of a tile with weights that stay; x goes on to the next tile with the last load."""
    vectors = ("q2", "q3", "q6")
    loads = [(p, k) for p in reversed(range(tile.size)) for k in reversed(range(tile.chunks))]

    def load(i: int) -> str:
        p, k = loads[i]
        if i + 1 < len(loads):
            return _load(tile, vectors[i % 3], "%[x]", p * tile.pixel_bytes + LANES * k)
        return _load(tile, vectors[i % 3], "%[x]", 0, move=tile.size * tile.pixel_bytes)

    yield load(0)
    for i, (p, k) in enumerate(loads):
        products = [
            f"vmladav{'a' if k + 1 < tile.chunks or term else ''}.s8 {_sum(p, channel, tile.size)}, {vectors[i % 3]}, "
            f"{weights[k * tile.terms + term][channel]}"
            for term in range(tile.terms)
            for channel in range(2)
        ]
        yield products[0]
        if i + 1 < len(loads):
            yield load(i + 1)
        yield from products[1:]


def streamed(geometry: Geometry, requantization: Requantization) -> tuple[str, ...]:
    """A tile of all channels.

    Operands: x0, ... as many as there are ``pointers``, stream, output and zero if there is room; in memory end, lanes
    and otherwise output.
    """
    g, size, chunks = geometry, geometry.size, geometry.chunks
    names = pointer_names(g)
    turns = looped(chunks)
    rest = chunks - turns * _LOOP_CHUNKS
    lines = ["ldr r0, %[lanes]", f"vldrw.32 {_OFFSETS}, [r0]", "1:"]
    lines += _chunks(g, rest, fresh=True)
    if turns:
        lines += [f"mov r12, #{turns}", "2:"]
        lines += _chunks(g, _LOOP_CHUNKS, fresh=False)
        lines += ["subs r12, r12, #1", "bne 2b"]
    lines += _gather(size)
    for name in names:
        lines += add(name, -LANES * chunks)
    lines += _bytes(requantization, "%[stream]", move=True, zero="%[zero]" if zero_in_register(g) else None)
    output = "%[output]"
    if not output_in_register(g):
        output = "r2"
        lines.append("ldr r2, %[output]")
    lines.append(f"vstrb.16 q2, [{output}, {_OFFSETS}]")
    lines += add(output, 2 * g.next_channel)
    if not output_in_register(g):
        lines.append("str r2, %[output]")
    lines += ["ldr r0, %[end]", "cmp %[stream], r0", "bne 1b"]
    return tuple(lines)


def looped(chunks: int) -> int:
    """How often the loop of a tile turns, if there is one; what is left of the chunks comes before it, one at least."""
    return 0 if chunks <= UNROLLED_CHUNKS else (chunks - 1) // _LOOP_CHUNKS


def pointer_names(geometry: Geometry) -> tuple[str, ...]:
    """The operands that point at pixels."""
    return tuple(f"%[x{i}]" for i in range(len(geometry.pointers)))


def zero_in_register(geometry: Geometry) -> bool:
    """Whether the zero point has a register of its own."""
    return len(geometry.pointers) == 1


def output_in_register(geometry: Geometry) -> bool:
    """Whether the output's pointer is in a register: the compiler wants one or two for itself."""
    return len(geometry.pointers) <= 2


def _chunks(geometry: Geometry, count: int, *, fresh: bool) -> Iterator[str]:
    """The products of some chunks; the first one's begin the sums if they are ``fresh``."""
    g, names = geometry, pointer_names(geometry)
    weights = (("q0", "q1"), ("q5", "q6"))[: g.terms]
    # The last pixel that a pointer reaches is loaded when it moves.
    order = sorted(range(g.size), key=lambda p: (g.pixel(p)[1] == 0, p))
    vectors = {p: f"q{2 + i}" for i, p in enumerate(order)}
    for chunk in range(count):

        def load(p: int) -> str:
            which, offset = g.pixel(p)
            return _load(g, vectors[p], names[which], offset, move=0 if offset else LANES)

        loads = [f"vldrw.32 {vector}, [%[stream]], #16" for pair in weights for vector in pair]
        yield loads[0]
        yield load(order[0])
        yield from loads[1:]
        for i, p in enumerate(order):
            products = [
                f"vmladav{'a' if not fresh or chunk or term else ''}.s8 {_sum(p, channel, g.size)}, {vectors[p]}, "
                f"{weights[term][channel]}"
                for term in range(g.terms)
                for channel in range(2)
            ]
            yield products[0]
            if i + 1 < g.size:
                yield load(order[i + 1])
            yield from products[1:]


def executed(lines: Sequence[str], turns: Mapping[str, int]) -> int:
    """How many instructions run of a text.

    Args:
        lines: with loops from ``n:`` to ``bne nb``.
        turns: of each loop, by its label, each time it is entered.
    """
    count, times = 0, [1]
    for line in lines:
        if line.endswith(":"):
            times.append(times[-1] * turns[line[:-1]])
            continue
        count += times[-1]
        if line.startswith("bne "):
            times.pop()
    return count


def add(register: str, number: int, temporary: str = "r0") -> Iterator[str]:
    """A register plus any number."""
    if abs(number) > _LARGEST_MOVE:
        yield f"movw {temporary}, #{abs(number) & 0xFFFF}"
        if abs(number) >> 16:
            yield f"movt {temporary}, #{abs(number) >> 16}"
        yield f"{'add' if number > 0 else 'sub'} {register}, {register}, {temporary}"
    elif number:
        yield f"{'add' if number > 0 else 'sub'} {register}, {register}, #{abs(number)}"
