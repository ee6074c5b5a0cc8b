"""A row of output as tiles, its constants, and what templates are told of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.graph import Tensor
from tinymbn.layers import Conv2D, Depthwise
from tinymbn_codegen.kernel_code import as_int32
from tinymbn_codegen.layouts import Layout
from tinymbn_codegen.mve.requantization import Requantization, can_be_scaled, zero_number
from tinymbn_codegen.mve.tile import (
    LANES,
    RESIDENT_CHUNKS,
    Geometry,
    output_in_register,
    resident,
    sizes_of,
    streamed,
    zero_in_register,
)
from tinymbn_codegen.mve.weights import fit, split, terms_of

FORMS = {"plain": 0, "ties": 1, "general": 2}


@dataclass(frozen=True)
class RunView:
    """Neighbouring tiles of one size.

    Attributes:
        size: pixels of each.
        count: of tiles.
        lines: the instructions; empty where the row has them all.
        pointers: C expressions of the pixels that the instructions point at, counted from the tile.
        lanes: which of the places of ``lanes`` are its own.
        results: operands that the instructions change.
        operands: those that they read.
    """

    size: int
    count: int
    lines: tuple[str, ...]
    pointers: tuple[int, ...]
    lanes: int
    results: tuple[str, ...]
    operands: tuple[str, ...]


_MOST_INPUTS = 4080  # by how much a pointer goes back
_MOST_PLACE = 0xFFFF  # of a byte in a tile
_MOST_PIXELS = 4  # of a tile


def has_row(layer: Conv2D | Depthwise, weights: NDArray[np.int64], input: Tensor, output: Tensor) -> bool:
    """Whether rows of a layer can be made, of weights without their zero point, (C, n)."""
    channels, inputs = weights.shape
    near = _MOST_PIXELS * max(channels, output.shape[1]) <= _MOST_PLACE
    return inputs <= _MOST_INPUTS and near and fit(weights) and can_be_scaled(layer, weights, input, output)


def chunks_of(count: int) -> int:
    """In how many chunks so many inputs are multiplied."""
    return -(-count // LANES)


def is_resident(count: int, terms: int) -> bool:
    """Whether the weights of so many inputs stay in their vectors while a row passes by."""
    return chunks_of(count) * terms <= RESIDENT_CHUNKS


@dataclass(frozen=True, eq=False)
class Row:
    """How a row of output is made of pixels that lie in pieces.

    Attributes:
        weights: without their zero point, in the order of the inputs, (C, n).
        requantization: of the layer.
        width: pixels.
        pixel_bytes: from one pixel's inputs to the next's.
        output: the map, or whatever else is made of pixels of C bytes.
        target: how it lies.
    """

    weights: NDArray[np.int64]
    requantization: Requantization
    width: int
    pixel_bytes: int
    output: Tensor
    target: Layout

    @property
    def channels(self) -> int:
        """Of the output."""
        return len(self.weights)

    @property
    def chunks(self) -> int:
        """Of sixteen inputs of each pixel."""
        return chunks_of(self.weights.shape[1])

    @cached_property
    def terms(self) -> int:
        """Bytes of each weight."""
        return terms_of(self.weights)

    @property
    def _stays(self) -> bool:
        return is_resident(self.weights.shape[1], self.terms)

    @property
    def _sizes(self) -> tuple[int, ...]:
        return sizes_of(self.width, self.chunks, self.terms)

    def _tile(self, size: int) -> Geometry:
        numbers = self.numbers()
        steps = numbers["NEXT_PIXEL"], numbers["NEXT_CHANNEL"] if self.channels > 1 else 0
        return Geometry(size, self.chunks, self.terms, self.pixel_bytes, *steps)

    def numbers(self) -> dict[str, int]:
        """What the text calls by name."""
        planes = self.target == "planes"
        activation = self.requantization.activation
        return {
            "WIDTH": self.width,
            "C_OUT": self.channels,
            "PIXEL_BYTES": self.pixel_bytes,
            "CHUNKS": self.chunks,
            "TERMS": self.terms,
            "PAIRS": max(1, self.channels // 2),
            "PAIR_WORDS": self.pair_words,
            "NEXT_PIXEL": 1 if planes else self.channels,
            "NEXT_CHANNEL": self.width if planes else 1,
            "ZERO": zero_number(self.requantization),
            "OUTPUT_ZERO": self.requantization.zero_point,
            "LOW": activation.low,
            "HIGH": activation.high,
            "FORM": FORMS[self.requantization.form],
        }

    @property
    def pair_words(self) -> int:
        """Of the stream, for two channels."""
        return self.chunks * self.terms * 2 * LANES // 4 + 2 * self.requantization.words

    def details(self) -> dict[str, Any]:
        """What the text depends on."""
        runs = [(size, len(list(group))) for size, group in groupby(self._sizes)]
        tiles = [self._tile(size) for size, _ in runs]
        return {
            "resident": resident(tuple(runs), tiles[0], self.requantization) if self._stays else (),
            "runs": tuple(
                self._view(i, tile, count) for i, (tile, (_, count)) in enumerate(zip(tiles, runs, strict=True))
            ),
            "parts": 1 + (self.channels > 1 and self.channels % 2),
        }

    def constants(self) -> tuple[tuple[str, NDArray[Any], str], ...]:
        """The stream of weights and parameters, and where the bytes of a tile go."""
        lanes = np.array([self._tile(size).lanes() for size in dict.fromkeys(self._sizes)])
        return (
            ("stream", self._stream(), "(PAIRS, PAIR_WORDS): weights of 16 inputs and 2 channels in turn, parameters"),
            ("lanes", lanes.astype(np.int16), "(TILES, 8): where the bytes of a tile go"),
        )

    def _view(self, index: int, tile: Geometry, count: int) -> RunView:
        if self._stays:
            return RunView(tile.size, count, (), (), index, (), ())
        pointers = tuple(f'[x{i}] "+r"(x{i})' for i in range(len(tile.pointers)))
        return RunView(
            size=tile.size,
            count=count,
            lines=streamed(tile, self.requantization),
            pointers=tuple(p * self.pixel_bytes for p in tile.pointers),
            lanes=index,
            # In memory, and as if they were written: a constant would have an address that takes a register.
            results=(
                *pointers,
                f'[output] "+{"r" if output_in_register(tile) else "m"}"(out)',
                *('[stream] "+r"(constants)', '[lanes] "+m"(places)', '[end] "+m"(end)'),
            ),
            operands=('[zero] "r"(ZERO)',) if zero_in_register(tile) else (),
        )

    def _stream(self) -> NDArray[np.int32]:
        first = list(range(0, self.channels - 1, 2)) or [0]
        if self.channels > 1 and self.channels % 2:
            first.append(self.channels - 2)  # once more with its neighbour, so that there are pairs alone
        pairs = np.array([(c, min(c + 1, self.channels - 1)) for c in first])
        padded = np.pad(self.weights, ((0, 0), (0, self.chunks * LANES - self.weights.shape[1])))
        terms = split(padded, self.terms).reshape(self.terms, self.channels, self.chunks, LANES)
        chunks = terms[:, pairs].transpose(1, 3, 0, 2, 4)  # (pairs, chunks, terms, 2, LANES)
        words = np.ascontiguousarray(chunks).view("<i4").reshape(len(pairs), -1)
        parameters = self.requantization.parameters[pairs].reshape(len(pairs), -1)
        return np.concatenate([words.astype(np.int32), as_int32(parameters)], axis=1)
