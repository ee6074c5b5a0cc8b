"""A ``.tflite`` file, int8 or legacy uint8, as a Graph."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from pathlib import Path

import numpy as np

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.files import read_file
from tinymbn.graph import MAX_ELEMENTS, Graph, Source
from tinymbn.importers.lowering import Lowering
from tinymbn.importers.operators import LEAST_INPUTS, OPERATORS
from tinymbn.importers.tflite_file import Operator, TfliteFile, parse
from tinymbn.importers.tflite_metadata import read_labels, read_preprocessing
from tinymbn.importers.tflite_shapes import SHAPE_OPERATORS, fold
from tinymbn.terminal import shorten

_MAX_FILE_BYTES = 1 << 28


def import_tflite(path: str | os.PathLike[str]) -> Graph:
    """The graph in a ``.tflite`` file.

    Raises:
        UnsupportedError: the model uses what tinymbn does not compute; all of it is listed.
        ModelError: the file is missing or damaged.
    """
    path = Path(path)
    data = read_file(path, ModelError, _MAX_FILE_BYTES)
    try:
        return from_bytes(data, path.name)
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error


def from_bytes(data: bytes, file_name: str) -> Graph:
    """The graph in a ``.tflite`` file's bytes; raises as ``import_tflite``."""
    file = parse(data)
    low = _lower(file)
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


def _lower(file: TfliteFile) -> Lowering:
    low = Lowering(file)
    _begin(low)
    problems: list[tuple[str, str]] = []
    unknown: set[int] = set()  # what an operator makes that could not be lowered
    for op in file.operators:
        name = file.tensors[op.outputs[0]].name if op.outputs else "?"
        if not unknown.isdisjoint(op.inputs) and op.code in OPERATORS:
            unknown.update(op.outputs)
            continue
        try:
            with np.errstate(all="ignore"):  # what is not finite is refused
                _lower_operator(low, op)
        except UnsupportedError as error:
            problems.append((op.code + (f": {error}" if str(error) else ""), name))
            unknown.update(op.outputs)
        except ModelError as error:
            raise ModelError(f'{op.code} "{name}": {error}') from error
        except (ValueError, IndexError, TypeError, KeyError, OverflowError) as error:
            # Values that fit no arithmetic: a scale that is not finite, a slice outside its tensor.
            raise ModelError(f'{op.code} "{name}": {str(error)[:200]}') from error
    if problems:
        raise UnsupportedError(_listing(file, problems))
    return low


def _begin(low: Lowering) -> None:
    file = low.file
    if len(file.inputs) != 1:
        raise UnsupportedError(f"{len(file.inputs)} inputs; tinymbn runs models of one")
    if not file.outputs:
        raise ModelError("the model has no outputs")
    tensor = file.tensors[file.inputs[0]]
    if any(axis > 0 for axis in tensor.open_axes):
        raise UnsupportedError(
            f'input "{tensor.name}" leaves its size open: export the model again with a fixed height and width'
        )
    if len(tensor.shape) > 1 and tensor.shape[0] != 1:
        raise UnsupportedError(f'input "{tensor.name}" has a batch of {tensor.shape[0]}; expected 1')
    if any(size < 1 for size in tensor.shape) or math.prod(tensor.shape) > MAX_ELEMENTS:
        raise ModelError(f'input "{tensor.name}" has shape {tensor.shape}')
    low.begin(file.inputs[0])


def _lower_operator(low: Lowering, op: Operator) -> None:
    if op.code not in OPERATORS and op.code not in SHAPE_OPERATORS:
        raise UnsupportedError("")
    if not op.outputs or len(op.inputs) < LEAST_INPUTS.get(op.code, 1) or op.inputs[0] < 0:
        raise ModelError(f"{len(op.inputs)} inputs and {len(op.outputs)} outputs are too few")
    if op.code == "SHAPE":
        low.set_folded(op.outputs[0], np.array(low.file_shape(op.inputs[0]), np.int64))
        return
    folded = fold(op, [low.values(index) if index >= 0 else None for index in op.inputs])
    if folded is not None:
        low.set_folded(op.outputs[0], folded)
        return
    if op.code not in OPERATORS:
        raise UnsupportedError("")  # it runs on shapes alone
    OPERATORS[op.code](low, op)


def _listing(file: TfliteFile, problems: list[tuple[str, str]]) -> str:
    """All that is unsupported, in one line."""
    if all(t.dtype == "float32" or t.values is not None for t in file.tensors) and not any(
        len(t.scales) for t in file.tensors
    ):
        return f"a float model of {len(file.operators)} operators; tinymbn runs int8: quantise it first"
    names = defaultdict(list)
    for what, name in problems:
        names[what].append(shorten(name, 60))
    listed = "; ".join(f"{what} ({', '.join(layers)})" for what, layers in names.items())
    supported = ", ".join(sorted(OPERATORS))
    count = len(problems)
    return f"{count} operator{'s' if count > 1 else ''} not supported: {listed}. Supported: {supported}"
