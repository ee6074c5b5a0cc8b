"""Reads and writes a FloatGraph as ``.npz``: as a model's file, with layers whose weights are real numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

from numpy.typing import NDArray

from tinymbn import model_file
from tinymbn.errors import ModelError
from tinymbn.files import read_file, write_file
from tinymbn.preprocessing import Preprocessing
from tinymbn.quantize import float_layers
from tinymbn.quantize.float_graph import FloatGraph

_FIELDS = {"format", "version", "name", "preprocessing", "input", "input_shape", "outputs", "layers"}
_KINDS: dict[str, Any] = {kind.kind: kind for kind in get_args(float_layers.AnyFloatLayer)}
_MAX_FILE_BYTES = 1 << 30


def save_float_model(graph: FloatGraph, path: str | os.PathLike[str]) -> None:
    """Write a float graph; the same graph gives the same bytes; the file appears whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_file(Path(path), to_bytes(graph))


def to_bytes(graph: FloatGraph) -> bytes:
    """The ``.npz`` file of a float graph, in memory."""
    arrays: dict[str, NDArray[Any]] = {}
    header = {
        "format": model_file.FLOAT_FORMAT,
        "version": model_file.VERSION,
        "name": graph.name,
        "preprocessing": model_file.encode(graph.preprocessing, "preprocessing", arrays),
        "input": graph.input,
        "input_shape": list(graph.input_shape),
        "outputs": list(graph.outputs),
        "layers": [
            {"kind": layer.kind, **model_file.encode(layer, f"layer_{i:03}", arrays)}
            for i, layer in enumerate(graph.layers)
        ],
    }
    return model_file.pack(header, graph.labels, arrays)


def load_float_model(path: str | os.PathLike[str]) -> FloatGraph:
    """The float graph in a ``.npz`` file.

    Raises:
        ModelError: the file is missing, damaged, foreign, or no float model.
    """
    path = Path(path)
    data = read_file(path, ModelError, _MAX_FILE_BYTES)
    try:
        arrays = model_file.unpack(data)
        header = model_file.parse_header(arrays)
        if header["format"] != model_file.FLOAT_FORMAT:
            raise ModelError("not a float model, but one that is quantised already")
        return _to_graph(header, arrays)
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error


def _to_graph(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> FloatGraph:
    model_file.require_fields(header, _FIELDS)
    unused = dict(arrays)

    def field(name: str, hint: Any) -> Any:
        return model_file.decode(hint, header[name], name, unused)

    raw_layers = header["layers"]
    if not isinstance(raw_layers, list):
        raise ModelError("header: 'layers' is not a list")
    graph = FloatGraph(
        name=field("name", str),
        input=field("input", str),
        input_shape=field("input_shape", tuple[int, ...]),
        layers=tuple(model_file.decode_layer(_KINDS, raw, f"layers[{i}]", unused) for i, raw in enumerate(raw_layers)),
        outputs=field("outputs", tuple[str, ...]),
        labels=model_file.decode_labels(arrays),
        preprocessing=field("preprocessing", Preprocessing),
    )
    model_file.require_all_used(unused)
    return graph
