"""What a ``.tflite`` computes from shapes alone: done at import, so that it disappears from the graph.

Keras writes Flatten, Reshape and GlobalAveragePooling as SHAPE -> STRIDED_SLICE -> PACK -> RESHAPE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import UnsupportedError
from tinymbn.importers.tflite.file import Operator

Values = NDArray[Any]

# Shapes have a handful of entries; a constant as large as this is data.
_MAX_ELEMENTS = 64


def _strided_slice(op: Operator, x: Values, begin: Values, end: Values, strides: Values) -> Values:
    if op.options.get("EllipsisMask") or op.options.get("NewAxisMask"):
        raise UnsupportedError("STRIDED_SLICE with an ellipsis or a new axis")
    index: list[slice | int] = []
    for axis, (b, e, s) in enumerate(zip(begin.ravel(), end.ravel(), strides.ravel(), strict=True)):
        bit = 1 << axis
        if op.options.get("ShrinkAxisMask", 0) & bit:
            index.append(int(b))
        else:
            first = None if op.options.get("BeginMask", 0) & bit else int(b)
            last = None if op.options.get("EndMask", 0) & bit else int(e)
            index.append(slice(first, last, int(s)))
    return np.asarray(x[tuple(index)])


def _gather(op: Operator, x: Values, indices: Values) -> Values:
    return np.asarray(np.take(x, indices, axis=op.options.get("Axis", 0)))


def _pack(op: Operator, *parts: Values) -> Values:
    return np.stack(parts, axis=op.options.get("Axis", 0))


def _concatenation(op: Operator, *parts: Values) -> Values:
    return np.concatenate(parts, axis=op.options.get("Axis", 0))


_FOLDED: Mapping[str, Callable[..., Values]] = {
    "STRIDED_SLICE": _strided_slice,
    "GATHER": _gather,
    "PACK": _pack,
    "CONCATENATION": _concatenation,
    "CAST": lambda op, x: x,
    "RESHAPE": lambda op, x, *shape: x.reshape(shape[0].ravel() if shape else op.options.get("NewShape", ())),
    "SQUEEZE": lambda op, x: x.reshape([size for size in x.shape if size != 1]),
    "EXPAND_DIMS": lambda op, x, axis: np.expand_dims(x, int(axis.ravel()[0])),
    "REDUCE_PROD": lambda op, x, axis: np.prod(x, axis=tuple(axis.ravel()), keepdims=op.options.get("KeepDims", False)),
    "ADD": lambda op, a, b: a + b,
    "SUB": lambda op, a, b: a - b,
    "MUL": lambda op, a, b: a * b,
    "MAXIMUM": lambda op, a, b: np.maximum(a, b),
    "MINIMUM": lambda op, a, b: np.minimum(a, b),
}
"""Operators on int32 and int64 constants, by their values."""

SHAPE_OPERATORS = frozenset({"SHAPE", *_FOLDED})


def fold(op: Operator, inputs: Sequence[Values | None]) -> Values | None:
    """The operator's output where all its inputs are known small integers; None where they are not.

    Raises:
        UnsupportedError: it is folded in part only.
        ValueError, IndexError, TypeError: the values do not fit each other.
    """
    if op.code not in _FOLDED:
        return None
    known: list[Values] = []
    for values in inputs:
        if values is None or values.dtype.kind != "i" or values.itemsize < 4 or values.size > _MAX_ELEMENTS:
            return None
        known.append(values.astype(np.int64))
    return np.asarray(_FOLDED[op.code](op, *known), np.int64)
