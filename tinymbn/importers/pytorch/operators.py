"""ATen's operators as layers.

Source: pytorch/pytorch, aten/src/ATen/native/native_functions.yaml, has them with their arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.pytorch.archive import Node, Reference
from tinymbn.importers.pytorch.layout import Value
from tinymbn.importers.pytorch.lowering import Lowering
from tinymbn.importers.weights import channels_last, depthwise
from tinymbn.layers import AveragePool, MaxPool, Padding, Window
from tinymbn.quantize import (
    AnyFloatLayer,
    BatchNorm,
    FloatAdd,
    FloatConv2D,
    FloatDense,
    FloatDepthwise,
    FloatLogistic,
    FloatMean,
    FloatSoftmax,
    Relu,
)


def lower(lowering: Lowering, node: Node) -> Value | None:
    """What a node makes; None where that is a parameter, which a layer takes in.

    Raises:
        UnsupportedError: tinymbn does not compute it; the text says why, and is empty where it is not known at all.
    """
    take = _OPERATORS.get(_name(node))
    if take is None:
        raise UnsupportedError("")
    return take(lowering, node)


def changed_by(node: Node) -> Reference | None:
    """The tensor that a node changes in its place, as relu_ does; None for most."""
    changes = node.operator.startswith("aten.") and node.operator.split(".")[1].endswith("_")
    return _source(node) if changes else None


def trains(node: Node) -> bool:
    """Whether a batch-norm takes its statistics of the batch, or a dropout drops."""
    return True in (node.get("training"), node.get("train")) or _name(node) == "_native_batch_norm_legit_functional"


def _name(node: Node) -> str:
    """An operator's name without overload, and without the underscore of one that changes its input."""
    space, _, rest = node.operator.partition(".")
    return rest.partition(".")[0].rstrip("_") if space == "aten" else node.operator


def _source(node: Node) -> Any:
    return node.get("self", node.get("input"))


# ---------------------------------------------------------------------------------- windows


def _convolution(lowering: Lowering, node: Node) -> Value:
    if node.get("transposed"):
        raise UnsupportedError("transposed")
    x, groups, weights = lowering.map(node.get("input")), node.get("groups", 1), lowering.weights(node.get("weight"))
    if weights.ndim != 4:
        raise UnsupportedError(f"weights of shape {weights.shape}; expected four axes")
    channels = x.shape[1]
    if groups not in (1, channels):
        raise UnsupportedError(f"{str(groups)[:40]} groups; expected 1, or as many as channels")
    if weights.shape[1] * groups != channels:
        raise ModelError(f'layer "{node.name}": weights {weights.shape} do not fit {channels} channels')
    kernel, dilation = (weights.shape[2], weights.shape[3]), _pair(node.get("dilation", 1))
    window = Window(kernel, _pair(node.get("stride", 1)), dilation)
    padding = node.get("padding", 0)
    if padding == "same":  # of stride 1; the odd row or column after
        rows, columns = (((size - 1) // 2, size // 2) for size in window.extent)
    else:
        rows, columns = ((size, size) for size in _pair(0 if padding == "valid" else padding))
    window = _padded(window, _plus(x.around, rows, columns))
    bias = lowering.by_channel(node.get("bias"), len(weights), 0)
    name, read = lowering.module(node, node.get("weight")), (x.tensor,)
    layer: AnyFloatLayer
    if groups == 1:
        layer = FloatConv2D(name, read, node.output, channels_last(weights), bias, window)
    else:
        layer = FloatDepthwise(name, read, node.output, depthwise(weights), bias, window)
    return lowering.emit(node, layer, x.order)


def _average_pool(lowering: Lowering, node: Node) -> Value:
    x, counts = lowering.map(_source(node)), bool(node.get("count_include_pad", True))
    if node.get("divisor_override") is not None:
        raise UnsupportedError("a divisor of its own")
    window = _pool_window(lowering, node, x)
    if x.around == Padding() and not (counts and any(_pair(node.get("padding", 0)))):
        return lowering.emit(node, AveragePool(node.name, (x.tensor,), node.output, window), x.order)
    # Zeros count here, as they do in a convolution; in TensorFlow's pools they do not.
    if node.get("ceil_mode", False) or not counts:
        raise UnsupportedError("zeros of which some count and others do not")
    rows, columns = (window.padding.top, window.padding.bottom), (window.padding.left, window.padding.right)
    window = _padded(window, _plus(x.around, rows, columns))
    weights = np.full((*window.kernel, x.shape[1]), 1 / math.prod(window.kernel), np.float32)
    bias = np.zeros(x.shape[1], np.float32)
    return lowering.emit(node, FloatDepthwise(node.name, (x.tensor,), node.output, weights, bias, window), x.order)


def _max_pool(lowering: Lowering, node: Node) -> Value:
    x = _map_without_zeros(lowering, node)
    window = _pool_window(lowering, node, x)
    return lowering.emit(node, MaxPool(node.name, (x.tensor,), node.output, window), x.order)


def _pool_window(lowering: Lowering, node: Node, x: Value) -> Window:
    """With ceil_mode, padding goes on for as many rows and columns as the last window takes."""
    kernel, padding = _pair(node.get("kernel_size")), _pair(node.get("padding", 0))
    stride = _pair(node.get("stride") or kernel)
    if _pair(node.get("dilation", 1)) != (1, 1):
        raise UnsupportedError("dilation; expected none")
    after = padding
    if node.get("ceil_mode", False):
        outputs = lowering.program.shape(node.output)[2:]
        rows, columns = (
            max(0, (count - 1) * step + size - length - before)
            for count, step, size, length, before in zip(outputs, stride, kernel, x.shape[2:], padding, strict=True)
        )
        after = (rows, columns)
    return _padded(Window(kernel, stride), Padding(padding[0], after[0], padding[1], after[1]))


def _pad(lowering: Lowering, node: Node) -> Value:
    """Zeros around a map, which the window that follows takes in."""
    x, amounts = lowering.map(_source(node)), [*node.get("pad"), 0, 0, 0, 0]
    if node.get("mode", "constant") != "constant" or float(node.get("value") or 0) != 0:
        raise UnsupportedError("padding with other values than 0")
    if min(amounts) < 0 or any(amounts[4:]):
        raise UnsupportedError(f"padding {node.get('pad')}; expected rows and columns to be added")
    left, right, top, bottom = amounts[:4]
    shape = (*x.shape[:2], x.shape[2] + top + bottom, x.shape[3] + left + right)
    return replace(x, shape=shape, memory=node.output, around=_plus(x.around, (top, bottom), (left, right)))


# ---------------------------------------------------------------------------------- means


def _mean(lowering: Lowering, node: Node) -> Value:
    dims = node.get("dim")
    if not dims:
        raise UnsupportedError("over all axes, the batch included")
    return _mean_over(lowering, node, lowering.read(_source(node)), dims, keep=bool(node.get("keepdim", False)))


def _mean_over(lowering: Lowering, node: Node, x: Value, dims: Sequence[int], *, keep: bool) -> Value:
    gone = {dim % len(x.shape) for dim in dims}
    if not gone <= set(x.order) or x.columns is not None:
        raise UnsupportedError(f"over axes {dims} of {x.shape}; expected those after the batch")
    axes, order = tuple(sorted(x.order.index(axis) for axis in gone)), x.order
    if not keep:
        order = tuple(axis - sum(each < axis for each in gone) for axis in order if axis not in gone)
    return lowering.emit(node, FloatMean(node.name, (x.tensor,), node.output, axes, keep), order)


def _adaptive_average_pool(lowering: Lowering, node: Node) -> Value:
    """To one element, or in windows that are all as large."""
    x, (rows, columns) = _map_without_zeros(lowering, node), _pair(node.get("output_size"))
    if (rows, columns) == (1, 1):
        return _mean_over(lowering, node, x, (2, 3), keep=True)
    height, width = x.shape[2:]
    if min(rows, columns) < 1 or height % rows or width % columns:
        raise UnsupportedError(f"from {height}x{width} to {rows}x{columns}, in windows of different sizes")
    kernel = (height // rows, width // columns)
    return lowering.emit(node, AveragePool(node.name, (x.tensor,), node.output, Window(kernel, kernel)), x.order)


# ---------------------------------------------------------------------------------- channels and elements


def _batch_norm(lowering: Lowering, node: Node) -> Value:
    x = lowering.read(node.get("input"))
    if x.order[-1] != 1:
        raise UnsupportedError(f"it reads {x.shape}; expected (1, C) or (1, C, H, W)")
    if node.get("running_mean") is None or node.get("running_var") is None:
        raise UnsupportedError("it has no running statistics")
    places = slice(None) if x.columns is None else x.columns
    gamma, beta, mean, variance = (
        lowering.by_channel(node.get(name), x.shape[1], default)[places]
        for name, default in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1))
    )
    name, epsilon = lowering.module(node, node.get("running_mean")), float(node.get("eps"))
    layer = BatchNorm(name, (x.tensor,), node.output, gamma, beta, mean, variance, epsilon)
    return lowering.emit(node, layer, x.order, x.columns)


def _linear(lowering: Lowering, node: Node) -> Value:
    return _dense(lowering, node, node.get("input"), node.get("weight"), node.get("bias"), turned=False)


def _addmm(lowering: Lowering, node: Node) -> Value:
    if (node.get("beta", 1), node.get("alpha", 1)) != (1, 1):
        raise UnsupportedError("beta or alpha is not 1")
    return _dense(lowering, node, node.get("mat1"), node.get("mat2"), node.get("self"), turned=True)


def _matmul(lowering: Lowering, node: Node) -> Value:
    return _dense(lowering, node, node.get("self"), node.get("mat2", node.get("other")), None, turned=True)


def _dense(lowering: Lowering, node: Node, read: Any, weights: Any, bias: Any, *, turned: bool) -> Value:
    """Weights (C_out, C_in), turned or not."""
    x, values = lowering.read(read), lowering.weights(weights)
    values = values.T if turned else values
    if values.ndim != 2:
        raise UnsupportedError(f"weights of shape {values.shape}; expected two axes")
    if x.order[-1] != len(x.shape) - 1:
        raise UnsupportedError(f"it reads {x.shape} with axes that were moved; expected the last as the last")
    if x.columns is not None:
        if x.columns.size != values.shape[1]:
            raise UnsupportedError(f"weights {values.shape} on {x.shape}, which was a map")
        values = values[:, x.columns]
    values = np.ascontiguousarray(values)
    offsets = lowering.by_channel(bias, len(values), 0)
    layer = FloatDense(lowering.module(node, weights), (x.tensor,), node.output, values, offsets)
    return lowering.emit(node, layer, x.order)


def _relu(lowering: Lowering, node: Node) -> Value:
    return _clamp_to(lowering, node, 0, None)


def _relu6(lowering: Lowering, node: Node) -> Value:
    return _clamp_to(lowering, node, 0, 6)


def _hardtanh(lowering: Lowering, node: Node) -> Value:
    return _clamp_to(lowering, node, node.get("min_val", -1), node.get("max_val", 1))


def _clamp(lowering: Lowering, node: Node) -> Value:
    return _clamp_to(lowering, node, node.get("min"), node.get("max"))


def _clamp_to(lowering: Lowering, node: Node, low: Any, high: Any) -> Value:
    if isinstance(low, Reference) or isinstance(high, Reference):
        raise UnsupportedError("its limits are computed")
    limits = tuple(None if limit is None or math.isinf(float(limit)) else float(limit) for limit in (low, high))
    if limits not in ((0, None), (0, 6)):
        raise UnsupportedError(f"it clamps to {low}..{high}; expected 0..6, or 0 and up")
    x = lowering.read(_source(node))
    layer = Relu(node.name, (x.tensor,), node.output, "relu6" if limits[1] == 6 else "relu")
    return lowering.emit(node, layer, x.order, x.columns)


def _add(lowering: Lowering, node: Node) -> Value:
    a, b = lowering.read(node.get("self")), lowering.read(node.get("other"))
    if node.get("alpha", 1) != 1:
        raise UnsupportedError(f"alpha {node.get('alpha')}; expected 1")
    alike = np.array_equal([] if a.columns is None else a.columns, [] if b.columns is None else b.columns)
    if a.order != b.order or not alike:
        raise UnsupportedError(f"its inputs {a.shape} and {b.shape} have their axes in different orders")
    return lowering.emit(node, FloatAdd(node.name, (a.tensor, b.tensor), node.output), a.order, a.columns)


def _sigmoid(lowering: Lowering, node: Node) -> Value:
    x = lowering.read(_source(node))
    return lowering.emit(node, FloatLogistic(node.name, (x.tensor,), node.output), x.order, x.columns)


def _softmax(lowering: Lowering, node: Node) -> Value:
    x = lowering.read(_source(node))
    axis = node.get("dim") % len(x.shape)
    if x.order[-1] != axis:
        raise UnsupportedError(f"over axis {axis} of {x.shape}; expected channels")
    return lowering.emit(node, FloatSoftmax(node.name, (x.tensor,), node.output), x.order, x.columns)


# ---------------------------------------------------------------------------------- shapes, and nothing


def _reshape(lowering: Lowering, node: Node) -> Value:
    """view, flatten, squeeze and the like: the shape that the program says their output has."""
    return lowering.reshape(node, lowering.read(_source(node)))


def _permute(lowering: Lowering, node: Node) -> Value | None:
    rank = len(lowering.program.shape(node.output))
    return _turn(lowering, node, [dim % rank for dim in node.get("dims")])


def _transpose(lowering: Lowering, node: Node) -> Value | None:
    """transpose, and t, which is of two axes."""
    axes = list(range(len(lowering.program.shape(node.output))))
    a, b = node.get("dim0", 0), node.get("dim1", -1)
    axes[a], axes[b] = axes[b], axes[a]
    return _turn(lowering, node, axes)


def _turn(lowering: Lowering, node: Node, axes: list[int]) -> Value | None:
    if sorted(axes) != list(range(len(axes))):
        raise ModelError(f'node "{node.name}": axes {axes}')
    if lowering.is_constant(_source(node)):
        lowering.turn(node, _source(node), tuple(axes))
        return None
    return lowering.read(_source(node)).permuted(axes)


def _nothing(lowering: Lowering, node: Node) -> Value | None:
    """Dropout and the like; a change of type too, where it stays float32."""
    if lowering.is_constant(_source(node)):
        lowering.turn(node, _source(node), tuple(range(len(lowering.program.shape(node.output)))))
        return None
    if not lowering.program.is_float(node.output):
        raise UnsupportedError("to another type than float32")
    return lowering.value(_source(node))


def _copy(lowering: Lowering, node: Node) -> Value | None:
    """What changes the one does not change the other."""
    value = _nothing(lowering, node)
    return value and replace(value, memory=node.output)


def _as_strided(lowering: Lowering, node: Node) -> Value:
    """How a global average of what lies channels last in memory says that it does: nothing for a single axis."""
    x = lowering.value(_source(node))
    long = [axis for axis, size in enumerate(x.shape) if size > 1]
    strides = [node.get("stride")[axis] for axis in long]
    if tuple(node.get("size")) != x.shape or strides not in ([], [1]) or node.get("storage_offset"):
        raise UnsupportedError(f"{node.get('size')} of {x.shape}")
    return x


def _map_without_zeros(lowering: Lowering, node: Node) -> Value:
    lowering.map(_source(node))
    return lowering.read(_source(node))


def _pair(value: Any) -> tuple[int, int]:
    """Vertical and horizontal, where one number may stand for both."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    vertical, horizontal = values * 2 if len(values) == 1 else values
    return vertical, horizontal


def _plus(around: Padding, rows: tuple[int, int], columns: tuple[int, int]) -> Padding:
    return Padding(around.top + rows[0], around.bottom + rows[1], around.left + columns[0], around.right + columns[1])


def _padded(window: Window, around: Padding) -> Window:
    """The window with padding, in which it may not lie whole."""
    if max(around.top, around.bottom) >= window.extent[0] or max(around.left, around.right) >= window.extent[1]:
        raise UnsupportedError(f"a window of {window.extent} fits into its {around}")
    return replace(window, padding=around)


_OPERATORS: Mapping[str, Callable[[Lowering, Node], Value | None]] = {
    "conv2d": _convolution,
    "convolution": _convolution,
    "avg_pool2d": _average_pool,
    "max_pool2d": _max_pool,
    "max_pool2d_with_indices": _max_pool,
    "constant_pad_nd": _pad,
    "pad": _pad,
    "mean": _mean,
    "adaptive_avg_pool2d": _adaptive_average_pool,
    "_adaptive_avg_pool2d": _adaptive_average_pool,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "linear": _linear,
    "addmm": _addmm,
    "mm": _matmul,
    "matmul": _matmul,
    "relu": _relu,
    "relu6": _relu6,
    "hardtanh": _hardtanh,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "add": _add,
    "sigmoid": _sigmoid,
    "softmax": _softmax,
    "_softmax": _softmax,
    "flatten": _reshape,
    "view": _reshape,
    "_unsafe_view": _reshape,
    "reshape": _reshape,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
    "permute": _permute,
    "transpose": _transpose,
    "t": _transpose,
    "dropout": _nothing,
    "feature_dropout": _nothing,
    "as_strided": _as_strided,
    "contiguous": _nothing,
    "alias": _nothing,
    "detach": _nothing,
    "to": _nothing,
    "_to_copy": _copy,
    "clone": _copy,
}
