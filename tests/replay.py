"""Replays a plan byte by byte: the order in which each layer's C reads and writes, and who owns which byte.

Written from the templates, not from ``kernels.overlap_distance``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.graph import Graph
from tinymbn.layers import (
    Add,
    AnyLayer,
    AveragePool,
    Concat,
    Conv2D,
    Dense,
    Depthwise,
    Lookup,
    MaxPool,
    Mean,
    Mul,
    Pad,
    Requantize,
    Reshape,
    ResizeNearest,
    Shape,
    Softmax,
    Transpose,
)
from tinymbn_codegen.memory import Buffer

Times = NDArray[np.int64]

NEVER = -1
ANYWHERE = -(2**40)  # a distance that nothing needs


def order(layer: AnyLayer, shapes: Sequence[Shape], output: Shape) -> tuple[Times, list[Times]]:
    """When each byte of the output is written, and when each byte of each input is read for the last time.

    Time counts in steps; what is read and written in one step is read first.
    """
    count = math.prod(output)
    written = np.arange(count)
    read = [np.full(math.prod(shape), NEVER) for shape in shapes]
    match layer:
        case Conv2D() | Depthwise() | AveragePool() | MaxPool():
            _window(layer, shapes[0], output, read[0])
        case Dense():
            for row in range(math.prod(shapes[0][:-1])):
                read[0][row * shapes[0][-1] : (row + 1) * shapes[0][-1]] = (row + 1) * output[-1] - 1
        case Requantize() | Lookup() | Softmax():
            read[0][:] = written
        case Add() | Mul():
            for times, shape in zip(read, shapes, strict=True):
                np.maximum.at(times, np.broadcast_to(_indices(shape), output).ravel(), written)
        case Pad():
            inside = np.pad(_indices(shapes[0]), layer.pads, constant_values=-1).ravel()
            read[0][inside[inside >= 0]] = written[inside >= 0]
        case ResizeNearest():
            from_pixel = _indices(shapes[0])[layer.rows][:, layer.columns]
            np.maximum.at(read[0], from_pixel.ravel(), written)
        case Transpose():
            read[0][_indices(shapes[0]).transpose(layer.permutation).ravel()] = written
        case Mean():
            kept = np.zeros(shapes[0], np.int64)
            size = [1 if axis in layer.axes else n for axis, n in enumerate(shapes[0])]
            read[0][:] = (kept + np.arange(count).reshape(size)).ravel()
        case Concat() | Reshape():  # memcpy, in any order: nothing may be overwritten
            for times in read:
                times[:] = count
        case _:
            raise AssertionError(layer.kind)
    return written, read


def _indices(shape: Shape) -> NDArray[Any]:
    return np.arange(math.prod(shape)).reshape(shape)


def _window(layer: Any, shape: Shape, output: Shape, read: Times) -> None:
    """All channels of a pixel, then the next pixel; CONV_2D reads all input channels for each of its own."""
    window, padding = layer.window, layer.window.padding
    times = read.reshape(shape)
    per_input = output[2] // shape[2] if isinstance(layer, Depthwise) else 1
    for y in range(output[0]):
        for x in range(output[1]):
            first = (y * output[1] + x) * output[2]
            if isinstance(layer, Conv2D):
                last = np.full(shape[2], first + output[2] - 1)
            else:
                last = first + np.arange(shape[2]) * per_input + per_input - 1
            for k_y in range(window.kernel[0]):
                in_y = y * window.stride[0] - padding.top + k_y * window.dilation[0]
                for k_x in range(window.kernel[1]):
                    in_x = x * window.stride[1] - padding.left + k_x * window.dilation[1]
                    if 0 <= in_y < shape[0] and 0 <= in_x < shape[1]:
                        times[in_y, in_x] = last


def least_distance(written: Times, read: Times) -> int:
    """How far below an input an output has to begin so as to overwrite only what has been read.

    ANYWHERE if all is read before the first byte is written.
    """
    # Byte i of the input is spoilt by output bytes written before its last read: those below ``early[i]``.
    early = np.searchsorted(written, read)
    needed = (read != NEVER) & (early > 0)
    return int(np.max((early - np.arange(len(read)))[needed], initial=ANYWHERE))


def problem(graph: Graph, buffers: Sequence[Buffer]) -> str | None:
    """What goes wrong when the graph runs with its tensors at these places; None: nothing does."""
    of = {name: i for i, buffer in enumerate(buffers) for name in buffer.tensors}
    low = min(buffer.offset for buffer in buffers)
    owner = np.full(max(buffer.end for buffer in buffers) - low, -1)

    def bytes_of(name: str) -> slice:
        start = buffers[of[name]].offset - low
        return slice(start, start + graph.tensors[name].elements)

    owner[bytes_of(graph.input)] = of[graph.input]
    for layer in graph.layers:
        operands = [name for name in layer.inputs if name not in graph.constants]
        for name in operands:
            if (owner[bytes_of(name)] != of[name]).any():
                return f"{layer.name} reads {name}, which has been overwritten"
        made = bytes_of(layer.output)
        if isinstance(layer, Reshape) and operands and of[operands[0]] == of[layer.output]:
            continue
        shapes = [graph.tensors[name].shape for name in layer.inputs]
        written, read = order(layer, shapes, graph.tensors[layer.output].shape)
        for name, last_read in zip(layer.inputs, read, strict=True):
            if name in graph.constants:
                continue
            place = bytes_of(name)
            start, stop = max(place.start, made.start), min(place.stop, made.stop)
            if (
                start < stop
                and (
                    written[start - made.start : stop - made.start]
                    < last_read[start - place.start : stop - place.start]
                ).any()
            ):
                return f"{layer.name} overwrites {name} before it has read it"
        owner[made] = of[layer.output]
    for name in graph.outputs:
        if name not in graph.constants and (owner[bytes_of(name)] != of[name]).any():
            return f"output {name} has been overwritten"
    return None
