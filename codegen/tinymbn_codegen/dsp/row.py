"""A row of output as tiles, and what templates are told of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any

from tinymbn.graph import Tensor
from tinymbn.layers import Activation
from tinymbn_codegen.dsp.epilogue import Stores, sums_alone, whole_tile
from tinymbn_codegen.dsp.stream import Stream
from tinymbn_codegen.dsp.tile import Geometry, Sums
from tinymbn_codegen.layouts import LANES, Layout, pairs_of, plane_bytes

# Of the unrolled sums of a layer, all its sizes of tiles together.
_CODE_BYTES = 960

_TAILS = {
    "short": ("multiplier", "addend"),
    "exact": ("multiplier", "addend", "right"),
    "general": ("multiplier", "shift"),
}


@dataclass(frozen=True)
class Run:
    """Neighbouring tiles that share their code.

    Attributes:
        starts: the first pixel of each.
        size: pixels of each.
        clears: each stores a word of 0 at the end of its planes before its bytes.
    """

    starts: tuple[int, ...]
    size: int
    clears: bool


@dataclass(frozen=True)
class PixelView:
    """A pixel of a tile: names of its sums, and where its byte of channel A goes, counted from ``out``."""

    a: str
    b: str
    place: str


@dataclass(frozen=True)
class TilesView:
    """What the template is told of a run.

    Attributes:
        size: pixels of each tile.
        count: of tiles.
        whole: the assembler makes all channels' bytes, not only two channels' sums.
        moves: x moves, see ``tile.Sums``.
        lines: the instructions.
        pixels: of a tile.
        sums: names of them all.
        temporaries: names of the other registers.
        results: the operands of the assembler but for an ``x`` that stays.
        word_bytes: from one word of a pixel to its next.
        last: bytes from the first word of the first pixel to the word that x moves to.
        input_step: bytes from a tile's first word to the next tile's.
        out: where the tile's bytes begin, a C expression.
        lanes: a C initialiser of the pixels' places in each tile where they differ, else empty.
        clear: where a word is cleared, counted from ``out``, as a C expression; empty: nowhere.
    """

    size: int
    count: int
    whole: bool
    moves: bool
    lines: tuple[str, ...]
    pixels: tuple[PixelView, ...]
    sums: tuple[str, ...]
    temporaries: tuple[str, ...]
    results: tuple[str, ...]
    word_bytes: int
    last: int
    input_step: int
    out: str
    lanes: str
    clear: str


def runs_of(sizes: Sequence[int], target: Layout) -> tuple[Run, ...]:
    """The tiles of a row, from their sizes.

    In planes the last word may have bytes beyond the row, which are to be 0. It is cleared by the tile that stores its
    first byte, and by those of the same run before it.
    """
    starts = list(accumulate(sizes, initial=0))
    width = starts.pop()
    clearing = -1
    if target == "planar" and width % 4:
        clearing = next(i for i, x in enumerate(starts) if x + sizes[i] > width // 4 * 4)
    found = []
    for _, members in groupby(range(len(sizes)), key=lambda i: (sizes[i], i > clearing)):
        tiles = tuple(members)
        found.append(Run(tuple(starts[i] for i in tiles), sizes[tiles[0]], clearing in tiles))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Row:
    """How a row of output is made.

    Attributes:
        stream: the constants.
        output: the map.
        target: how its rows lie.
        activation: of the layer.
    """

    stream: Stream
    output: Tensor
    target: Layout
    activation: Activation

    def numbers(self) -> dict[str, int]:
        """What the text of the tiles calls by name."""
        stream, shape = self.stream, self.output.shape
        numbers = {"C_OUT": shape[2], "C_OUT_PAIRS": pairs_of(shape[2])}
        if self._planar:
            numbers["PLANE"] = plane_bytes(shape[1])
        numbers |= {"NEXT_CHANNEL": self._next_channel, "STREAM_WORDS": stream.values.shape[1]}
        if stream.form == "short":
            return numbers | {"SHIFT": stream.shift}
        more = 128 if self._planar and stream.form == "exact" else 0
        numbers |= {"LOW": self.activation.low + more, "HIGH": self.activation.high + more}
        return numbers if stream.form == "exact" else numbers | {"OUTPUT_ZERO": self.output.zero_point}

    def details(
        self, runs: Sequence[Run], geometry: Callable[[int], Geometry], tile_bytes: Callable[[int], int]
    ) -> dict[str, Any]:
        """What the text of the tiles depends on.

        Args:
            runs: of the row.
            geometry: of tiles of this size.
            tile_bytes: from the first word of a tile of this size to that of the next.
        """
        stream = self.stream
        a, b = ([f"{name}_{channel}" for name in _TAILS[stream.form]] for channel in "ab")
        return {
            "tiles": tuple(
                self._view(run, geometry(run.size), tile_bytes(run.size), _CODE_BYTES // len(runs)) for run in runs
            ),
            "form": stream.form,
            "wide": stream.wide,
            "delta": stream.delta,
            "tail": (*a, *(["delta_a"] if stream.delta else []), *b),
            "planar": self._planar,
            "alone": self._alone,
        }

    @property
    def _planar(self) -> bool:
        return self.target == "planar"

    @property
    def _alone(self) -> bool:
        # In planes there is one for a last channel that does not exist.
        return not self._planar and self.output.shape[2] % 2 == 1

    @property
    def _next_channel(self) -> int:
        return plane_bytes(self.output.shape[1]) if self._planar else 1

    def _view(self, run: Run, geometry: Geometry, tile_bytes: int, code_bytes: int) -> TilesView:
        stream, size, channels = self.stream, run.size, self.output.shape[2]
        start, step, lanes, clear = run.starts[0] * channels, size * channels, "", None
        places: tuple[int, ...] | None = tuple(p * channels for p in range(size))
        if self._planar:
            start, step = run.starts[0] // 4 * 4, 4
            rows = [tuple(_lane(x + p) - start for p in range(size)) for x in run.starts]
            places = rows[0]
            if size != 4 and len(rows) > 1:
                places, step = None, 0
                lanes = _initialiser(rows)
            clear = self._next_channel - 4 - start if run.clears else None
        stores = Stores(places, self._next_channel, clear, signed=not self._planar, alone=self._alone)
        sums = Sums(geometry, code_bytes)
        whole = stores.within_reach and (stream.form == "short" or (stream.form == "exact" and self._all_bytes))
        if whole:
            lines = whole_tile(sums, size, stream, stores)
        else:
            lines = sums_alone(sums, stream.values.shape[1] - stream.tail)
        pixels = tuple(
            PixelView(f"a{p}", f"b{p}", f"lane{p}" if places is None else str(places[p])) for p in range(size)
        )
        names = tuple(name for pixel in pixels for name in (pixel.a, pixel.b))
        temporaries = tuple(f"t{i}" for i in range(sums.temporaries))
        results = [f'[{name}] "=&r"({name})' for name in (*names, *temporaries)] + ['[constants] "+r"(constants)']
        if sums.moves:
            results += ['[x] "+r"(x)', '[first] "+m"(first)', '[last] "+m"(last)']
        if whole:
            # In memory, and as if they were written: a constant would have an address that takes a register.
            results += [f'[{name}] "+m"({name})' for name in ("out", "end")]
            results += [f'[{pixel.place}] "+m"({pixel.place})' for pixel in pixels if lanes]
        return TilesView(
            size=size,
            count=len(run.starts),
            whole=whole,
            moves=sums.moves,
            lines=lines,
            pixels=pixels,
            sums=names,
            temporaries=temporaries,
            results=tuple(results),
            word_bytes=geometry.word_bytes,
            last=geometry.words * geometry.word_bytes - 4,
            input_step=tile_bytes,
            out=" + ".join(
                [
                    "output",
                    *([str(start)] if start else []),
                    *([f"tile * {step}"] if step and len(run.starts) > 1 else []),
                ]
            ),
            lanes=lanes,
            clear="" if clear is None else str(clear),
        )

    @property
    def _all_bytes(self) -> bool:
        return (self.activation.low, self.activation.high) == (-128, 127)


def _lane(x: int) -> int:
    """The byte of a pixel in its plane."""
    return x // 4 * 4 + LANES[x % 4]


def _initialiser(rows: Sequence[Sequence[int]]) -> str:
    return "{" + ", ".join("{" + ", ".join(map(str, row)) + "}" for row in rows) + "}"
