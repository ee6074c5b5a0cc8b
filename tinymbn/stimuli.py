"""Inputs to verify with: pictures, and fields that reach what pictures do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinymbn.graph import Graph, Tensor
from tinymbn.image import load_input
from tinymbn.interpreter import Interpreter
from tinymbn.layers import Quantize, Shape

DEFAULT_COUNT = 3  # of made inputs
_WAVES = 6  # of a smooth field


@dataclass(frozen=True, eq=False)
class Stimulus:
    """An input of the network as a chip takes it.

    Attributes:
        name: of the picture, or what was made.
        values: int8, of the int8 input's shape.
    """

    name: str
    values: NDArray[np.int8]


def stimuli(graph: Graph, pictures: Sequence[Path], count: int, seed: int) -> Iterator[Stimulus]:
    """The pictures, then ``count`` made ones: all-min, all-max, then noise, smooth fields and checkerboards in turn.

    Args:
        graph: the model; QUANTIZE at its input is applied to pictures.
        pictures: files.
        count: of made ones.
        seed: the same gives the same fields.

    Raises:
        ImageError: a picture cannot be read or does not fit; before anything else is yielded.
    """
    loaded = [Stimulus(str(path), _int8(graph, load_input(path, graph))) for path in pictures]
    return _all(loaded, graph.quantized_input, count, seed)


def _all(loaded: Sequence[Stimulus], tensor: Tensor, count: int, seed: int) -> Iterator[Stimulus]:
    yield from loaded
    for number in range(count):
        yield _made(tensor.shape, number, seed)


def _made(shape: Shape, number: int, seed: int) -> Stimulus:
    if number == 0:
        return Stimulus("all-min", np.full(shape, -128, np.int8))
    if number == 1:
        return Stimulus("all-max", np.full(shape, 127, np.int8))
    chance = np.random.default_rng([seed, number])
    turn, kind = divmod(number - 2, 3)
    if kind == 0:
        return Stimulus(f"noise {turn + 1}", chance.integers(-128, 128, shape).astype(np.int8))
    if kind == 1:
        return Stimulus(f"smooth {turn + 1}", _smooth(shape, chance))
    return Stimulus(f"checkerboard {turn + 1}", _checkerboard(shape, 1 << turn % 4))


def _checkerboard(shape: Shape, size: int) -> NDArray[np.int8]:
    """The two extremes in turn: ``size`` neighbours of each along height and width, one along the channels."""
    fields = np.indices(shape).astype(np.int64)
    fields[:-1] //= size
    return np.where(fields.sum(axis=0) % 2 == 0, 127, -128).astype(np.int8)


def _smooth(shape: Shape, chance: np.random.Generator) -> NDArray[np.int8]:
    """A sum of slow waves over all axes, stretched to the whole range."""
    grid = np.meshgrid(*(np.linspace(0, 1, size) for size in shape), indexing="ij")
    field = np.zeros(shape)
    for _ in range(_WAVES):
        phase = chance.uniform(0, 2 * np.pi)
        field += np.cos(2 * np.pi * sum(axis * chance.uniform(-3, 3) for axis in grid) + phase)
    low, high = field.min(), field.max()
    scaled = (field - low) / (high - low) if high > low else np.zeros(shape)
    return np.asarray(np.rint(scaled * 255 - 128), np.int8)


def _int8(graph: Graph, x: NDArray[np.generic]) -> NDArray[np.int8]:
    """What the int8 part of the network gets."""
    if x.dtype == np.int8:
        return np.asarray(x, np.int8)
    for layer, output in Interpreter(graph).steps(x):
        if isinstance(layer, Quantize):
            return np.asarray(output, np.int8)
    raise AssertionError("a graph has no other way from its input to int8")
