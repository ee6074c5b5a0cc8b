"""A depthwise row as its template sees it: the constants of a channel, runs of blocks, and where outputs go."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from tinymbn.layers import Shape
from tinymbn_codegen.dsp.depthwise_block import BLOCK, SLOTS, Block, Geometry, blocks_of
from tinymbn_codegen.dsp.depthwise_text import BlockText, Short, Stores, block_text
from tinymbn_codegen.layouts import LANES, Layout, groups, pairs_of

_WORD_BYTES = 4
_FEW = 3  # blocks that are written one by one; more are a loop over two at a time
_REGISTERS = ("r4", "r5", "r6", "r7", "r8", "r9")  # of the weights; left to gcc, they are moved about
_VARIABLES = ("word", "low", "high", "before", "behind")  # of blocks in C
_WEIGHTS = tuple(f"w{pair}_{slot}" for slot in range(SLOTS) for pair in ("01", "12"))


def row_details(
    geometry: Geometry, output: Shape, target: Layout, short: Short | None, names: tuple[str, ...]
) -> dict[str, Any]:
    """What the template of a depthwise row is told beside its numbers.

    Args:
        geometry: of the row.
        output: its shape.
        target: its layout.
        short: the short requantisation, if that is what it is.
        names: of the constants of a channel before its weights.
    """
    outputs = _Outputs(output, target)
    runs = []
    for (_, stores, _), found in groupby(
        blocks_of(geometry), lambda block: (block.multiplies, outputs.stores(block), block.advance)
    ):
        blocks = list(found)
        text = block_text(blocks[0], geometry, stores, short)
        single = blocks if len(blocks) <= _FEW else blocks[: len(blocks) % 2]
        runs += [_run(text, stores, [block], 1, short, names) for block in single]
        if len(blocks) > len(single):
            runs.append(_run(text, stores, blocks[len(single) :], 2, short, names))
    all_c = "".join(line for run in runs for line in run["c"])
    return {
        "names": names,
        "weights": dict(zip(_WEIGHTS, _REGISTERS, strict=True)),
        "head": _head(names),
        "unused": [weights for weights in _WEIGHTS if weights not in all_c],  # in very narrow rows
        "pointers": outputs.pointers,
        "runs": runs,
    }


class _Outputs:
    """Where the outputs of a row go."""

    def __init__(self, shape: Shape, layout: Layout) -> None:
        _, self.width, self.channels = shape
        self.layout = layout
        self.pairs = pairs_of(self.channels)
        # Rows of pairs: groups of four outputs, then groups of another size, which have a pointer of their own.
        sizes = groups(self.width)
        self.fours = sum(size for size in sizes if size == BLOCK)
        self.rest = sizes[-1]

    def stores(self, block: Block) -> Stores:
        count, channels = block.count, self.channels
        last = block.first + BLOCK >= self.width
        if self.layout == "planar":
            return Stores("planar", "out", LANES[:count], _WORD_BYTES)
        if self.layout == "nhwc":
            offsets = tuple(channels * i for i in range(count))
            return Stores("nhwc", "out", offsets, 1 - block.first * channels if last else BLOCK * channels)
        if block.first < self.fours:
            last = block.first + BLOCK == self.fours
            offsets = tuple(_WORD_BYTES * i for i in range(count))
            group_bytes = _WORD_BYTES * BLOCK * self.pairs
            back = block.first // BLOCK * group_bytes
            return Stores("pairs", "out", offsets, _WORD_BYTES * BLOCK - back if last else group_bytes)
        behind = range(block.first - self.fours, block.first - self.fours + count)
        words = (x // self.rest * self.rest * self.pairs + x % self.rest for x in behind)
        return Stores("pairs", "rest", tuple(_WORD_BYTES * w for w in words), _WORD_BYTES * self.rest if last else 0)

    @property
    def pointers(self) -> list[str]:
        """Statements at the beginning of each part of the channels."""
        if self.layout != "pairs":
            return ["int8_t *out = output;"]
        lines = ["const int32_t half = first > 0 ? 2 : 0; /* the second part is in the high halfwords */"]
        if self.fours:
            lines.append("int8_t *out = output + half;")
        if self.fours < self.width:
            at = _WORD_BYTES * self.fours * self.pairs
            lines.append(f"int8_t *rest = output + {f'{at} + ' if at else ''}half;")
        return lines


def _head(names: Sequence[str]) -> list[str]:
    """Takes a channel's constants: the named ones to the stack, the weights to registers; loads side by side."""
    words = len(names) + len(_WEIGHTS)
    first, others = names[:3], names[3:]

    def at(index: int) -> str:
        return f"[%[here], #{_WORD_BYTES * (index - words)}]"

    lines = ["ldr %[here], %[constant]"]
    lines += [f"ldr %[w01_{slot}], %[row_{slot}]" for slot in range(SLOTS)]
    lines += ["ldr %[all], %[whole]", f"ldr %[a], [%[here]], #{_WORD_BYTES * words}"]
    lines += [f"ldr %[b], {at(1)}", f"ldr %[c], {at(2)}"]
    lines.append(f"add %[d], %[here], #{_WORD_BYTES}")
    for slot in range(SLOTS):
        lines.append(f"ldr %[w12_{slot}], [%[d], %[w01_{slot}], lsl #2]")
        lines.append(f"ldr %[w01_{slot}], [%[here], %[w01_{slot}], lsl #2]")
    lines.append("str %[here], %[constant]")
    lines += [f"str %[{register}], %[{name}]" for register, name in zip("abc", first, strict=True)]
    for index, name in enumerate(others, len(first)):
        lines += [f"ldr %[d], {at(index)}", f"str %[d], %[{name}]"]
    return lines


def _run(
    text: BlockText, stores: Stores, blocks: Sequence[Block], at_a_time: int, short: Short | None, names: Sequence[str]
) -> dict[str, Any]:
    """Blocks of one text, one after the other."""
    first, end = blocks[0], blocks[-1].first + blocks[-1].count
    variables = [v for v in _VARIABLES if any(line.startswith(f"{v} = ") for line in text.c)]
    return {
        "comment": f"Outputs {first.first} to {end - 1}" if end > first.first + 1 else f"Output {first.first}",
        "repeats": len(blocks) > 1,
        "at_a_time": at_a_time,
        "end": f"end_{end}",
        "bytes": len(blocks) * first.advance,
        "accumulators": [f"y{i}" for i in range(first.count)],
        "pointer": stores.pointer if short else None,
        "names": names if short else names[:1],
        "variables": variables,
        "assembler": text.assembler,
        "c": text.c,
        "after": text.after,
    }
