"""Runs a float graph in NumPy, layer by layer: what calibration watches and what int8 is compared with."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ImageError
from tinymbn.layers import AveragePool, MaxPool, Reshape, Window
from tinymbn.quantize.float_graph import FloatGraph
from tinymbn.quantize.float_layers import (
    AnyFloatLayer,
    BatchNorm,
    FloatActivation,
    FloatAdd,
    FloatConv2D,
    FloatDense,
    FloatDepthwise,
    FloatLogistic,
    FloatMean,
    FloatSoftmax,
    Relu,
)

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

Array = NDArray[np.float32]


class FloatInterpreter:
    """Runs one float graph; the counterpart of ``tinymbn.Interpreter``."""

    def __init__(self, graph: FloatGraph) -> None:
        self.graph = graph

    def run(self, x: Array) -> Array | tuple[Array, ...]:
        """The outputs for x.

        Args:
            x: real values, (H, W, C) or (N, H, W, C).

        Returns:
            float32 of the output's shape, with a leading N if x has one; a tuple where there are several.

        Raises:
            ImageError: x has another shape.
        """
        found = {self.graph.input: np.asarray(x, np.float32)}
        found.update((layer.output, values) for layer, values in self.steps(x))
        outputs = tuple(found[name] for name in self.graph.outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    def steps(self, x: Array) -> Iterator[tuple[AnyFloatLayer, Array]]:
        """Each layer with its output, in order; x and errors as in ``run``."""
        batch = np.asarray(x, np.float32)
        shape = self.graph.input_shape
        single = batch.shape == shape
        if single:
            batch = batch[None]
        if batch.shape[1:] != shape:
            raise ImageError(f"input of shape {batch.shape}; float model {self.graph.name!r} expects {shape}")
        found = {self.graph.input: batch}
        for layer in self.graph.layers:
            with np.errstate(over="ignore", invalid="ignore"):  # the result shows it
                values = _compute(layer, *(found[name] for name in layer.inputs))
            found[layer.output] = values
            yield layer, values[0] if single else values


def _compute(layer: AnyFloatLayer, *inputs: Array) -> Array:
    """The layer's output, (N, ...), for inputs (N, ...)."""
    x = inputs[0]
    match layer:
        case FloatConv2D():
            taps = _taps(x, layer.window, 0)
            total = _sum(tap @ layer.weights[:, ky, kx].T for ky, kx, tap in taps)
            return _activate(total + layer.bias, layer.activation)
        case FloatDepthwise():
            wide = np.repeat(x, layer.channels // x.shape[3], axis=3)
            total = _sum(tap * layer.weights[ky, kx] for ky, kx, tap in _taps(wide, layer.window, 0))
            return _activate(total + layer.bias, layer.activation)
        case FloatDense():
            return _activate(x @ layer.weights.T + layer.bias, layer.activation)
        case BatchNorm():
            return (x * layer.factor + layer.offset).astype(np.float32)
        case Relu():
            return _activate(x, layer.activation)
        case FloatAdd():
            return _activate(_add(*inputs), layer.activation)
        case FloatMean():
            mean: Array = x.mean(axis=tuple(axis + 1 for axis in layer.axes), keepdims=True)
            return mean.reshape(len(x), *layer.output_shape(x.shape[1:]))
        case FloatSoftmax():
            exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
            return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), np.float32)
        case FloatLogistic():
            return np.asarray(1 / (1 + np.exp(-x)), np.float32)  # of a large -x the reciprocal of infinity
        case AveragePool():
            total = _sum(tap for _, _, tap in _taps(x, layer.window, 0))
            count = _sum(tap for _, _, tap in _taps(np.ones_like(x[:1]), layer.window, 0))
            return total / count
        case MaxPool():
            return functools.reduce(np.maximum, (tap for _, _, tap in _taps(x, layer.window, -np.inf)))
        case Reshape():
            return x.reshape(len(x), *layer.shape)
    assert_never(layer)


def _sum(arrays: Iterator[Array]) -> Array:
    return functools.reduce(np.add, arrays)


def _add(a: Array, b: Array) -> Array:
    """The sum, broadcast as without the batch: axes are matched from the last."""
    rank = max(a.ndim, b.ndim)
    a, b = (x.reshape(len(x), *(1,) * (rank - x.ndim), *x.shape[1:]) for x in (a, b))
    return a + b


def _activate(x: Array, activation: FloatActivation) -> Array:
    if activation == "none":
        return x
    return np.clip(x, np.float32(0), np.float32(6 if activation == "relu6" else np.inf))


def _taps(x: Array, window: Window, fill: float) -> Iterator[tuple[int, int, Array]]:
    """For each (ky, kx) of the kernel, the inputs that it meets, (N, OH, OW, C)."""
    rows, columns = window.output_size(x.shape[1], x.shape[2])
    p, (step_y, step_x) = window.padding, window.stride
    padded = np.pad(x, ((0, 0), (p.top, p.bottom), (p.left, p.right), (0, 0)), constant_values=fill)
    for ky in range(window.kernel[0]):
        for kx in range(window.kernel[1]):
            y, column = ky * window.dilation[0], kx * window.dilation[1]
            last_y, last_x = y + (rows - 1) * step_y, column + (columns - 1) * step_x
            yield ky, kx, padded[:, y : last_y + 1 : step_y, column : last_x + 1 : step_x]
