"""From a file with a float network and a place with pictures to an int8 Graph, with a word on every layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinymbn.dataset import open_dataset
from tinymbn.errors import DatasetError, ImageError, ModelError, OptionError
from tinymbn.files import require_file
from tinymbn.graph import Graph
from tinymbn.image import load_picture, to_pixels
from tinymbn.inference import find_pictures
from tinymbn.interpreter import Interpreter
from tinymbn.preprocessing import Preprocessing
from tinymbn.quantize import FloatGraph, FloatInterpreter, fold, load_float_model
from tinymbn.quantize.float_layers import AnyFloatLayer
from tinymbn.terminal import complain

Array = NDArray[np.float32]

_KEPT = 8  # pictures on which layers are compared


def load_float(path: Path, resolution: int | None = None) -> FloatGraph:
    """The float network in a file of tinymbn, Keras, TensorFlow Lite or PyTorch, told apart by content.

    Args:
        path: of the file.
        resolution: of the picture, which weights without a network do not say.

    Raises:
        ModelError: there is no such file, or it is none of these.
        OptionError: weights without a network, and no resolution.
        ToolError: the package that reads it is not installed.
    """
    require_file(path, ModelError)
    with path.open("rb") as file:
        start = file.read(64)
    from tinymbn.importers.keras_file import is_keras

    if is_keras(start) or path.suffix.lower() == ".keras":
        from tinymbn.importers.keras import import_keras

        return import_keras(path, resolution)
    if start[4:8] == b"TFL3":
        from tinymbn.importers.tflite_float import import_float_tflite

        return import_float_tflite(path)
    if path.suffix.lower() in (".pt", ".pth"):
        from tinymbn.importers.pytorch import import_pytorch

        if resolution is None:
            raise OptionError(f"{path}: a state_dict does not say the size of a picture: --resolution R")
        return import_pytorch(path, resolution)
    return load_float_model(path)


@dataclass
class CalibrationPictures:
    """The pictures of a folder or data set as real values of a network's input, one at a time.

    Attributes:
        graph: whose input.
        preprocessing: from picture to real values.
        count: of pictures, the unreadable ones included.
        skipped: that could not be read, so far; each has been complained of.
        first: some, kept.
    """

    graph: FloatGraph
    preprocessing: Preprocessing
    paths: Path
    most: int | None
    count: int = 0
    skipped: int = 0
    first: list[Array] = field(default_factory=list)

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
        self._entries = self._open()
        self.count = len(self._entries) if self.most is None else min(self.most, len(self._entries))

    def _open(self) -> list[tuple[Path, bytes | None]]:
        """Every picture: of a data set, else of a plain folder or file."""
        folders = self.paths.is_dir() and any(child.is_dir() for child in self.paths.iterdir())
        if folders or self.paths.suffix.lower() == ".npz":
            try:
                return [(picture.path, picture.data) for picture in open_dataset(self.paths).pictures()]
            except DatasetError:
                if not folders:
                    raise
        return [(path, None) for path in find_pictures([self.paths])]

    def __iter__(self) -> Iterator[Array]:
        assert self._table is not None
        # Spread over all of them: data sets are often in the order of their classes.
        for index in np.linspace(0, len(self._entries) - 1, self.count).astype(int):
            path, data = self._entries[index]
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
                self.first.append(real)
            yield real


@dataclass(frozen=True)
class LayerQuality:
    """How near a quantised layer's output is to the float one's.

    Attributes:
        layer: the float layer, as ``fold`` leaves it.
        low, high: the real values that its int8 range covers.
        scale: of a step.
        clipped: the share of float values outside.
        sqnr_db: the power of the values over that of the differences; infinite where they are equal.
    """

    layer: AnyFloatLayer
    low: float
    high: float
    scale: float
    clipped: float
    sqnr_db: float


def compare_layers(graph: FloatGraph, quantized: Graph, pictures: list[Array]) -> list[LayerQuality]:
    """Each layer of both networks on the same pictures, in running order."""
    folded, interpreter = fold(graph), Interpreter(quantized)
    float_interpreter = FloatInterpreter(folded)
    signal, noise, outside, elements = (dict.fromkeys(folded.shapes, 0.0) for _ in range(4))
    tensor = quantized.input_tensor
    for picture in pictures:
        steps = np.rint(picture / np.float32(tensor.scale)) + tensor.zero_point
        x = np.clip(steps, -128, 127).astype(np.int8)
        for (layer, real), (_, output) in zip(float_interpreter.steps(picture), interpreter.steps(x), strict=True):
            made = quantized.tensors[layer.output]
            values = (output.astype(np.float64) - made.zero_point) * made.scale
            low, high = ((edge - made.zero_point) * made.scale for edge in (-128, 127))
            signal[layer.output] += float((real.astype(np.float64) ** 2).sum())
            noise[layer.output] += float(((values - real) ** 2).sum())
            outside[layer.output] += float(((real < low - made.scale / 2) | (real > high + made.scale / 2)).sum())
            elements[layer.output] += real.size
    qualities = []
    for layer in folded.layers:
        made, name = quantized.tensors[layer.output], layer.output
        low, high = ((edge - made.zero_point) * made.scale for edge in (-128, 127))
        ratio = math.inf if noise[name] == 0 else 10 * math.log10(max(signal[name], 1e-30) / noise[name])
        qualities.append(LayerQuality(layer, low, high, made.scale, outside[name] / max(elements[name], 1), ratio))
    return qualities
