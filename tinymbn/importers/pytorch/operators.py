"""ATen's operators as layers.

Source: pytorch/pytorch, aten/src/ATen/native/native_functions.yaml, has them with their arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.channels_first import layers
from tinymbn.importers.channels_first.lowering import Value
from tinymbn.importers.pytorch.archive import Node, Reference
from tinymbn.importers.pytorch.lowering import Parameter, ProgramLowering
from tinymbn.importers.scaling import Arithmetic
from tinymbn.layers import Padding, Window


def lower(low: ProgramLowering, node: Node) -> None:
    """Lower a node.

    Raises:
        UnsupportedError: tinymbn does not compute it; the text says why, and is empty where it is not known at all.
    """
    name = _name(node)
    take = _OPERATORS.get(name) or _VIEWS.get(name)
    if take is None:
        raise UnsupportedError("")
    changes = node.operator.split(".")[1].endswith("_")  # as relu_ does
    source = _input(node) if changes or name in _VIEWS else None
    low.keep(node, take(low, node), source, changes=changes, may_copy=name in _MAY_COPY)


def trains(node: Node) -> bool:
    """Whether a batch-norm takes its statistics of the batch, or a dropout drops."""
    return True in (node.get("training"), node.get("train")) or _name(node) == "_native_batch_norm_legit_functional"


def _name(node: Node) -> str:
    """An operator's name without overload, and without the underscore of one that changes its input."""
    space, _, rest = node.operator.partition(".")
    return rest.partition(".")[0].rstrip("_") if space == "aten" else node.operator


def _input(node: Node) -> Any:
    return node.get("self", node.get("input"))


# ---------------------------------------------------------------------------------- windows


def _convolution(low: ProgramLowering, node: Node) -> Value:
    if node.get("transposed"):
        raise UnsupportedError("transposed")
    weights, bias = low.parameter(node.get("weight")), low.weights(node.get("bias"))
    kernel, padding = layers.kernel_of(weights.values), node.get("padding", 0)
    window = Window(kernel, _pair(node.get("stride", 1)), _pair(node.get("dilation", 1)))
    if padding == "same":  # of stride 1; the odd row or column after
        (top, bottom), (left, right) = (((size - 1) // 2, size // 2) for size in window.extent)
        around = Padding(top, bottom, left, right)
    else:
        around = _around(0 if padding == "valid" else padding)
    window = replace(window, padding=around)
    x, groups = low.value(node.get("input")), node.get("groups", 1)
    return layers.convolution(low, low.named(node, weights), x, weights.values, bias, groups, window)


def _average_pool(low: ProgramLowering, node: Node) -> Value:
    if node.get("divisor_override") is not None:
        raise UnsupportedError("a divisor of its own")
    counts, rounds_up = bool(node.get("count_include_pad", True)), bool(node.get("ceil_mode", False))
    x = low.value(_input(node))
    return layers.average_pool(low, node, x, _pool_window(node), counts_padding=counts, rounds_up=rounds_up)


def _max_pool(low: ProgramLowering, node: Node) -> Value:
    rounds_up = bool(node.get("ceil_mode", False))
    return layers.max_pool(low, node, low.value(_input(node)), _pool_window(node), rounds_up=rounds_up)


def _pool_window(node: Node) -> Window:
    kernel = _pair(node.get("kernel_size"))
    stride, dilation = _pair(node.get("stride") or kernel), _pair(node.get("dilation", 1))
    return Window(kernel, stride, dilation, _around(node.get("padding", 0)))


def _pad(low: ProgramLowering, node: Node) -> Value:
    """Zeros around a tensor, which the window that follows takes in."""
    x, amounts = low.value(_input(node)), node.get("pad")
    if node.get("mode", "constant") != "constant" or float(node.get("value") or 0) != 0:
        raise UnsupportedError("padding with other values than 0")
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))  # of the last axis first
    if min(amounts) < 0 or len(pairs) > len(x.shape):
        raise UnsupportedError(f"padding {amounts}; expected rows and columns to be added")
    return low.padded(x, [(0, 0)] * (len(x.shape) - len(pairs)) + pairs[::-1])


# ---------------------------------------------------------------------------------- means


def _mean(low: ProgramLowering, node: Node) -> Value:
    x, dims = low.value(_input(node)), node.get("dim")
    if not dims:
        raise UnsupportedError("over all axes, the batch included")
    axes = {dim % len(x.shape) for dim in dims}
    return layers.mean(low, node, x, axes, keep=bool(node.get("keepdim", False)))


def _adaptive_average_pool(low: ProgramLowering, node: Node) -> Value:
    """To one element, or in windows that are all as large."""
    x, (rows, columns) = low.value(_input(node)), _pair(node.get("output_size"))
    x.require_map()
    x.require_no_padding()
    if (rows, columns) == (1, 1):
        return layers.mean(low, node, x, (2, 3), keep=True)
    height, width = x.shape[2:]
    if min(rows, columns) < 1 or height % rows or width % columns:
        raise UnsupportedError(f"from {height}x{width} to {rows}x{columns}, in windows of different sizes")
    kernel = (height // rows, width // columns)
    return layers.average_pool(low, node, x, Window(kernel, kernel), counts_padding=False, rounds_up=False)


# ---------------------------------------------------------------------------------- channels and elements


def _batch_norm(low: ProgramLowering, node: Node) -> Value:
    if node.get("running_mean") is None or node.get("running_var") is None:
        raise UnsupportedError("it has no running statistics")
    mean = low.parameter(node.get("running_mean"))
    gamma, beta = (low.weights(node.get(name)) for name in ("weight", "bias"))
    parameters = (
        np.ones_like(mean.values) if gamma is None else gamma,
        np.zeros_like(mean.values) if beta is None else beta,
        mean.values,
        low.parameter(node.get("running_var")).values,
    )
    x, epsilon = low.value(node.get("input")), float(node.get("eps"))
    return layers.batch_norm(low, low.named(node, mean), x, parameters, epsilon)


def _linear(low: ProgramLowering, node: Node) -> Value:
    return _dense(low, node, node.get("input"), node.get("weight"), node.get("bias"), turned=False)


def _addmm(low: ProgramLowering, node: Node) -> Value:
    if (node.get("beta", 1), node.get("alpha", 1)) != (1, 1):
        raise UnsupportedError("beta or alpha is not 1")
    return _dense(low, node, node.get("mat1"), node.get("mat2"), node.get("self"), turned=True)


def _matmul(low: ProgramLowering, node: Node) -> Value:
    return _dense(low, node, node.get("self"), node.get("mat2", node.get("other")), None, turned=True)


def _dense(low: ProgramLowering, node: Node, read: Any, weights: Any, bias: Any, *, turned: bool) -> Value:
    """Weights (C_out, C_in), turned or not."""
    x, parameter, offsets = low.value(read), low.parameter(weights), low.weights(bias)
    values = parameter.values.T if turned else parameter.values
    return layers.dense(low, low.named(node, parameter), x, values, offsets)


def _clamp(least: float | None, most: float | None, low: ProgramLowering, node: Node) -> Value:
    """Between limits that the node may have."""
    least = node.get("min", node.get("min_val", least))
    most = node.get("max", node.get("max_val", most))
    if isinstance(least, Reference) or isinstance(most, Reference):
        raise UnsupportedError("its limits are computed")
    limits = -math.inf if least is None else float(least), math.inf if most is None else float(most)
    return layers.clamp(low, node, low.value(_input(node)), *limits)


def _arithmetic(operation: Arithmetic, low: ProgramLowering, node: Node) -> Value:
    """Two tensors, or one and what is constant."""
    if node.get("alpha", 1) != 1:
        raise UnsupportedError(f"alpha {node.get('alpha')}; expected 1")
    if node.get("rounding_mode") is not None:
        raise UnsupportedError("a division that rounds")
    a, b = low.operand(node.get("self")), low.operand(node.get("other"))
    if _name(node) == "rsub":
        a, b = b, a
    return layers.arithmetic(low, node, operation, a, b)


def _sigmoid(low: ProgramLowering, node: Node) -> Value:
    return layers.sigmoid(low, node, low.value(_input(node)))


def _softmax(low: ProgramLowering, node: Node) -> Value:
    x = low.value(_input(node))
    return layers.softmax(low, node, x, node.get("dim") % len(x.shape))


# ---------------------------------------------------------------------------------- shapes, and nothing


def _reshape(low: ProgramLowering, node: Node) -> Value | Parameter:
    """view, flatten, squeeze and the like: the shape that the program says their output has."""
    x, shape = low.tensor(_input(node)), low.program.shape(node.output)
    if math.prod(shape) != math.prod(x.shape):
        raise UnsupportedError(f"from {x.shape} to {shape}; expected as many elements")
    return low.moved(node, x, lambda elements: elements.reshape(shape))


def _permute(low: ProgramLowering, node: Node) -> Value | Parameter:
    return _turn(low, node, list(node.get("dims")))


def _transpose(low: ProgramLowering, node: Node) -> Value | Parameter:
    """transpose, and t, which is of two axes."""
    axes = list(range(len(low.program.shape(node.output))))
    a, b = node.get("dim0", 0), node.get("dim1", -1)
    axes[a], axes[b] = axes[b], axes[a]
    return _turn(low, node, axes)


def _turn(low: ProgramLowering, node: Node, axes: list[int]) -> Value | Parameter:
    x = low.tensor(_input(node))
    if sorted(axis % len(axes) for axis in axes) != list(range(len(x.shape))):
        raise ModelError(f'node "{node.name}": axes {axes}')
    return low.moved(node, x, lambda elements: elements.transpose(axes))


def _nothing(low: ProgramLowering, node: Node) -> Value | Parameter:
    """Dropout and the like; a change of type too, where it stays float32."""
    return low.tensor(_input(node))


def _as_strided(low: ProgramLowering, node: Node) -> Value:
    """How a global average of what lies channels last in memory says that it does: nothing for a single axis."""
    x = low.value(_input(node))
    long = [axis for axis, size in enumerate(x.shape) if size > 1]
    strides = [node.get("stride")[axis] for axis in long]
    if tuple(node.get("size")) != x.shape or strides not in ([], [1]) or node.get("storage_offset"):
        raise UnsupportedError(f"{node.get('size')} of {x.shape}")
    return x


def _pair(value: Any) -> tuple[int, int]:
    """Vertical and horizontal, where one number may stand for both."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    vertical, horizontal = values * 2 if len(values) == 1 else values
    return vertical, horizontal


def _around(value: Any) -> Padding:
    rows, columns = _pair(value)
    return Padding(rows, rows, columns, columns)


_Operator = Callable[[ProgramLowering, Node], Value | Parameter]

_OPERATORS: Mapping[str, _Operator] = {
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
    "relu": partial(_clamp, 0, None),
    "relu6": partial(_clamp, 0, 6),
    "hardtanh": partial(_clamp, -1, 1),
    "clamp": partial(_clamp, None, None),
    "clamp_min": partial(_clamp, None, None),
    "add": partial(_arithmetic, "add"),
    "sub": partial(_arithmetic, "sub"),
    "rsub": partial(_arithmetic, "sub"),
    "mul": partial(_arithmetic, "mul"),
    "div": partial(_arithmetic, "div"),
    "sigmoid": _sigmoid,
    "softmax": _softmax,
    "_softmax": _softmax,
    "_to_copy": _nothing,
    "clone": _nothing,
    "lift_fresh_copy": _nothing,
}
"""Operators that make something of their own."""

_VIEWS: Mapping[str, _Operator] = {
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
}
"""Operators whose output lies where their input lies, or may."""

# It hangs on how the input lies in memory, and on arguments, whether these copy it.
_MAY_COPY = frozenset({"contiguous", "flatten", "reshape", "to"})
