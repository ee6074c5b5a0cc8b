"""From a file with a float network and a place with pictures to an int8 Graph, with a word on every layer."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinymbn.dataset import open_dataset
from tinymbn.errors import DatasetError, ImageError, ModelError
from tinymbn.files import require_file
from tinymbn.graph import Graph
from tinymbn.image import load_picture, pixel_table, to_pixels
from tinymbn.inference import find_pictures
from tinymbn.interpreter import Interpreter
from tinymbn.preprocessing import Preprocessing
from tinymbn.quantize import Calibration, FloatGraph, FloatInterpreter
from tinymbn.quantize.float_layers import AnyFloatLayer
from tinymbn.terminal import complain

Array = NDArray[np.float32]

_KEPT = 8  # pictures on which layers are compared

_Entry = tuple[Path, bytes | None]  # of a picture: its name, and its bytes where they are part of another file


@dataclass
class CalibrationPictures:
    """The pictures of a folder or data set as real values of a network's input, one at a time.

    Attributes:
        graph: whose input.
        preprocessing: from picture to real values.
        paths: a folder, a picture, or a data set.
        most: how many to take at most; None: all.
        count: of pictures, the unreadable ones included.
        used: so far.
        skipped: that could not be read, so far; each has been complained of.
        first: eight at most, as pixels (H, W, C) and as real values.
    """

    graph: FloatGraph
    preprocessing: Preprocessing
    paths: Path
    most: int | None
    count: int = 0
    used: int = 0
    skipped: int = 0
    first: list[tuple[NDArray[np.uint8], Array]] = field(default_factory=list)

    def __post_init__(self) -> None:
        shape = self.graph.input_shape
        if len(shape) != 3 or shape[2] not in (1, 3):
            raise ImageError(f"the model's input has shape {shape}, which no picture fits")
        self._table = self.preprocessing.real_values(shape[2])
        if self._table is None:
            raise ModelError(
                f"float model {self.graph.name!r}: it does not say what its input's values are; "
                "say so: --input-range LOW,HIGH, or --mean and --std"
            )
        self._total, self._entries = self._open()
        self.count = self._total if self.most is None else min(self.most, self._total)

    def _open(self) -> tuple[int, Callable[[], Iterable[_Entry]]]:
        """How many pictures there are, and all of them: of a data set, else of a plain folder or file."""
        folder = os.path.isdir(self.paths)
        if not folder:
            require_file(self.paths, ImageError, "a folder of pictures, or a data set")
        classes = folder and any(child.is_dir() for child in self.paths.iterdir())
        if classes or self.paths.suffix.lower() == ".npz":
            try:
                dataset = open_dataset(self.paths)
                return dataset.count, lambda: ((picture.path, picture.data) for picture in dataset.pictures())
            except DatasetError:
                if not classes:
                    raise
        found = find_pictures([self.paths])
        return len(found), lambda: ((path, None) for path in found)

    def __iter__(self) -> Iterator[Array]:
        assert self._table is not None
        for index, (path, data) in enumerate(self._entries()):
            # Spread over all of them: data sets are often in the order of their classes.
            if index * self.count // self._total == (index - 1) * self.count // self._total:
                continue
            try:
                picture = load_picture(path, data)
            except ImageError as error:
                complain(f"{error}; skipped")
                self.skipped += 1
                continue
            height, width, channels = self.graph.input_shape
            pixels = to_pixels(picture, (height, width, channels), self.preprocessing)
            real: Array = self._table[np.arange(channels), pixels]
            if len(self.first) < _KEPT:
                self.first.append((pixels, real))
            yield real
            self.used += 1


@dataclass(frozen=True)
class LayerQuality:
    """How near a quantised layer's output is to the float one's.

    Attributes:
        layer: the float layer that it stands for.
        low, high: the real values that its int8 range covers; of scaled channels a part of them, see ``equalize``.
        scale: of a step.
        clipped: the share of float values outside.
        sqnr_db: the power of the values, as the network had them before channels were scaled, over that of the
            differences; infinite where they are equal.
    """

    layer: AnyFloatLayer
    low: float
    high: float
    scale: float
    clipped: float
    sqnr_db: float


def compare_layers(
    calibration: Calibration, quantized: Graph, pictures: Sequence[tuple[NDArray[np.uint8], Array]]
) -> list[LayerQuality]:
    """Each layer of a network and of its int8 one on the same pictures, in running order.

    Args:
        calibration: of the network.
        quantized: what was made of it.
        pictures: as pixels, which the int8 network is given as ``tinymbn run`` gives them, and as real values.
    """
    graph = calibration.graph
    float_interpreter, interpreter = FloatInterpreter(graph), Interpreter(quantized)
    signal, noise, outside, elements = (dict.fromkeys(graph.shapes, 0.0) for _ in range(4))
    table, ends = pixel_table(quantized), {layer.output: _ends(quantized, layer.output) for layer in graph.layers}
    for pixels, picture in pictures:
        x = table[np.arange(len(table)), pixels]
        for (layer, real), (_, output) in zip(float_interpreter.steps(picture), interpreter.steps(x), strict=True):
            made = quantized.tensors[layer.output]
            values = (output.astype(np.float64) - made.zero_point) * made.scale
            low, high = ends[layer.output]
            unscaled = 1 / calibration.factors.get(layer.output, np.ones(1, np.float32)).astype(np.float64)
            signal[layer.output] += float(((real * unscaled) ** 2).sum())
            noise[layer.output] += float((((values - real) * unscaled) ** 2).sum())
            outside[layer.output] += float(((real < low - made.scale / 2) | (real > high + made.scale / 2)).sum())
            elements[layer.output] += real.size
    qualities = []
    for layer in graph.layers:
        name, scale = layer.output, quantized.tensors[layer.output].scale
        ratio = math.inf if noise[name] == 0 else 10 * math.log10(max(signal[name] / noise[name], 1e-30))
        qualities.append(LayerQuality(layer, *ends[name], scale, outside[name] / max(elements[name], 1), ratio))
    return qualities


def _ends(quantized: Graph, name: str) -> tuple[float, float]:
    """The real values that the int8 range of a tensor covers."""
    made = quantized.tensors[name]
    return (-128 - made.zero_point) * made.scale, (127 - made.zero_point) * made.scale
