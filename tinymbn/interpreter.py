"""Runs a Graph layer by layer on the host: the reference that a board is compared with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ImageError
from tinymbn.fixedpoint import DENSE_STEPS
from tinymbn.graph import Graph, Tensor
from tinymbn.kernels.add import add
from tinymbn.kernels.average_pool import average_pool
from tinymbn.kernels.concat import concat
from tinymbn.kernels.conv2d import conv2d
from tinymbn.kernels.dense import dense
from tinymbn.kernels.depthwise import depthwise
from tinymbn.kernels.lookup import lookup
from tinymbn.kernels.max_pool import max_pool
from tinymbn.kernels.mean import mean
from tinymbn.kernels.mul import mul
from tinymbn.kernels.pad import pad
from tinymbn.kernels.quantize import dequantize, from_uint8, quantize, to_uint8
from tinymbn.kernels.requantize import requantize
from tinymbn.kernels.resize_nearest import resize_nearest
from tinymbn.kernels.softmax import softmax
from tinymbn.kernels.transpose import transpose
from tinymbn.layers import (
    Activation,
    Add,
    AnyLayer,
    AveragePool,
    Concat,
    Conv2D,
    Dense,
    Depthwise,
    Dequantize,
    Lookup,
    MaxPool,
    Mean,
    Mul,
    Pad,
    Quantize,
    Requantize,
    Reshape,
    ResizeNearest,
    Softmax,
    Transpose,
    Weights,
    Window,
)

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

Array = NDArray[Any]
Int8 = NDArray[np.int8]

_NO_STEPS = np.zeros((0, DENSE_STEPS), np.int32)
_NO_STEPS.setflags(write=False)  # as the arrays of layers are: another kind of array is another compilation


class Interpreter:
    """Computes a Graph, bit for bit as TensorFlow Lite's reference kernels do.

    Args:
        graph: what to compute.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._last_reader = {name: i for i, layer in enumerate(graph.layers) for name in layer.inputs}

    def run(self, x: Array) -> Any:
        """The outputs for one input or a batch.

        Args:
            x: of the input tensor's type and shape, ``(H, W, C)``, or ``(N, H, W, C)`` for N inputs.

        Returns:
            An array of the output tensor's type and shape, with N in front for a batch; a tuple of them, in
            the file's order, where the model has several outputs.

        Raises:
            ImageError: type or shape are not the input tensor's, or a float is not a number.
        """
        expected = self.graph.input_tensor
        if isinstance(x, np.ndarray) and x.ndim == len(expected.shape) + 1 and len(x) > 0:
            each = [self._outputs(one) for one in x]
            batched = tuple(np.stack(values) for values in zip(*each, strict=True))
        else:
            batched = self._outputs(x)
        return batched if len(batched) > 1 else batched[0]

    def steps(self, x: Array) -> Iterator[tuple[AnyLayer, Array]]:
        """Each layer with its output, in running order.

        Args:
            x: one input, of the input tensor's type and shape, or a batch of one.

        Raises:
            ImageError: as in ``run``, before the first layer.
        """
        if isinstance(x, np.ndarray) and x.shape == (1, *self.graph.input_tensor.shape):
            x = x[0]
        self._check_input(x)
        return self._steps(x, dict(self.graph.constants))

    def _outputs(self, x: Array) -> tuple[Array, ...]:
        self._check_input(x)
        values: dict[str, Array] = dict(self.graph.constants)
        for _ in self._steps(x, values):
            pass
        # Copies, since an output may be the input itself, or a constant.
        return tuple(values[name].copy() for name in self.graph.outputs)

    def _steps(self, x: Array, values: dict[str, Array]) -> Iterator[tuple[AnyLayer, Array]]:
        """Run into ``values``, which keeps a tensor until nothing reads it any more."""
        values[self.graph.input] = np.ascontiguousarray(x)
        keep = {*self.graph.outputs, *self.graph.constants}
        for i, layer in enumerate(self.graph.layers):
            inputs = [values[name] for name in layer.inputs]
            output = values[layer.output] = self._compute(layer, inputs)
            for name in set(layer.inputs) - keep:
                if self._last_reader[name] == i:
                    del values[name]
            yield layer, output

    def _check_input(self, x: Array) -> None:
        expected = self.graph.input_tensor
        if not isinstance(x, np.ndarray) or x.shape != expected.shape or x.dtype != np.dtype(expected.dtype):
            found = f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
            raise ImageError(f"input: {found}; the model takes {expected.dtype} of shape {expected.shape}")
        if x.dtype == np.float32 and not np.isfinite(x).all():
            raise ImageError("input: it has infinite values or values that are not numbers; expected finite ones")

    def _compute(self, layer: AnyLayer, inputs: list[Array]) -> Array:
        """One layer's output; no other place knows both layers and kernels."""
        tensors = self.graph.tensors
        made = tensors[layer.output]
        read = [tensors[name] for name in layer.inputs]
        x = inputs[0]
        if isinstance(layer, Quantize):
            return from_uint8(x) if read[0].dtype == "uint8" else quantize(x, made.scale, made.zero_point)
        if isinstance(layer, Dequantize):
            return to_uint8(x) if made.dtype == "uint8" else dequantize(x, read[0].scale, read[0].zero_point)
        if isinstance(layer, Reshape):
            return x.reshape(layer.shape).copy()  # so that no two outputs are one memory
        out = np.empty(made.shape, np.int8)
        match layer:
            case Conv2D() | Depthwise():
                kernel = conv2d if isinstance(layer, Conv2D) else depthwise
                kernel(
                    x,
                    *_constants(layer.weights),
                    *_geometry(layer.window),
                    read[0].zero_point,
                    layer.weights.zero_point,
                    made.zero_point,
                    _limits(layer.activation),
                    out,
                )
            case Dense():
                dense(
                    x.reshape(-1, x.shape[-1]),
                    *_constants(layer.weights),
                    _NO_STEPS if layer.steps is None else layer.steps,
                    read[0].zero_point,
                    layer.weights.zero_point,
                    made.zero_point,
                    _limits(layer.activation),
                    out.reshape(-1, out.shape[-1]),
                )
            case AveragePool():
                stride, _, padding = _geometry(layer.window)
                offset = 128 if layer.unsigned else 0
                average_pool(x, layer.window.kernel, stride, padding, offset, _limits(layer.activation), out)
            case MaxPool():
                stride, _, padding = _geometry(layer.window)
                max_pool(x, layer.window.kernel, stride, padding, _limits(layer.activation), out)
            case Mean():
                rows = _reduced_last(x, layer.axes)
                mean(rows, layer.multiplier, layer.shift, read[0].zero_point, made.zero_point, out.ravel())
            case Add():
                add(
                    *_broadcast(inputs, made),
                    (layer.a_multiplier, layer.a_shift),
                    (layer.b_multiplier, layer.b_shift),
                    (layer.output_multiplier, layer.output_shift),
                    read[0].zero_point,
                    read[1].zero_point,
                    made.zero_point,
                    _limits(layer.activation),
                    out.ravel(),
                )
            case Mul():
                mul(
                    *_broadcast(inputs, made),
                    layer.multiplier,
                    layer.shift,
                    read[0].zero_point,
                    read[1].zero_point,
                    made.zero_point,
                    _limits(layer.activation),
                    out.ravel(),
                )
            case Requantize():
                requantize(
                    x.ravel(),
                    layer.multiplier,
                    layer.shift,
                    read[0].zero_point,
                    made.zero_point,
                    _limits(layer.activation),
                    out.ravel(),
                )
            case Softmax():
                rows = x.reshape(-1, x.shape[-1])
                softmax(rows, layer.multiplier, layer.shift, layer.diff_min, out.reshape(rows.shape))
            case Lookup():
                lookup(x, layer.table, out)
            case Pad():
                pad(x, tuple(before for before, _ in layer.pads), layer.value, out)
            case Concat():
                concat(inputs, layer.axis, out)
            case Transpose():
                transpose(x, layer.permutation, out)
            case ResizeNearest():
                resize_nearest(x, layer.rows, layer.columns, out)
            case _:
                assert_never(layer)
        return out


def _limits(activation: Activation) -> tuple[int, int]:
    return activation.low, activation.high


def _constants(weights: Weights) -> tuple[Int8, NDArray[np.int32], NDArray[np.int32], Int8]:
    return weights.values, weights.bias, weights.multiplier, weights.shift


def _geometry(window: Window) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Stride, dilation, and the padding before, each (vertical, horizontal)."""
    return window.stride, window.dilation, (window.padding.top, window.padding.left)


def _reduced_last(x: Int8, axes: tuple[int, ...]) -> Int8:
    """``x`` as (kept, reduced)."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    count = int(np.prod([x.shape[axis] for axis in axes]))
    return np.ascontiguousarray(x.transpose(*kept, *axes)).reshape(-1, count)


def _broadcast(inputs: list[Array], made: Tensor) -> tuple[Int8, Int8]:
    """Both operands, as flat as the output; copies, so that a kernel sees one kind of array alone."""
    a, b = (np.array(np.broadcast_to(x, made.shape)).ravel() for x in inputs)
    return a, b
