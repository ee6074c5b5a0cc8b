"""The names of classes, and which classes an output scores highest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError
from tinymbn.files import read_file
from tinymbn.graph import Graph, Tensor
from tinymbn.kernels.quantize import dequantize, from_uint8
from tinymbn.layers import AnyLayer, Dequantize, Lookup, Reshape, Shape, Softmax

MAX_FILE_BYTES = 1 << 20  # 1 MiB: 21,000 names of 50 letters


@dataclass(frozen=True)
class Score:
    """What a model says of one class.

    Attributes:
        index: of the class.
        label: its name; empty if unknown.
        value: the real score.
        raw: the quantised score, as the model puts it out; None where the model puts out floats, or nothing of this
            class.
    """

    index: int
    label: str
    value: float
    raw: int | None


def load_labels(path: Path) -> tuple[str, ...]:
    """The labels of a text file, as ``parse_labels``.

    Raises:
        ModelError: there is no such file, it is over 1 MiB, no text, or has no labels.
    """
    return parse_labels(read_file(path, ModelError, MAX_FILE_BYTES, "a text file with one label a line"), str(path))


def parse_labels(data: bytes, path: str) -> tuple[str, ...]:
    """The labels in a text file's bytes, one a line, the first for class 0.

    UTF-8, with or without a byte order mark, any line ends. A blank line is a class without a name; those at the
    end do not count. ``path`` is for the error's text.

    Raises:
        ModelError: it is no text, or has no labels.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: byte {error.start} is not UTF-8; expected one label a line") from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")
    labels = tuple(line.strip() for line in lines)
    if labels == ("",):
        raise ModelError(f"{path}: no labels; expected one a line")
    for number, label in enumerate(labels, 1):
        if not label.replace("\t", " ").isprintable():
            raise ModelError(f"{path}: line {number} has control characters; expected one label a line")
    return labels


def class_count(graph: Graph, output: str) -> int:
    """How many classes an output scores; 0: it is something else.

    A row of values, out of a softmax or logistic or the only output, scores one class each. A single value out of a
    logistic scores two: it is the probability of class 1, and class 0 has the rest.
    """
    shape = graph.tensors[output].shape
    if math.prod(shape) == 1:
        return 2 if _is_logistic(_maker(graph, output)) else 0
    row = math.prod(shape) == shape[-1]
    return shape[-1] if row and (len(graph.outputs) == 1 or is_probability(graph, output)) else 0


def is_probability(graph: Graph, output: str) -> bool:
    """Whether an output comes from a softmax or logistic: values from 0 to 1."""
    layer = _maker(graph, output)
    return isinstance(layer, Softmax) or _is_logistic(layer)


def _is_logistic(layer: AnyLayer | None) -> bool:
    return isinstance(layer, Lookup) and layer.function == "logistic"


def _maker(graph: Graph, output: str) -> AnyLayer | None:
    """The layer that computes an output's values."""
    makers: dict[str, AnyLayer] = {layer.output: layer for layer in graph.layers}
    layer = makers.get(output)
    while isinstance(layer, Dequantize | Reshape):
        layer = makers.get(layer.inputs[0])
    return layer


def with_labels(graph: Graph, path: Path) -> Graph:
    """The graph with the labels of a text file; raises as ``load_class_labels``."""
    names = load_class_labels(path, graph.name, [tensor.shape for tensor in graph.output_tensors])
    return replace(graph, labels=names)


def load_class_labels(path: Path, model: str, outputs: Sequence[Shape]) -> tuple[str, ...]:
    """The labels in a text file, one for each class of a model with outputs of these shapes; a single value is of two.

    Raises:
        ModelError: as in ``load_labels``; or there is not one label a class, for then each class would have
            a wrong name.
    """
    names = load_labels(path)
    classes = sorted({2 if math.prod(shape) == 1 else shape[-1] for shape in outputs})
    if len(names) not in classes:
        expected = " or ".join(map(str, classes))
        raise ModelError(f"{path}: {len(names)} labels; model {model!r} has {expected} classes")
    return names


def real_values(values: NDArray[Any], tensor: Tensor) -> NDArray[np.float32]:
    """Output values in real units, float32: ``scale * (q - zero_point)``, or the floats themselves."""
    if tensor.quant is None:
        return values.astype(np.float32, copy=False)
    if tensor.dtype == "uint8":  # int8 with a zero point 128 lower
        return dequantize(from_uint8(values), tensor.scale, tensor.zero_point - 128)
    return dequantize(values, tensor.scale, tensor.zero_point)


def class_values(values: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """One value a class, of an output that scores classes: raw, but real of the two that a single probability is of."""
    row = values.ravel()
    if row.size > 1:
        return row
    real = real_values(row, tensor)
    return np.concatenate([1 - real, real])


def top(values: NDArray[Any], tensor: Tensor, labels: tuple[str, ...], count: int) -> list[Score]:
    """The classes with the highest scores, highest first; of equal ones the lower index first.

    Args:
        values: one output that scores classes, of the tensor's type.
        tensor: the output's.
        labels: of all classes, or empty; another number of labels than classes is as good as none.
        count: how many at most.
    """
    row, given = class_values(values, tensor), values.ravel()
    order = np.argsort(-row.astype(np.float64), kind="stable")[:count]
    real = real_values(row, tensor) if given.size > 1 else row
    first = row.size - given.size  # the class of the first given value
    named = labels if len(labels) == row.size else ()
    return [
        Score(
            index=int(i),
            label=named[i] if named else "",
            value=float(real[i]),
            raw=None if tensor.quant is None or i < first else int(given[i - first]),
        )
        for i in order
    ]
