"""The same network at another width and resolution: shapes alone, to find out what would fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError
from tinymbn.graph import Graph, Tensor
from tinymbn.layers import (
    AnyLayer,
    AveragePool,
    Conv2D,
    Dense,
    Depthwise,
    MaxPool,
    Reshape,
    ResizeNearest,
    Shape,
    Weights,
    Window,
    same_padding,
)

_DIVISOR = 8  # channels of MobileNets are multiples of it


def rescale(graph: Graph, width: Fraction, height: int, columns: int) -> Graph:
    """The graph with other channel counts and another input size; its weights are zeros.

    Args:
        graph: the model.
        width: factor for the channels inside; input and outputs keep theirs.
        height: of the input.
        columns: of the input.

    Raises:
        ModelError: the network does not scale: an operator fixes a shape, or the map becomes too small.
    """
    start = graph.input_tensor
    if len(start.shape) != 3:
        raise ModelError(f"model {graph.name!r}: its input of shape {start.shape} is no picture")
    if width == 1 and (height, columns) == start.shape[:2]:
        return graph
    if graph.constants:
        raise ModelError(f"model {graph.name!r}: constants among its operands fix their shapes")
    tensors: dict[str, Tensor] = {graph.input: replace(start, shape=(height, columns, start.shape[2]))}
    fixed = _fixed_channels(graph)
    layers = []
    for layer in graph.layers:
        shapes = [tensors[name].shape for name in layer.inputs]
        factor = Fraction(1) if layer.output in fixed else width
        scaled = _scaled(layer, graph, shapes, factor)
        made = scaled.output_shape(*shapes)
        tensors[layer.output] = replace(graph.tensors[layer.output], shape=made)
        layers.append(scaled)
    return replace(graph, tensors=tensors, layers=tuple(layers))


def _fixed_channels(graph: Graph) -> set[str]:
    """Tensors whose channels are those of an output: nothing that mixes channels lies between."""
    fixed = set(graph.outputs)
    for layer in reversed(graph.layers):
        if layer.output in fixed and not isinstance(layer, Conv2D | Dense):
            fixed.update(layer.inputs)
    return fixed


def _round_channels(channels: int, factor: Fraction) -> int:
    """To a multiple of 8, at most a tenth lower than asked for. Source: MobileNet's ``make_divisible``."""
    if factor == 1:
        return channels
    wanted = channels * factor
    rounded = max(_DIVISOR, int(wanted + Fraction(_DIVISOR, 2)) // _DIVISOR * _DIVISOR)
    return rounded + _DIVISOR if rounded < wanted * Fraction(9, 10) else rounded


def _scaled(layer: AnyLayer, graph: Graph, shapes: list[Shape], factor: Fraction) -> AnyLayer:
    before, old = [graph.tensors[name].shape for name in layer.inputs], graph.tensors[layer.output].shape
    shape = shapes[0]
    match layer:
        case Conv2D():
            channels = _round_channels(layer.channels, factor)
            weights = _zeros((channels, *layer.window.kernel, shape[2]), channels, layer.weights)
            return replace(layer, window=_window(layer.window, before[0], old, shape), weights=weights)
        case Depthwise():
            channels = layer.channels // before[0][2] * shape[2]
            weights = _zeros((*layer.window.kernel, channels), channels, layer.weights)
            return replace(layer, window=_window(layer.window, before[0], old, shape), weights=weights)
        case Dense():
            channels = _round_channels(layer.channels, factor)
            weights = _zeros((channels, shape[-1]), channels, layer.weights)
            return replace(layer, weights=weights, steps=None)
        case AveragePool() | MaxPool():
            window = layer.window
            if window.kernel == before[0][:2]:  # over the whole map
                return replace(layer, window=replace(window, kernel=(shape[0], shape[1])))
            return replace(layer, window=_window(window, before[0], old, shape))
        case Reshape():
            return replace(layer, shape=_reshaped(layer, before[0], shape))
        case ResizeNearest():
            rows = _resized(before[0][0], old[0], shape[0])
            return replace(layer, rows=rows, columns=_resized(before[0][1], old[1], shape[1]))
    return layer


def _zeros(shape: Shape, channels: int, old: Weights) -> Weights:
    return Weights(
        values=np.zeros(shape, np.int8),
        bias=np.zeros(channels, np.int32),
        multiplier=np.zeros(channels, np.int32),
        shift=np.zeros(channels, np.int8),
        zero_point=old.zero_point,
    )


def _window(window: Window, before: Shape, output: Shape, shape: Shape) -> Window:
    """With the padding of the same rule: SAME where it was SAME, else the same numbers."""
    arguments = window.kernel, window.stride, window.dilation
    if window.padding == same_padding((before[0], before[1]), *arguments):
        return replace(window, padding=same_padding((shape[0], shape[1]), *arguments))
    return window


def _reshaped(layer: Reshape, before: Shape, shape: Shape) -> Shape:
    """The new shape: the axis that took up the old change takes up the new one."""
    elements, old = math.prod(shape), math.prod(before)
    if elements == old:
        return layer.shape
    if len(layer.shape) == 1:
        return (elements,)
    kept = layer.shape[1:] if layer.shape[-1] == before[-1] == shape[-1] else None
    if kept is not None and elements % math.prod(kept) == 0:
        return (elements // math.prod(kept), *kept)
    if all(size == 1 for size in layer.shape[:-1]):
        return (*layer.shape[:-1], elements)
    if layer.shape[-1] and elements % math.prod(layer.shape[1:]) == 0:
        return (elements // math.prod(layer.shape[1:]), *layer.shape[1:])
    raise ModelError(f'layer "{layer.name}": shape {layer.shape} does not scale')


def _resized(before: int, after: int, size: int) -> NDArray[np.int32]:
    """Indices along one axis that enlarge by the same factor."""
    count = after * size // before
    return (np.arange(count) * size // count).astype(np.int32)


def smaller_sizes(graph: Graph) -> Mapping[int, int]:
    """Heights to try with their widths, the largest first: as it is, then multiples of 16 below."""
    height, columns, _ = graph.input_tensor.shape
    sizes = {height: columns}
    for smaller in range((height - 1) // 16 * 16, 31, -16):
        sizes[smaller] = max(1, columns * smaller // height)
    return sizes
