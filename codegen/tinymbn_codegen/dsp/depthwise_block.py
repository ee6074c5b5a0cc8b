"""Which multiplications make up to four outputs of a depthwise row, by the words and bytes that they read.

Four outputs read the same words, so a block of four loads each once. ``uxtb16`` makes two pairs of a planar word, and
single bytes lie to the left and to the right of it. An output takes two multiplications a kernel row: of a pair with
two weights, and of one value with the third. What lies in the padding is left out, or is zero in the plane.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tinymbn_codegen.layouts import plane_bytes

SLOTS = 3  # rows under the kernel
BLOCK = 4  # outputs
WORD = 4  # pixels, and bytes


@dataclass(frozen=True)
class Geometry:
    """Of a row.

    Attributes:
        width: pixels of the input.
        outputs: pixels of the output.
        stride: 1 or 2.
        pad_left: 0 or 1.
        slot_bytes: from one input row to the next.
    """

    width: int
    outputs: int
    stride: int
    pad_left: int
    slot_bytes: int


@dataclass(frozen=True)
class Source:
    """What is multiplied: pixels x and x + 1 as two halfwords, or x alone; x is from the block's first word, or -1."""

    x: int
    pair: bool

    @property
    def word(self) -> int:
        """The word of a pair."""
        return self.x // WORD

    @property
    def high(self) -> bool:
        """Whether a pair is the second one of its word."""
        return self.x % WORD != 0


@dataclass(frozen=True)
class Multiply:
    """An output's accumulator += data times weights, one instruction.

    Attributes:
        output: 0 to 3.
        instruction: ``smlad``, or one of a halfword with a halfword.
        source: the data.
        weights: "01", the first two of a kernel row, or "12", the last two.
    """

    output: int
    instruction: str
    source: Source
    weights: str


@dataclass(frozen=True)
class Block:
    """Outputs that are computed together.

    Attributes:
        first: of the outputs; a multiple of four.
        count: 1 to 4.
        multiplies: of each kernel row, in order: those of single bytes, then word by word.
        advance: bytes of the input to the next block; from the last one, to the next channel's first.
    """

    first: int
    count: int
    multiplies: tuple[Multiply, ...]
    advance: int

    @property
    def words(self) -> tuple[int, ...]:
        """Those that are read."""
        return tuple(sorted({m.source.word for m in self.multiplies if m.source.pair}))

    @property
    def singles(self) -> tuple[Multiply, ...]:
        """Those of a single byte."""
        return tuple(m for m in self.multiplies if not m.source.pair)

    def of_word(self, word: int) -> tuple[Multiply, ...]:
        """Those of a word's pairs."""
        return tuple(m for m in self.multiplies if m.source.pair and m.source.word == word)


def blocks_of(geometry: Geometry) -> list[Block]:
    """The blocks of a row, in order."""
    step = BLOCK * geometry.stride
    blocks = [
        Block(first, min(BLOCK, geometry.outputs - first), _multiplies(geometry, first), step)
        for first in range(0, geometry.outputs, BLOCK)
    ]
    to_next_plane = plane_bytes(geometry.width) - (len(blocks) - 1) * step
    return [*blocks[:-1], replace(blocks[-1], advance=to_next_plane)]


def _multiplies(geometry: Geometry, first: int) -> tuple[Multiply, ...]:
    room = geometry.width - first * geometry.stride  # pixels of the input from the block's first word on
    before = -1 if first else 0  # the first pixel that there is, from there
    found: list[Multiply] = []
    alone: list[tuple[int, int, str]] = []
    for output in range(min(BLOCK, geometry.outputs - first)):
        x = output * geometry.stride - geometry.pad_left
        # A pair begins at an even pixel, so it is the first two of the window, or the last two.
        pair, single = (x, x + 2) if x % 2 == 0 else (x + 1, x)
        if pair < room:
            found.append(Multiply(output, "smlad", Source(pair, True), "01" if pair < single else "12"))
        if before <= single < room:
            alone.append((output, single, "12" if pair < single else "01"))
    words = {multiply.source.word for multiply in found}
    for output, x, weights in alone:
        # B and T: the low and the high halfword, of the data, then of the weights.
        weight = "b" if weights == "01" else "t"
        if x // WORD in words:
            found.append(Multiply(output, f"smla{'bt'[x % 2]}{weight}", Source(x - x % 2, True), weights))
        else:
            found.append(Multiply(output, f"smlab{weight}", Source(x, False), weights))
    return tuple(sorted(found, key=lambda m: (m.source.pair, m.source.x, m.output)))
