"""A ``.tflite`` file, int8 or legacy uint8, as a Graph."""

from __future__ import annotations

import os
from pathlib import Path

from tinymbn.errors import FloatModelError, ModelError, UnsupportedError
from tinymbn.files import read_file
from tinymbn.graph import Graph, Source
from tinymbn.importers.tflite.file import MAX_FILE_BYTES, parse
from tinymbn.importers.tflite.lowering import Lowering
from tinymbn.importers.tflite.metadata import read_labels, read_preprocessing
from tinymbn.importers.tflite.operators import OPERATORS
from tinymbn.importers.tflite.walk import is_quantized, listing, lower, require_one_input


def import_tflite(path: str | os.PathLike[str]) -> Graph:
    """The graph in a ``.tflite`` file.

    Raises:
        FloatModelError: the model is not quantised.
        UnsupportedError: it uses what tinymbn does not compute; all of it is listed.
        ModelError: the file is missing or damaged.
    """
    path = Path(path)
    data = read_file(path, ModelError, MAX_FILE_BYTES)
    try:
        return from_bytes(data, path.name)
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error


def from_bytes(data: bytes, file_name: str) -> Graph:
    """The graph in a ``.tflite`` file's bytes; raises as ``import_tflite``."""
    file = parse(data)
    require_one_input(file)
    low = Lowering(file)
    low.begin(file.inputs[0])
    problems = lower(low, OPERATORS)
    if problems:
        raise UnsupportedError(listing(problems, OPERATORS)) if is_quantized(file) else FloatModelError
    outputs = low.end()
    graph = Graph(
        name=Path(file_name).stem,
        tensors=low.tensors,
        layers=tuple(low.layers),
        input=file.tensors[file.inputs[0]].name,
        outputs=outputs,
        constants=low.constants,
        labels=read_labels(data),
        source=Source(file_name, file.sha256),
    )
    return read_preprocessing(file.metadata, graph)
