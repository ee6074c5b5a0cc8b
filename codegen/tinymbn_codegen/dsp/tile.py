"""The heart of the convolutions: tiles of up to four pixels and two output channels, as instructions.

Of each pixel a row of words is multiplied with a row of words of weights, both of two halfwords. Eight accumulators,
two pointers, and four words of inputs and weights are the fourteen registers there are, so it is assembler. ``packed``
weights are a word for both channels, with ``256 * b + a`` in each halfword: SMLAD with the word itself adds up
``256 * B + A``, and with ``sxtb16`` of it ``A``. ``wide`` weights are a word of each channel.

A load takes two cycles, and each one right behind it another. So loads stand together, as many as there are registers;
and pointers move with the last of them (``[x, #8]!``), which costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_REGISTERS = 12  # for accumulators, inputs and weights
_LARGEST_OFFSET = 4095  # of a load
_LARGEST_MOVE = 255  # of a load that moves its pointer
_LOOP_CYCLES = 6  # the end from the stack, a comparison, a branch
_BIAS_BYTES = 8


@dataclass(frozen=True)
class Geometry:
    """Where a tile finds its words.

    Attributes:
        size: pixels.
        words: of each pixel.
        pixel_bytes: from a pixel's first word to that of the next.
        word_bytes: from one word of a pixel to its next.
        wide: two words of weights for each word of a pixel, instead of one.
    """

    size: int
    words: int
    pixel_bytes: int
    word_bytes: int
    wide: bool

    @property
    def weight_bytes(self) -> int:
        """Of the weights for one word of a pixel."""
        return 8 if self.wide else 4

    @property
    def order(self) -> tuple[int, ...]:
        """The pixels, as they are loaded: last the one whose word lies right before the next words of them all."""
        last = (self.word_bytes - 4) // self.pixel_bytes
        return (*(p for p in range(self.size) if p != last), last)

    @property
    def reach(self) -> int:
        """How many words of each pixel are reached from a pointer that stays."""
        return (_LARGEST_OFFSET - 4 - (self.size - 1) * self.pixel_bytes) // self.word_bytes

    @property
    def word_code_bytes(self) -> int:
        """Code for a word of each pixel: a load and two multiplications each, and two for the weights."""
        return 4 * (3 * self.size + 2)


class Sums:
    """The instructions that make the sums of a tile.

    Operands: accumulators a0, b0, ...; the pointers x and constants, of which the latter comes as the address of the
    word before the biases, and goes, like x, as that of the last word read (if ``moves``) or as it came; t0, t1, ...
    for inputs and weights; where x moves, ``last`` in memory, where it arrives.

    Attributes:
        temporaries: how many registers t0, t1, ... there are.
        moves: whether the pointers move: the words are more than the code has room for, and there is a loop.
        lines: the instructions.
    """

    def __init__(self, geometry: Geometry, code_bytes: int) -> None:
        """Unrolled as far as code of about so many bytes goes."""
        self._geometry = geometry
        free = _REGISTERS - 2 * geometry.size
        self._batch = max(1, free // (2 + geometry.size))
        self._inputs = min(geometry.size, (free - 2 * self._batch) // self._batch)
        self.temporaries = self._batch * (2 + self._inputs)
        first, turn = self._unrolled(max(1, code_bytes // geometry.word_code_bytes))
        self.moves = first < geometry.words
        self.lines = tuple(self._all(first, turn))

    def _unrolled(self, most: int) -> tuple[int, int]:
        """How many words come before the loop, at least one, and how many in a turn of it; with the fewest turns."""
        words, reach = self._geometry.words, max(1, self._geometry.reach)
        if words <= min(most, reach):
            return words, 0
        choices = []
        for turn in range(1, min(most, reach) + 1):
            first = (words - 1) % turn + 1
            cycles = (words - first) // turn * _LOOP_CYCLES
            # Where none has room, the shortest.
            choices.append((max(0, first + turn - most), cycles, first + turn, first, turn))
        *_, first, turn = min(choices)
        return first, turn

    def _all(self, first: int, turn: int) -> Iterator[str]:
        holder = self._geometry.order[-1]
        yield f"ldr %[a{holder}], [%[constants], #4]"
        yield f"ldr %[b{holder}], [%[constants], #8]"
        yield from self._words(first, inputs_at=0, weights_at=4 + _BIAS_BYTES, fresh=True)
        if self.moves:
            yield "1:"
            yield from self._words(turn, inputs_at=4, weights_at=4, fresh=False)
            yield "ldr %[t0], %[last]"
            yield "cmp %[x], %[t0]"
            yield "bne 1b"

    def _words(self, count: int, *, inputs_at: int, weights_at: int, fresh: bool) -> Iterator[str]:
        """Some words from the pointers on; the first word's sums begin with the biases if they are ``fresh``."""
        size, order = self._geometry.size, self._geometry.order
        for start in range(0, count, self._batch):
            batch = tuple(range(start, min(count, start + self._batch)))
            for part in range(0, size, self._inputs):
                pixels = order[part : part + self._inputs]
                moving = self.moves and batch[-1] == count - 1
                yield from self._loads(batch, part, pixels, inputs_at, weights_at, moving=moving)
                for slot, word in enumerate(batch):
                    raw, other = self._weights(slot)
                    if part == 0 and not self._geometry.wide:
                        yield f"sxtb16 {other}, {raw}"
                    for i, p in enumerate(pixels):
                        # What holds the biases takes its own product last.
                        held = order[-1] if fresh and word == 0 else p
                        yield f"smlad %[a{p}], {self._input(slot, i)}, {other}, %[a{held}]"
                        yield f"smlad %[b{p}], {self._input(slot, i)}, {raw}, %[b{held}]"

    def _loads(
        self,
        batch: tuple[int, ...],
        part: int,
        pixels: tuple[int, ...],
        inputs_at: int,
        weights_at: int,
        *,
        moving: bool,
    ) -> Iterator[str]:
        g = self._geometry
        inputs, weights = [], []
        for slot, word in enumerate(batch):
            raw, other = self._weights(slot)
            at = weights_at + word * g.weight_bytes
            if part == 0:
                weights += [(other, at), (raw, at + 4)] if g.wide else [(raw, at)]
            for i, p in enumerate(pixels):
                inputs.append((self._input(slot, i), inputs_at + p * g.pixel_bytes + word * g.word_bytes))
        last_part = part + self._inputs >= g.size
        yield from _load_all("x", inputs[:-1], moving=False)
        yield from _load_all("constants", weights, moving=moving and part == 0)
        yield from _load_all("x", inputs[-1:], moving=moving and last_part)

    def _weights(self, slot: int) -> tuple[str, str]:
        """The temporaries of channel B, packed with A or not, and of A."""
        first = slot * (2 + self._inputs)
        return f"%[t{first}]", f"%[t{first + 1}]"

    def _input(self, slot: int, i: int) -> str:
        return f"%[t{slot * (2 + self._inputs) + 2 + i}]"


def _load_all(pointer: str, loads: list[tuple[str, int]], *, moving: bool) -> Iterator[str]:
    """Loads at offsets; ``moving``: the pointer goes where the last one loads from."""
    for register, offset in loads[:-1] if moving else loads:
        yield f"ldr {register}, {address(pointer, offset)}"
    if moving:
        yield from load_and_move(pointer, *loads[-1])


def load_and_move(pointer: str, register: str, offset: int) -> Iterator[str]:
    """A load at an offset, where the pointer then points."""
    if offset <= _LARGEST_MOVE:
        yield f"ldr {register}, [%[{pointer}], #{offset}]!"
        return
    yield f"ldr {register}, {address(pointer, offset)}"
    while offset > 0:
        step = min(offset, _LARGEST_OFFSET)
        yield f"add %[{pointer}], %[{pointer}], #{step}"
        offset -= step


def address(pointer: str, offset: int) -> str:
    """An operand of a load or store."""
    return f"[%[{pointer}], #{offset}]" if offset else f"[%[{pointer}]]"
