"""Collects the range of every tensor of a float graph over calibration pictures; decides no scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ImageError, ModelError
from tinymbn.quantize.float_graph import FloatGraph
from tinymbn.quantize.float_interpreter import FloatInterpreter

Progress = Callable[[int], None]


class Range(NamedTuple):
    """The real values that a tensor takes."""

    low: float
    high: float


def min_max_ranges(
    graph: FloatGraph, pictures: Iterable[NDArray[np.float32]], progress: Progress | None = None
) -> dict[str, Range]:
    """The least and greatest value of every tensor over all pictures.

    Args:
        graph: what to run; calibrate what is converted, so fold first.
        pictures: real values, each of the graph's input shape, (H, W, C); read once, one at a time.
        progress: called after each picture with the number done.

    Raises:
        ModelError: there are no pictures, or a tensor takes a value that is not a finite number.
        ImageError: a picture has another shape.
    """
    interpreter = FloatInterpreter(graph)
    ranges: dict[str, Range] = {}

    def see(name: str, values: NDArray[np.float32]) -> None:
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise ModelError(f'float model {graph.name!r}: tensor "{name}" is not finite in calibration')
        old = ranges.get(name, Range(low, high))
        ranges[name] = Range(min(low, old.low), max(high, old.high))

    for done, picture in enumerate(pictures, start=1):
        if np.shape(picture) != graph.input_shape:
            raise ImageError(
                f"calibration picture {done} has shape {np.shape(picture)}; "
                f"float model {graph.name!r} expects {graph.input_shape}"
            )
        see(graph.input, np.asarray(picture, np.float32))
        for layer, values in interpreter.steps(picture):
            see(layer.output, values)
        if progress is not None:
            progress(done)
    if not ranges:
        raise ModelError(f"float model {graph.name!r}: no calibration pictures; expected one or more")
    return ranges
