"""The depthwise convolutions as instructions: the columns under a row of windows, then tiles of up to eight outputs.

The rows under a row of windows are put into columns, all rows of one column before the next, so that a window is one
piece of memory, and one ``vmladava.s8`` makes an output (or a few, where windows have more than sixteen bytes). Where a
vector has room for the windows of neighbouring outputs, it is loaded once for them, and multiplied with weights that
are moved. Up to three rows become columns of four bytes by ``vst4``; more are scattered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tinymbn_codegen.mve.requantization import Requantization, narrow, scale
from tinymbn_codegen.mve.tile import EVEN, LANES, add

ROWS_BY_VST4 = 3  # whose pointers have registers
_COLUMN_BY_VST4 = 4
_TILE = 8
_RESIDENT = 4  # vectors of weights that stay
_WORD_REACH, _BYTE_REACH = 508, 127
_UNROLLED = 2  # chunks of a row
_A, _B, _TEMPORARY, _OFFSETS = "q4", "q5", "q6", "q7"
_INPUTS = ("q4", "q5", "q6")


@dataclass(frozen=True)
class Geometry:
    """Of a layer.

    Attributes:
        kernel: height and width.
        stride: across.
        width: of the input.
        outputs: in a row.
        pad_left: columns before the input.
        next_pixel: from an output byte to that of the next pixel.
        next_channel: to that of the next channel.
        input_zero: what the padding holds.
        terms: bytes that each weight is the sum of, see ``weights``.
    """

    kernel: tuple[int, int]
    stride: int
    width: int
    outputs: int
    pad_left: int
    next_pixel: int
    next_channel: int
    input_zero: int
    terms: int

    @property
    def column(self) -> int:
        """Bytes of a column."""
        return _COLUMN_BY_VST4 if self.by_vst4 else self.kernel[0]

    @property
    def by_vst4(self) -> bool:
        """Whether columns have four bytes, the last one without a meaning."""
        return self.kernel[0] <= ROWS_BY_VST4

    @property
    def vectors(self) -> int:
        """Of a window."""
        return -(-self.column * self.kernel[1] // LANES)

    @property
    def together(self) -> int:
        """Neighbouring outputs whose windows are loaded at once."""
        room = LANES * self.vectors - self.column * self.kernel[1]
        return max(1, min(1 + room // (self.stride * self.column), _RESIDENT // (self.vectors * self.terms)))

    @property
    def stays(self) -> bool:
        """Whether a channel's weights stay in their vectors while the row passes by."""
        return self.vectors * self.terms <= _RESIDENT

    @property
    def term_bytes(self) -> int:
        """Of a channel's weights, their first or second bytes, with what stands before them."""
        return self.before + LANES * self.vectors

    @property
    def before(self) -> int:
        """Zero bytes before a channel's weights, of which vectors that are moved take some; a multiple of four."""
        return -(-(self.together - 1) * self.stride * self.column // 4) * 4

    @property
    def chunks(self) -> int:
        """Of sixteen pixels of an input row."""
        return -(-self.width // LANES)

    @property
    def right(self) -> int:
        """Columns of padding behind the input."""
        return max(0, (self.outputs - 1) * self.stride + self.kernel[1] - self.pad_left - self.width)

    @property
    def column_bytes(self) -> int:
        """Of all columns, and what is loaded or stored behind them."""
        columns = self.pad_left + max(LANES * self.chunks, self.width + self.right)
        return columns * self.column + LANES * (1 + self.vectors)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Outputs of each tile."""
        most = next(n for n in range(_TILE, 0, -1) if n == 1 or self._offset(n - 1, self.vectors - 1) <= self._reach)
        full, rest = divmod(self.outputs, most)
        return (most,) * full + ((rest,) if rest else ())

    @property
    def _reach(self) -> int:
        return _WORD_REACH if self.column % 4 == 0 else _BYTE_REACH

    def _offset(self, output: int, vector: int) -> int:
        """Of a vector of a window, from the first column of a tile that is no padding, if it is the first tile."""
        return (output * self.stride - self.pad_left) * self.column + LANES * vector

    def lanes(self, size: int) -> tuple[int, ...]:
        """Where each halfword, or with up to four outputs each word, of a narrowed vector goes."""
        if size <= 4:
            return tuple(part for lane in range(4) for part in (lane % size * self.next_pixel, 0))
        return tuple((i // 2 + i % 2 * 4) % size * self.next_pixel for i in range(8))

    def load(self, vector: str, base: str, output: int, part: int) -> str:
        """A vector of a window."""
        offset = self._offset(output, part)
        mnemonic = "vldrw.32" if self.column % 4 == 0 else "vldrb.8"
        return f"{mnemonic} {vector}, [{base}, #{offset}]" if offset else f"{mnemonic} {vector}, [{base}]"


def all_channels(geometry: Geometry, requantization: Requantization) -> tuple[str, ...]:
    """A row of outputs.

    Operands: row0, ... (up to three), or rows, which points at pairs of a pointer and how far it goes from channel to
    channel; stream, output, columns (the first that is no padding); in memory lanes, limit (columns, behind all full
    tiles) and end (of the stream); with up to three rows, in two pairs of words, how far each goes behind its chunks,
    and the end.
    """
    g = geometry
    lines = ["ldr r0, %[lanes]", f"vldrw.32 {_OFFSETS}, [r0]"]
    lines.append("1:")
    lines += _columns_by_vst4(g) if g.by_vst4 else _columns_by_scatter(g)
    lines += _padding(g)
    lines += _weights(g, requantization)
    lines += _tiles(g, requantization)
    lines += add("%[stream]", 4 * requantization.words + g.terms * g.term_bytes)
    if g.by_vst4:
        lines += ["ldrd r0, r2, %[steps01]", "ldrd r4, r6, %[step2_end]"]
        lines += [f"add %[row{k}], %[row{k}], {EVEN[k]}" for k in range(g.kernel[0])]
    else:
        lines.append("ldr r6, %[end]")
    lines += ["cmp %[stream], r6", "bne 1b"]
    return tuple(lines)


def _weights_at(g: Geometry, requantization: Requantization, term: int, output: int, vector: int) -> int:
    """Bytes from a channel's parameters to a vector of weights, moved for one of the neighbouring outputs."""
    start = 4 * requantization.words + term * g.term_bytes + g.before
    return start - output * g.stride * g.column + LANES * vector


def _columns_by_vst4(g: Geometry) -> Iterator[str]:
    rows = range(g.kernel[0])
    many, moving = g.chunks > _UNROLLED, g.chunks > 1
    to = "r0" if moving else "%[columns]"
    if moving:
        yield "mov r0, %[columns]"
    if many:
        yield f"mov r2, #{g.chunks}"
        yield "2:"
    for _ in range(1 if many else g.chunks):
        for k in rows:
            yield f"vldrb.8 q{k}, [%[row{k}]], #16"
        for part in range(4):
            yield f"vst4{part}.8 {{q0, q1, q2, q3}}, [{to}]{'!' if moving and part == 3 else ''}"
    if many:
        yield "subs r2, r2, #1"
        yield "bne 2b"


def _columns_by_scatter(g: Geometry) -> Iterator[str]:
    """The places of a column's neighbours are behind the tiles' in ``lanes``."""
    runs = len(set(g.sizes))
    yield "ldr r0, %[lanes]"
    yield f"vldrw.32 q0, [r0, #{16 * runs}]"
    for k in range(g.kernel[0]):
        yield f"ldrd r0, r2, [%[rows], #{8 * k}]"
        yield "add r2, r2, r0"
        yield f"str r2, [%[rows], #{8 * k}]"
        yield f"add r4, %[columns], #{k}" if k else "mov r4, %[columns]"
        many = g.chunks > _UNROLLED
        if many:
            yield f"mov r6, #{g.chunks}"
            yield "2:"
        for _ in range(1 if many else g.chunks):
            yield "vldrb.8 q1, [r0], #16"
            yield "vstrb.8 q1, [r4, q0]"
            yield from add("r4", LANES * g.column)
        if many:
            yield "subs r6, r6, #1"
            yield "bne 2b"


def _padding(g: Geometry) -> Iterator[str]:
    """The columns behind the input, which chunks overwrite."""
    if not g.right:
        return
    byte = g.input_zero & 0xFF
    if g.by_vst4 and 4 * (g.width + g.right) <= 4095:
        yield f"mov r0, #{byte * 0x01010101:#x}"
        for x in range(g.width, g.width + g.right):
            yield f"str r0, [%[columns], #{4 * x}]"
        return
    yield f"mov r0, #{byte}"
    yield "vdup.8 q0, r0"
    yield from ("mov r0, %[columns]", *add("r0", g.width * g.column, "r2"))
    for _ in range(0, g.right * g.column, LANES):
        yield "vstrb.8 q0, [r0], #16"


def _weights(g: Geometry, requantization: Requantization) -> Iterator[str]:
    """Those that stay while the row passes by."""
    if not g.stays:
        return
    for term in range(g.terms):
        for j in range(g.together):
            for v in range(g.vectors):
                offset = _weights_at(g, requantization, term, j, v)
                mnemonic = "vldrw.32" if offset % 4 == 0 else "vldrb.8"
                yield f"{mnemonic} {_weight(g, term, j, v)}, [%[stream], #{offset}]"


def _weight(g: Geometry, term: int, output: int, vector: int) -> str:
    """The vector in which weights stay."""
    return f"q{(term * g.together + output) * g.vectors + vector}"


def _tiles(g: Geometry, requantization: Requantization) -> Iterator[str]:
    sizes = g.sizes
    full = sizes.count(sizes[0])
    if full > 1:
        yield "3:"
    yield from _tile(g, sizes[0], requantization)
    moved = 0
    if full > 1 or len(sizes) > full:
        yield from add("%[output]", sizes[0] * g.next_pixel)
        yield from add("%[columns]", sizes[0] * g.stride * g.column)
        moved = full * sizes[0]
    if full > 1:
        yield "ldr r0, %[limit]"
        yield "cmp %[columns], r0"
        yield "bne 3b"
    if len(sizes) > full:
        yield "ldr r0, %[lanes]"
        yield f"vldrw.32 {_OFFSETS}, [r0, #16]"
        yield from _tile(g, sizes[-1], requantization)
        yield "ldr r0, %[lanes]"
        yield f"vldrw.32 {_OFFSETS}, [r0]"
    yield from add("%[columns]", -moved * g.stride * g.column)
    yield from add("%[output]", g.next_channel - moved * g.next_pixel)


def _tile(g: Geometry, size: int, requantization: Requantization) -> Iterator[str]:
    """Some outputs."""
    yield from (_resident(g, size) if g.stays else _passing(g, size, requantization))
    both = size > 4
    for first, vector in ((0, _A), (4, _B))[: 1 + both]:
        a, b, c, d = (EVEN[p % size] for p in range(first, first + 4))
        yield f"vmov {vector}[2], {vector}[0], {a}, {c}"
        yield f"vmov {vector}[3], {vector}[1], {b}, {d}"
    registers = EVEN[: requantization.words]
    yield f"ldm %[stream], {{{', '.join(registers)}}}"
    yield from scale(requantization, (_A, _B)[: 1 + both], registers, _TEMPORARY)
    yield from narrow(requantization, _A, _B if both else None, None)
    yield f"vstrb.{16 if both else 32} {_A}, [%[output], {_OFFSETS}]"


def _resident(g: Geometry, size: int) -> Iterator[str]:
    steps = []
    for output in range(0, size, g.together):
        for v in range(g.vectors):
            steps.append((output, v))
    for i, (output, v) in enumerate(steps):
        vector = _INPUTS[i % 3]
        if i == 0:
            yield g.load(vector, "%[columns]", output, v)
        products = [
            f"vmladav{'a' if v or term else ''}.s8 {EVEN[output + j]}, {vector}, {_weight(g, term, j, v)}"
            for term in range(g.terms)
            for j in range(min(g.together, size - output))
        ]
        yield products[0]
        if i + 1 < len(steps):
            yield g.load(_INPUTS[(i + 1) % 3], "%[columns]", *steps[i + 1])
        yield from products[1:]


def _passing(g: Geometry, size: int, requantization: Requantization) -> Iterator[str]:
    """Of windows so large that their weights are loaded for every tile."""
    for v in range(g.vectors):
        for term in range(g.terms):
            yield f"vldrw.32 q{term}, [%[stream], #{_weights_at(g, requantization, term, 0, v)}]"
        for output in range(size):
            vector = _INPUTS[output % 3]
            yield g.load(vector, "%[columns]", output, v)
            for term in range(g.terms):
                yield f"vmladav{'a' if v or term else ''}.s8 {EVEN[output]}, {vector}, q{term}"
