"""Makes a float graph ready to be quantised: batch-norm and activations move into the layer before."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np

from tinymbn.layers import Reshape, Shape, Window
from tinymbn.preprocessing import Preprocessing
from tinymbn.quantize.float_graph import FloatGraph
from tinymbn.quantize.float_layers import (
    AnyFloatLayer,
    BatchNorm,
    FloatAdd,
    FloatDepthwise,
    FloatWeighted,
    Relu,
)


def fold(graph: FloatGraph, *, keep: Iterable[str] = ()) -> FloatGraph:
    """The same network without batch-norm layers, ReLU and ReLU6 fused where the layer before can clamp.

    A batch-norm that no convolution or dense layer precedes becomes a depthwise layer with a 1x1 kernel, between
    Reshapes where it does not stand on a map.
    Tensors that remain keep their names and, but for float rounding, their values; those of ``keep`` remain.
    """
    readers = Counter(name for layer in graph.layers for name in layer.inputs) + Counter(graph.outputs)
    readers.update(dict.fromkeys(keep, 2))
    layers: list[AnyFloatLayer] = []
    maker_of: dict[str, int] = {}  # tensor -> position of the layer that makes it
    taken = {*graph.shapes, *(layer.name for layer in graph.layers)}
    for layer in graph.layers:
        source = layer.inputs[0]
        position = maker_of.get(source)
        fused = None if position is None or readers[source] > 1 else _fuse(layers[position], layer)
        if position is not None and fused is not None:
            layers[position] = fused
        else:
            layers += _alone(layer, graph.shapes[source], taken)
            position = len(layers) - 1
        maker_of[layer.output] = position
    return replace(graph, layers=tuple(layers))


def fold_into_preprocessing(graph: FloatGraph) -> FloatGraph:
    """The same network without batch-norms that it begins with: what they do to its input is done to pixels.

    Args:
        graph: as it was trained, with what it says of pixels; a rescaling of them is a batch-norm.

    Raises:
        ModelError: it says so of another number of channels.
    """
    while graph.layers and graph.preprocessing.real_values(graph.input_shape[-1]) is not None:
        first = graph.layers[0]
        readers = sum(layer.inputs.count(graph.input) for layer in graph.layers) + graph.outputs.count(graph.input)
        if not isinstance(first, BatchNorm) or readers != 1 or (first.factor <= 0).any():
            break
        graph = _without_first(graph, graph.preprocessing.then(first.factor, first.offset))
    return graph


def _without_first(graph: FloatGraph, preprocessing: Preprocessing) -> FloatGraph:
    """The graph with its input in the place of what the first layer makes."""
    gone = graph.layers[0].output

    def renamed(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(graph.input if name == gone else name for name in names)

    layers = tuple(replace(layer, inputs=renamed(layer.inputs)) for layer in graph.layers[1:])
    return replace(graph, layers=layers, outputs=renamed(graph.outputs), preprocessing=preprocessing)


def _fuse(maker: AnyFloatLayer, layer: AnyFloatLayer) -> AnyFloatLayer | None:
    """One layer that does what both do; None if there is none."""
    if not isinstance(maker, FloatWeighted | FloatAdd) or maker.activation != "none":
        return None
    if isinstance(layer, Relu):
        return replace(maker, activation=layer.activation, output=layer.output)
    if isinstance(layer, BatchNorm) and isinstance(maker, FloatWeighted):
        return _fold_batch_norm(maker, layer)
    return None


def _fold_batch_norm(maker: FloatWeighted, norm: BatchNorm) -> FloatWeighted:
    """Weights and bias scaled by channel, computed in double precision and rounded once."""
    weights = (maker.weights * maker.along_channels(norm.factor)).astype(np.float32)
    bias = (maker.bias * norm.factor + norm.offset).astype(np.float32)
    return replace(maker, weights=weights, bias=bias, output=norm.output)


def _alone(layer: AnyFloatLayer, shape: Shape, taken: Collection[str]) -> list[AnyFloatLayer]:
    """What stands for a layer that nothing before it can take in, on a tensor of this shape."""
    if not isinstance(layer, BatchNorm):
        return [layer]
    weights = layer.factor.reshape(1, 1, -1).astype(np.float32)
    offset = layer.offset.astype(np.float32)
    if len(shape) == 3:
        return [FloatDepthwise(layer.name, layer.inputs, layer.output, weights, offset, Window((1, 1)))]
    before, after = f"{layer.output}/map", f"{layer.output}/scaled"
    while before in taken or after in taken:
        before, after = f"{before}'", f"{after}'"
    return [
        Reshape(before, layer.inputs, before, (1, math.prod(shape[:-1]), shape[-1])),
        FloatDepthwise(layer.name, (before,), after, weights, offset, Window((1, 1))),
        Reshape(after, (after,), layer.output, shape),
    ]
