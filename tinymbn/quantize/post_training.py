"""The whole way from a float network and calibration pictures to an int8 Graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinymbn.graph import Graph
from tinymbn.preprocessing import Preprocessing
from tinymbn.quantize.calibration import Observed, Progress, observe, ranges
from tinymbn.quantize.conversion import convert
from tinymbn.quantize.equalization import equalize
from tinymbn.quantize.float_graph import FloatGraph
from tinymbn.quantize.folding import fold
from tinymbn.quantize.histogram import Method, Range


@dataclass(frozen=True, eq=False)
class Calibration:
    """What pictures have shown of a network.

    Attributes:
        graph: as ``fold`` leaves it, and ``equalize``.
        seen: every tensor.
        ranges: of every tensor, to be spread over int8.
        factors: what channels were multiplied by, of tensors where they were, see ``equalize``.
        preprocessing: from picture to the int8 input.
    """

    graph: FloatGraph
    seen: Mapping[str, Observed]
    ranges: Mapping[str, Range]
    factors: Mapping[str, NDArray[np.float32]]
    preprocessing: Preprocessing

    def scaled_channels(self, tensor: str) -> int:
        """How many channels of a tensor were multiplied by more than 1."""
        return int((self.factors[tensor] > 1).sum()) if tensor in self.factors else 0

    def convert(self, *, labels: Sequence[str] | None = None, correct_biases: bool = True) -> Graph:
        """The int8 Graph; arguments as ``quantize``."""
        labels = self.graph.labels if labels is None else labels
        means = {name: observed.mean for name, observed in self.seen.items()} if correct_biases else None
        return convert(self.graph, self.ranges, means=means, labels=labels, preprocessing=self.preprocessing)


def calibrate(
    graph: FloatGraph,
    pictures: Iterable[NDArray[np.float32]],
    *,
    input_range: tuple[float, float] | None = None,
    preprocessing: Preprocessing | None = None,
    method: Method = "mse",
    equalized: bool = True,
    progress: Progress | None = None,
) -> Calibration:
    """Look at a network on pictures; arguments and errors as ``quantize``."""
    folded = fold(graph)
    if input_range is not None:
        preprocessing = Preprocessing.of_range(*input_range, origin="file")
    seen = observe(folded, pictures, progress)
    chosen = ranges(seen, method)
    preprocessing = preprocessing or graph.preprocessing
    table = preprocessing.real_values(graph.input_shape[-1])
    if table is not None:
        low, high = chosen[folded.input] = Range(float(table.min()), float(table.max()))
        if low <= 0 <= high and (table == table[0]).all():
            # The int8 range is then this one end to end, and a pixel needs no arithmetic in float.
            preprocessing = replace(preprocessing, mean=None, std=None)
    made, factors = equalize(folded, seen, chosen) if equalized else (folded, {})
    seen |= {name: seen[name].scaled(by) for name, by in factors.items()}
    return Calibration(made, seen, chosen, factors, preprocessing)


def quantize(
    graph: FloatGraph,
    pictures: Iterable[NDArray[np.float32]],
    *,
    input_range: tuple[float, float] | None = None,
    preprocessing: Preprocessing | None = None,
    labels: Sequence[str] | None = None,
    method: Method = "mse",
    equalized: bool = True,
    correct_biases: bool = True,
    progress: Progress | None = None,
) -> Graph:
    """The int8 Graph of a float network: post-training quantisation, per-channel weights.

    Args:
        graph: the trained network.
        pictures: what calibrates the activations: real values, each (H, W, C); read once, one at a time.
        input_range: the real values of pixels 0 and 255, in place of ``preprocessing``. If 0 lies between them, the
            int8 input is pixel - 128.
        preprocessing: from picture to real values; None: the network's own. Where it gives none, the input's range is
            calibrated like any other tensor's.
        labels: of the classes; None: the network's own.
        method: how the range of a tensor is chosen, see ``histogram.best_range``.
        equalized: whether channels are scaled so that small ones use more of int8's steps, see ``equalization``.
        correct_biases: whether biases make up for what rounding the weights changes on the average.
        progress: called after each picture with the number done.

    Raises:
        ModelError: no pictures, or a network that cannot be quantised.
        ImageError: a picture has another shape than the input.
    """
    calibration = calibrate(
        graph,
        pictures,
        input_range=input_range,
        preprocessing=preprocessing,
        method=method,
        equalized=equalized,
        progress=progress,
    )
    return calibration.convert(labels=labels, correct_biases=correct_biases)
