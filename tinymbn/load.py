"""Loads a model file of any kind tinymbn reads, told apart by content, and by its name where content does not tell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tinymbn.errors import FloatModelError, ModelError, OptionError
from tinymbn.files import require_file
from tinymbn.graph import Graph
from tinymbn.model_file import read_npz

if TYPE_CHECKING:
    from tinymbn.quantize.float_graph import FloatGraph

# Each importer is imported where it is needed: what it stands on takes a quarter of a second to load.

_PYTORCH_SUFFIXES = (".pt2", ".pt", ".pth")


def load_model(path: str | os.PathLike[str]) -> Graph:
    """The graph in a ``.npz``, or in a ``.tflite`` or quantised ``.onnx``, which is imported on the way.

    Raises:
        FloatModelError: the model is not quantised.
        ModelError: there is no such file, or it is none of these.
        ToolError: the package that reads it is not installed.
    """
    path, start = Path(path), _start(path)
    if _is_keras(path, start) or path.suffix.lower() in _PYTORCH_SUFFIXES:
        raise FloatModelError(f"{path}: {FloatModelError()}")
    if _is_tflite(start):
        from tinymbn.importers.tflite.model import import_tflite

        return import_tflite(path)
    if path.suffix.lower() == ".onnx":  # a protobuf begins with nothing that tells it
        from tinymbn.importers.onnx.model import import_quantized_onnx

        return import_quantized_onnx(path)
    return read_npz(path)


def load_float(path: str | os.PathLike[str], resolution: int | None = None) -> FloatGraph:
    """The float network in a file of tinymbn, Keras, PyTorch, ONNX or TensorFlow Lite.

    Args:
        path: of the file.
        resolution: of the picture, which weights without a network do not say and an ``.onnx`` may leave open.

    Raises:
        ModelError: there is no such file, or it is none of these, or quantised already.
        ToolError: the package that reads it is not installed.
        OptionError: a resolution is missing, or is not the file's.
    """
    graph = _float(Path(path), resolution)
    height, width = graph.input_shape[:2] if len(graph.input_shape) == 3 else (resolution, resolution)
    if resolution is not None and (height, width) != (resolution, resolution):
        raise OptionError(f"{path}: its input is {height} high and {width} wide; expected no --resolution {resolution}")
    return graph


def _float(path: Path, resolution: int | None) -> FloatGraph:
    start, suffix = _start(path), path.suffix.lower()
    if _is_keras(path, start):
        from tinymbn.importers.keras.model import import_keras

        return import_keras(path, resolution)
    if _is_tflite(start):
        from tinymbn.importers.tflite.float_model import import_float_tflite

        return import_float_tflite(path)
    if suffix == ".onnx":
        from tinymbn.importers.onnx.model import import_onnx

        return import_onnx(path, resolution)
    if suffix in _PYTORCH_SUFFIXES:
        from tinymbn.importers.pytorch.exported import import_exported, is_exported_file
        from tinymbn.importers.pytorch.state_dict import import_pytorch

        if suffix == ".pt2" or is_exported_file(path):
            return import_exported(path)
        return import_pytorch(path, resolution)
    from tinymbn.quantize.float_file import load_float_model

    return load_float_model(path)


def _start(path: str | os.PathLike[str]) -> bytes:
    """The first bytes of a file, which has to be there."""
    path = Path(path)
    require_file(path, ModelError)
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error


def _is_keras(path: Path, start: bytes) -> bool:
    from tinymbn.importers.keras.file import is_keras

    return path.suffix.lower() == ".keras" or is_keras(start)


def _is_tflite(start: bytes) -> bool:
    return start[4:8] == b"TFL3"
