"""Dead channels go: those that no layer uses, and those that are one value whatever the input, by ``intervals``.

A constant channel moves into the bias of the convolutions and dense layers that read it. Nothing that remains changes:
each tensor has fewer channels, and those that it keeps hold the bytes that they held.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

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
    Transpose,
    Weights,
)
from tinymbn_codegen.intervals import Interval, accumulators, channel_intervals, window_taps
from tinymbn_codegen.kernel_code import as_int32

Mask = NDArray[np.bool_]

_ELSEWHERE = -1


def remove_dead_channels(graph: Graph) -> Graph:
    """The graph without channels that cannot change any of its outputs; itself where there are none.

    Input, outputs and layers stay as they are but for their channels; no tensor loses its last one.

    Args:
        graph: of int8 alone.
    """
    intervals = channel_intervals(graph)
    kept = kept_channels(graph, intervals)
    if all(mask.all() for mask in kept.values()):
        return graph
    return replace(
        graph,
        tensors={
            name: replace(tensor, shape=(*tensor.shape[:-1], int(kept[name].sum())))
            for name, tensor in graph.tensors.items()
        },
        layers=tuple(_narrowed(layer, graph, intervals, kept) for layer in graph.layers),
        constants={name: values[..., kept[name]] for name, values in graph.constants.items()},
    )


# ------------------------------------------------------------------------------------------ which channels stay


@dataclass(frozen=True, eq=False)
class _Mixing:
    """CONV_2D and dense: each output channel is a sum over the input's channels, so either may go alone.

    Attributes:
        needs: (C_out, C_in), whether an output channel's bytes hang on an input channel in another way than its bias
            could account for.
    """

    needs: Mask

    def spread(self, inputs: tuple[Mask, ...], output: Mask) -> None:
        """Keep what ``output`` needs."""
        inputs[0][self.needs[output].any(axis=0)] = True


@dataclass(frozen=True, eq=False)
class _Carrying:
    """Each output channel comes from one channel of an input and stays or goes with it.

    Attributes:
        sources: for each input and output channel the input's channel, or _ELSEWHERE.
    """

    sources: tuple[NDArray[np.intp], ...]

    def spread(self, inputs: tuple[Mask, ...], output: Mask) -> None:
        """Keep the other where one of two is kept."""
        for mask, source in zip(inputs, self.sources, strict=True):
            tied = source != _ELSEWHERE
            mask[source[tied & output]] = True
            output[tied] |= mask[source[tied]]


@dataclass(frozen=True)
class _Opaque:
    """Every output channel may hang on every input channel."""

    def spread(self, inputs: tuple[Mask, ...], output: Mask) -> None:
        """Keep all."""
        for mask in (*inputs, output):
            mask[:] = True


_Rule = _Mixing | _Carrying | _Opaque


def _rule(layer: AnyLayer, graph: Graph, intervals: Mapping[str, Interval]) -> _Rule:
    """How the channels that a layer reads and makes hang together."""
    made = graph.tensors[layer.output].shape
    read = [graph.tensors[name].shape for name in layer.inputs]
    before, channels = read[0][-1], made[-1]
    same = np.arange(channels)
    match layer:
        case Conv2D() | Dense():
            return _Mixing(_needs(layer, graph, intervals))
        case Depthwise():
            # The channels of one input channel have to stay as many as those of each other.
            return _Carrying((same // (channels // before) if before > 1 else np.full(channels, _ELSEWHERE),))
        case AveragePool() | MaxPool() | Requantize() | Lookup() | ResizeNearest():
            return _Carrying((same,))
        case Mean() if len(read[0]) - 1 not in layer.axes:
            return _Carrying((same,))
        case Transpose() if layer.permutation[-1] == len(made) - 1:
            return _Carrying((same,))
        case Reshape() if channels % before == 0:
            return _Carrying((same % before,))
        case Add() | Mul():
            # One channel for all is a tensor's last, and stays in any case.
            return _Carrying(tuple(same if shape[-1] == channels else np.full(channels, _ELSEWHERE) for shape in read))
        case Pad():
            return _Carrying((_within(same - layer.pads[-1][0], before),))
        case Concat() if layer.axis == len(made) - 1:
            starts = np.cumsum([0, *(shape[-1] for shape in read)])
            return _Carrying(
                tuple(_within(same - start, shape[-1]) for start, shape in zip(starts[:-1], read, strict=True))
            )
        case Concat():
            return _Carrying((same,) * len(read))
    return _Opaque()


def _within(source: NDArray[np.intp], channels: int) -> NDArray[np.intp]:
    return np.where((source >= 0) & (source < channels), source, _ELSEWHERE)


def _needs(layer: Conv2D | Dense, graph: Graph, intervals: Mapping[str, Interval]) -> Mask:
    """Which output channels hang on which input channels, (C_out, C_in)."""
    weighs = layer.weights.values != layer.weights.zero_point
    x = intervals[layer.inputs[0]]
    constant = _constant(x)
    if isinstance(layer, Dense):
        needs = weighs & ~constant
    else:
        inside, outside = _taps(layer, graph)
        weighs &= inside[:, :, None]
        # It counts in the map and not in the padding, and no bias accounts for both; the zero point counts in neither.
        varies = ~constant | (outside[:, :, None] & (x[0] != graph.tensors[layer.inputs[0]].zero_point))
        needs = (weighs & varies).any(axis=(1, 2))
    return np.asarray(needs & ~_constant(intervals[layer.output])[:, None])


def _taps(layer: Conv2D, graph: Graph) -> tuple[Mask, Mask]:
    shape = graph.tensors[layer.inputs[0]].shape
    return window_taps(layer.window, shape[0], shape[1])


def _constant(interval: Interval) -> Mask:
    return np.asarray(interval[0] == interval[1])


def kept_channels(graph: Graph, intervals: Mapping[str, Interval]) -> dict[str, Mask]:
    """Which channels of each tensor stay, (C,): the fewest that what reads and makes them allows.

    Args:
        graph: of int8 alone.
        intervals: of all its tensors.
    """
    whole = {graph.input, *graph.outputs}
    kept = {name: np.full(tensor.shape[-1], name in whole) for name, tensor in graph.tensors.items()}
    spreads = [
        (_rule(layer, graph, intervals), tuple(kept[name] for name in layer.inputs), kept[layer.output])
        for layer in graph.layers
    ]
    _settle(spreads, kept.values())
    # No tensor may lose its last channel. Later ones come first, for they bring along what they need; a constant
    # channel, where there is one, needs nothing.
    for name in (*(layer.output for layer in reversed(graph.layers)), *graph.constants):
        if not kept[name].any():
            kept[name][np.argmax(_constant(intervals[name]))] = True
            _settle(spreads, kept.values())
    return kept


def _settle(spreads: Sequence[tuple[_Rule, tuple[Mask, ...], Mask]], masks: Collection[Mask]) -> None:
    """Apply the rules until nothing more has to be kept."""
    before = -1
    while before != (before := sum(int(np.count_nonzero(mask)) for mask in masks)):
        # From last to first, as needs mostly spread; again where an ADD ties one branch to another.
        for rule, inputs, output in reversed(spreads):
            rule.spread(inputs, output)


# ------------------------------------------------------------------------------------ layers with fewer channels


def _narrowed(layer: AnyLayer, graph: Graph, intervals: Mapping[str, Interval], kept: Mapping[str, Mask]) -> AnyLayer:
    """The layer for the channels that are kept."""
    rows, columns = kept[layer.output], kept[layer.inputs[0]]
    if rows.all() and all(kept[name].all() for name in layer.inputs):
        return layer
    match layer:
        case Conv2D() | Dense():
            weights = _folded(layer, graph, intervals, columns)
            weights = _rows(weights, weights.values[rows][..., columns], rows)
            if isinstance(layer, Dense) and layer.steps is not None:
                return replace(layer, weights=weights, steps=layer.steps[rows])
            return replace(layer, weights=weights)
        case Depthwise():
            return replace(layer, weights=_rows(layer.weights, layer.weights.values[..., rows], rows))
        case Reshape():
            return replace(layer, shape=(*layer.shape[:-1], int(rows.sum())))
        case Pad():
            before, after = layer.pads[-1]
            pads = int(rows[:before].sum()), int(rows[len(rows) - after :].sum())
            return replace(layer, pads=(*layer.pads[:-1], pads))
    return layer


def _rows(weights: Weights, values: NDArray[np.int8], rows: Mask) -> Weights:
    """The weights of some output channels, whose values are given."""
    return replace(
        weights,
        values=values,
        bias=weights.bias[rows],
        multiplier=weights.multiplier[rows],
        shift=weights.shift[rows],
    )


def _folded(layer: Conv2D | Dense, graph: Graph, intervals: Mapping[str, Interval], columns: Mask) -> Weights:
    """The weights, with input channels that go in the bias, and output channels that are constant in it alone."""
    weights, source = layer.weights, graph.tensors[layer.inputs[0]]
    x = intervals[source.name]
    gone = np.flatnonzero(~columns & _constant(x))
    values = weights.values[..., gone].astype(np.int64) - weights.zero_point
    if isinstance(layer, Conv2D):
        inside, _ = _taps(layer, graph)
        values = (values * inside[:, :, None]).sum(axis=(1, 2))
    bias = weights.bias + values @ (x[0][gone] - source.zero_point)
    constant = _constant(intervals[layer.output])
    # Any accumulator that it can have makes its one value; it needs no input, and some may be gone.
    bias = np.where(constant, accumulators(layer, source, x)[0], bias) if constant.any() else bias
    values8 = weights.values.copy()
    values8[constant] = weights.zero_point
    return replace(weights, values=values8, bias=as_int32(bias))
