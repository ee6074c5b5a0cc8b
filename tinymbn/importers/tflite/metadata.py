"""What TensorFlow Lite's metadata adds to a model: labels, and the normalisation of a float input.

Source: tensorflow/tflite-support, metadata_schema.fbs; associated files are a zip archive after the flatbuffer.
"""

from __future__ import annotations

import dataclasses
import io
import struct
import zipfile
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers.table import Table

from tinymbn.archive import RECORD_BYTES, directory_bytes
from tinymbn.errors import ModelError
from tinymbn.graph import Graph
from tinymbn.labels import MAX_FILE_BYTES, parse_labels
from tinymbn.preprocessing import Preprocessing

_MAX_DIRECTORY_BYTES = 1 << 14
_NORMALIZATION_OPTIONS = 1  # metadata_schema.fbs, union ProcessUnitOptions


def read_labels(data: bytes) -> tuple[str, ...]:
    """The lines of the first text file appended to the model; nothing if there is none that can be read."""
    directory = directory_bytes(data[-RECORD_BYTES:])
    if directory is None or directory > _MAX_DIRECTORY_BYTES:
        return ()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".txt") and info.file_size <= MAX_FILE_BYTES:
                    with archive.open(info) as member:
                        return parse_labels(member.read(MAX_FILE_BYTES), info.filename)
    except Exception:  # noqa: S110 - zipfile fails in a dozen ways; labels are not worth a refusal
        pass
    return ()


def read_preprocessing(metadata: bytes, graph: Graph) -> Graph:
    """The graph with the metadata's normalisation, where it says something else than end to end.

    For a quantised input, metadata commonly repeats the scale: (pixel - 127.5) / 127.5 lands within a step of
    pixel - 128. That is the same thing said less exactly, so the whole numbers stay.
    """
    channels = graph.input_tensor.shape[-1]
    preprocessing = normalization(metadata, channels)
    if preprocessing is None:
        return graph
    if graph.input_tensor.dtype != "float32":
        quant, real = graph.quantized_input, preprocessing.real_values(channels)
        assert real is not None
        steps = real / np.float32(quant.scale) + quant.zero_point - (np.arange(256) - 128)
        if np.abs(steps).max() <= 1.5:
            return graph
    return dataclasses.replace(graph, preprocessing=preprocessing)


def normalization(metadata: bytes, channels: int) -> Preprocessing | None:
    """What the metadata say of the pixels of the first input, if anything; damaged ones are no reason to refuse."""
    try:
        found = _normalization(metadata)
        if found is None:
            return None
        mean, std = found
        preprocessing = Preprocessing(mean=mean, std=std, origin="file")
        preprocessing.real_values(channels)
    except (struct.error, ValueError, IndexError, TypeError, OverflowError, ModelError):
        return None
    return preprocessing


def _normalization(metadata: bytes) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std of the first input, if there are any."""
    if metadata[4:8] != b"M001":
        return None
    (root,) = struct.unpack_from("<I", metadata)
    model = Table(metadata, root)
    for step in (2, 2):  # ModelMetadata.subgraph_metadata, SubGraphMetadata.input_tensor_metadata
        children = _tables(model, step)
        if not children:
            return None
        model = children[0]
    for unit in _tables(model, 4):  # TensorMetadata.process_units
        kind = unit.Offset(4)
        options = unit.Offset(6)
        if not kind or not options or metadata[unit.Pos + kind] != _NORMALIZATION_OPTIONS:
            continue
        table = Table(metadata, unit.Indirect(unit.Pos + options))
        mean, std = _floats(table, 0), _floats(table, 1)
        if mean and len(mean) == len(std):
            return mean, std
    return None


def _tables(table: Any, field: int) -> list[Any]:
    """The tables in a vector field; a few at most."""
    offset = table.Offset(4 + 2 * field)
    if not offset:
        return []
    start, count = table.Vector(offset), min(table.VectorLen(offset), 8)
    return [Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(count)]


def _floats(table: Any, field: int) -> tuple[float, ...]:
    offset = table.Offset(4 + 2 * field)
    if not offset:
        return ()
    start, count = table.Vector(offset), min(table.VectorLen(offset), 8)
    number = flatbuffers.number_types.Float32Flags
    return tuple(float(table.Get(number, start + 4 * i)) for i in range(count))
