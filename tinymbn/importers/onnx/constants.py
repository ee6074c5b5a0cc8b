"""What an ``.onnx`` computes from constants alone: done at import, so that it disappears from the graph.

PyTorch writes a Flatten as Shape -> Gather -> Unsqueeze -> Concat -> Reshape, and tools leave weights to be transposed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.onnx.file import Node

Values = NDArray[Any]

# What computes on shapes has a handful of entries; what moves weights makes no more of them.
_MAX_ELEMENTS = 64
# onnx.TensorProto.DataType: FLOAT, INT32, INT64, BOOL, FLOAT16, DOUBLE.
_CASTS: Mapping[int, type[np.generic]] = {
    1: np.float32,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
}
FLOATS = (1, 10, 11)
"""Those of them that are real numbers."""


def axes_of(node: Node, values: Values | None, rank: int) -> tuple[int, ...] | None:
    """Axes by attribute or input, counted from the front; None where neither says them."""
    axes = node.attributes.get("axes") if values is None else tuple(int(axis) for axis in values.ravel())
    if axes is None:
        return None
    if not all(-rank <= axis < rank for axis in axes) or len({axis % rank for axis in axes}) != len(axes):
        raise ModelError(f"axes {axes} of a tensor of rank {rank}")
    return tuple(sorted(axis % rank for axis in axes))


def reshaped(node: Node, x: Values, wanted: Values) -> Values:
    """Reshape: 0 keeps a size, -1 is what is left."""
    sizes = [int(size) for size in wanted.ravel()]
    if not node.attributes.get("allowzero"):
        if any(size == 0 and axis >= x.ndim for axis, size in enumerate(sizes)):
            raise ModelError(f"shape {tuple(sizes)} keeps a size that input {x.shape} does not have")
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def flattened(node: Node, x: Values) -> Values:
    """Flatten: two axes."""
    axis = node.attributes.get("axis", 1)
    if not -x.ndim <= axis <= x.ndim:
        raise ModelError(f"axis {axis} of a tensor of rank {x.ndim}")
    return x.reshape(math.prod(x.shape[: axis if axis >= 0 else axis + x.ndim]), -1)


def squeezed(node: Node, x: Values, axes: Values | None = None) -> Values:
    """Squeeze: all axes of size 1 unless some are named."""
    return np.squeeze(x, axes_of(node, axes, x.ndim))


def unsqueezed(node: Node, x: Values, axes: Values | None = None) -> Values:
    """Unsqueeze."""
    count = len(node.attributes.get("axes", ())) if axes is None else axes.size
    new = axes_of(node, axes, x.ndim + count)
    if new is None:
        raise ModelError("no axes")
    return np.expand_dims(x, new)


def transposed(node: Node, x: Values) -> Values:
    """Transpose: the order of axes reversed unless it is said."""
    return x.transpose(node.attributes.get("perm"))


MOVEMENTS: Mapping[str, Callable[..., Values]] = {
    "Flatten": flattened,
    "Identity": lambda node, x: x,
    "Reshape": reshaped,
    "Squeeze": squeezed,
    "Transpose": transposed,
    "Unsqueeze": unsqueezed,
}
"""Operators that compute nothing, by their values; those after the first are small."""


def _cast(node: Node, x: Values) -> Values:
    if node.attributes.get("to") not in _CASTS:
        raise UnsupportedError(f"to type {node.attributes.get('to')}")
    return x.astype(_CASTS[node.attributes["to"]])


def _slice(node: Node, x: Values, *rest: Values | None) -> Values:
    first, last, axes, steps = (
        (node.attributes.get(name) if values is None else values.ravel().tolist())
        for name, values in zip(("starts", "ends", "axes", "steps"), (*rest, *(None,) * (4 - len(rest))), strict=True)
    )
    if first is None or last is None:
        raise ModelError("neither start nor end")
    index = [slice(None)] * x.ndim
    steps = steps or [1] * len(first)
    for axis, start, end, step in zip(axes or range(len(first)), first, last, steps, strict=True):
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


def _filled(node: Node, shape: Values) -> Values:
    sizes = tuple(int(size) for size in shape.ravel())
    if min(sizes, default=1) < 0 or math.prod(sizes) > _MAX_ELEMENTS:
        raise UnsupportedError(f"shape {sizes}")
    return np.full(sizes, node.attributes.get("value", np.zeros(1, np.float32)).ravel()[0])


def _chosen(node: Node, condition: Values, a: Values, b: Values) -> Values:
    return np.where(condition, a, b)


def _quotient(node: Node, a: Values, b: Values) -> Values:
    return a / b if a.dtype.kind == "f" else np.asarray(np.trunc(a / b), a.dtype)


_FOLDED: Mapping[str, Callable[..., Values]] = {
    "Add": lambda node, a, b: a + b,
    "Cast": _cast,
    "Concat": lambda node, *parts: np.concatenate(parts, axis=node.attributes["axis"]),
    "ConstantOfShape": _filled,
    "Div": _quotient,
    "Equal": lambda node, a, b: a == b,
    "Gather": lambda node, x, indices: np.take(x, indices, axis=node.attributes.get("axis", 0)),
    "Mul": lambda node, a, b: a * b,
    "ReduceProd": lambda node, x: np.prod(x, keepdims=bool(node.attributes.get("keepdims", 1))),
    "Slice": _slice,
    "Sub": lambda node, a, b: a - b,
    "Where": _chosen,
}
"""Operators on small constants, by their values."""

CONSTANT_OPERATORS = frozenset({"Constant", "Shape", *MOVEMENTS, *_FOLDED})

_SINGLE = ("value", "value_float", "value_int", "value_floats", "value_ints")


def constant(node: Node) -> Values:
    """What a Constant node says."""
    for name in _SINGLE:
        if name in node.attributes:
            kind = np.float32 if "float" in name else np.int64
            return node.attributes[name] if name == "value" else np.asarray(node.attributes[name], kind)
    raise UnsupportedError("a constant that is no number")


def fold(node: Node, inputs: Sequence[Values | None]) -> Values | None:
    """The node's output for constant inputs (None: one left out); None where it is not folded.

    Raises:
        UnsupportedError: it is folded in part only.
        ValueError, IndexError, TypeError, KeyError: the values do not fit each other.
    """
    if node.op in MOVEMENTS:
        return np.asarray(MOVEMENTS[node.op](node, *inputs))
    if node.op == "Cast" and inputs[0] is not None:
        return _cast(node, inputs[0])
    if node.op not in _FOLDED or any(values is not None and values.size > _MAX_ELEMENTS for values in inputs):
        return None
    return np.asarray(_FOLDED[node.op](node, *inputs))
