"""Watches every tensor of a float graph over calibration pictures; decides no scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ImageError, ModelError
from tinymbn.quantize.float_graph import FloatGraph
from tinymbn.quantize.float_interpreter import FloatInterpreter
from tinymbn.quantize.histogram import Histogram, Method, Range, best_range

Progress = Callable[[int], None]


@dataclass
class Observed:
    """What was seen of a tensor.

    Attributes:
        histogram: of its values.
        mean: of each channel, the last axis.
        low, high: the least and greatest value of each channel.
    """

    histogram: Histogram = field(default_factory=Histogram)
    mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    low: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    high: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    _pictures: int = 0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count one picture's values."""
        self.histogram.add(values)
        others = tuple(range(values.ndim - 1))
        mean, low, high = values.mean(axis=others, dtype=np.float64), values.min(axis=others), values.max(axis=others)
        self._pictures += 1
        if self._pictures == 1:
            self.mean, self.low, self.high = mean, low, high
            return
        self.mean = self.mean + (mean - self.mean) / self._pictures
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    def scaled(self, factors: NDArray[np.float32]) -> Observed:
        """The same with each channel multiplied, (C,); the histogram stays that of the values as they were seen."""
        return replace(self, mean=self.mean * factors, low=self.low * factors, high=self.high * factors)


def observe(
    graph: FloatGraph, pictures: Iterable[NDArray[np.float32]], progress: Progress | None = None
) -> dict[str, Observed]:
    """Every tensor over all pictures; memory does not grow with their number.

    Args:
        graph: what to run; calibrate what is converted, so fold first.
        pictures: real values, each of the graph's input shape, (H, W, C); read once, one at a time.
        progress: called after each picture with the number done.

    Raises:
        ModelError: there are no pictures, or a tensor takes a value that is not a finite number.
        ImageError: a picture has another shape.
    """
    interpreter = FloatInterpreter(graph)
    seen: dict[str, Observed] = {}

    def see(name: str, values: NDArray[np.float32]) -> None:
        if not np.isfinite([values.min(), values.max()]).all():
            raise ModelError(f'float model {graph.name!r}: tensor "{name}" is not finite in calibration')
        seen.setdefault(name, Observed()).add(values)

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
    if not seen:
        raise ModelError(f"float model {graph.name!r}: no calibration pictures; expected one or more")
    return seen


def ranges(seen: Mapping[str, Observed], method: Method = "minmax") -> dict[str, Range]:
    """The range of each tensor to be spread over int8, see ``histogram.best_range``."""
    return {name: best_range(observed.histogram, method) for name, observed in seen.items()}


def min_max_ranges(
    graph: FloatGraph, pictures: Iterable[NDArray[np.float32]], progress: Progress | None = None
) -> dict[str, Range]:
    """The least and greatest value of every tensor over all pictures; arguments and errors as ``observe``."""
    return ranges(observe(graph, pictures, progress))
