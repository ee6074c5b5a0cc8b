"""Loads a model file of any kind tinymbn reads, told apart by content."""

from __future__ import annotations

import os
from pathlib import Path

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.files import require_file
from tinymbn.graph import Graph
from tinymbn.importers.keras.file import is_keras
from tinymbn.model_file import read_npz


def load_model(path: str | os.PathLike[str]) -> Graph:
    """The graph in a ``.npz``, or in a ``.tflite`` or quantised ``.onnx``, which is imported on the way.

    Raises:
        UnsupportedError: a float model.
        ModelError: there is no such file, or it is none of these.
        ToolError: the package that reads it is not installed.
    """
    path = Path(path)
    require_file(path, ModelError)
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    if is_keras(start):
        quantize = "tinymbn quantize MODEL --calibrate PICTURES"
        raise UnsupportedError(f"{path}: a float model of Keras; tinymbn runs int8: quantise it first: {quantize}")
    if start[4:8] == b"TFL3":
        # Imported here, because the schema's accessors take a quarter of a second.
        from tinymbn.importers.tflite.model import import_tflite

        return import_tflite(path)
    if path.suffix.lower() == ".onnx":  # a protobuf begins with nothing that tells it
        from tinymbn.importers.onnx.model import import_quantized_onnx

        return import_quantized_onnx(path)
    return read_npz(path)
