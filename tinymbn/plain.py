"""The plain engine: a graph layer by layer through the kernels that are the specification."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


class Plain:
    """A graph on the plain kernels; as ``host.machine.Machine``, whose specification it is.

    Args:
        graph: what to compute.
        threads: that share the inputs of a batch.
    """

    def __init__(self, graph: Graph, threads: int) -> None:
        self._graph, self._threads = graph, threads
        self._last_reader = {name: i for i, layer in enumerate(graph.layers) for name in layer.inputs}

    def run(self, x: Array) -> tuple[Array, ...]:
        """The outputs of one input, which has been checked."""
        values: dict[str, Array] = dict(self._graph.constants)
        for _ in self._steps(x, values):
            pass
        # Copies, since an output may be the input itself, or a constant.
        return tuple(values[name].copy() for name in self._graph.outputs)

    def run_batch(self, batch: Array) -> list[tuple[Array, ...]]:
        """The outputs of each of several inputs, shared among the threads."""
        if self._threads == 1 or len(batch) == 1:
            return [self.run(x) for x in batch]
        with ThreadPoolExecutor(self._threads) as threads:
            return list(threads.map(self.run, batch))

    def steps(self, x: Array) -> Iterator[Array]:
        """The output of each layer of one input, in running order."""
        return self._steps(x, dict(self._graph.constants))

    def seconds(self, x: Array) -> list[float]:
        """How long each layer takes on one input."""
        times = [time.perf_counter()]
        times += [time.perf_counter() for _ in self.steps(x)]
        return [after - before for before, after in pairwise(times)]

    def _steps(self, x: Array, values: dict[str, Array]) -> Iterator[Array]:
        """Run into ``values``, which keeps a tensor until nothing reads it any more."""
        values[self._graph.input] = np.ascontiguousarray(x)
        keep = {*self._graph.outputs, *self._graph.constants}
        for i, layer in enumerate(self._graph.layers):
            inputs = [values[name] for name in layer.inputs]
            output = values[layer.output] = self._compute(layer, inputs)
            for name in set(layer.inputs) - keep:
                if self._last_reader[name] == i:
                    del values[name]
            yield output

    def _compute(self, layer: AnyLayer, inputs: list[Array]) -> Array:
        """One layer's output; no other place knows both layers and kernels."""
        tensors = self._graph.tensors
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
