"""Scales channels between two layers, so that small ones get more of a tensor's steps; what the network computes stays.

A tensor has one int8 range for all of its channels. With a factor s > 0 on a channel of it, on the weights and the bias
that make the channel, and 1 / s on the weights that read it, the network is the same: ReLU commutes with s, and powers
of two are exact in float. ReLU6 does not: it then cuts the channel at 6 / s. So factors are 1 or more, and so small
that what calibration has seen of the channel stays well inside the tensor's range, and below 6 where a ReLU6 cuts.
The range itself stays, for the channels that reach its ends keep the factor 1.

Sources: Nagel et al. 2019, Data-free quantization through weight equalization and bias correction, section 4.1;
Xiao et al. 2022, SmoothQuant, equation 4, for the root.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tinymbn.quantize.calibration import Observed
from tinymbn.quantize.float_graph import FloatGraph
from tinymbn.quantize.float_layers import (
    AnyFloatLayer,
    FloatConv2D,
    FloatDepthwise,
    FloatWeighted,
)
from tinymbn.quantize.histogram import Range

Factors = NDArray[np.float32]

# A scaled channel may become half as large again as calibration saw it before it is cut.
_HEADROOM = 1.5
# What is smaller than a sixteenth of the range was hardly used by the network; unseen pictures may wake it.
_MOST = 16.0


def equalize(
    graph: FloatGraph, seen: Mapping[str, Observed], ranges: Mapping[str, Range]
) -> tuple[FloatGraph, dict[str, Factors]]:
    """The same network with scaled channels, and the factors of each tensor whose channels were scaled.

    Tensors between two layers with weights are scaled, where nothing else reads them. But for weights that become
    subnormal, both networks give the same output to the last bit for whatever keeps scaled channels below the headroom;
    every calibration picture does.

    Args:
        graph: as ``fold`` leaves it.
        seen: of its tensors.
        ranges: of its tensors; they hold for the scaled ones as well.

    Returns:
        The graph, and by tensor what its channels were multiplied by, (C,): powers of two, 1 to 16.
    """
    readers = Counter(name for layer in graph.layers for name in layer.inputs) + Counter(graph.outputs)
    layers = list(graph.layers)
    maker_of: dict[str, int] = {}  # tensor -> position of the layer that makes it
    scaled: dict[str, Factors] = {}
    for position, layer in enumerate(graph.layers):
        maker_of[layer.output] = position
        tensor = layer.inputs[0]
        maker: AnyFloatLayer | None = layers[maker_of[tensor]] if tensor in maker_of else None
        if not isinstance(layer, FloatWeighted) or not isinstance(maker, FloatWeighted) or readers[tensor] > 1:
            continue
        factors = _factors(maker, layer, seen[tensor], ranges[tensor])
        if (factors == 1).all():
            continue
        scaled[tensor] = factors
        by_channel = maker.along_channels(factors)
        layers[maker_of[tensor]] = replace(maker, weights=maker.weights * by_channel, bias=maker.bias * factors)
        layers[position] = replace(layer, weights=layer.weights / _for_reader(layer, factors))
    return replace(graph, layers=tuple(layers)), scaled


def _factors(maker: FloatWeighted, reader: FloatWeighted, observed: Observed, kept: Range) -> Factors:
    """What each channel of the tensor between two layers is multiplied by, (C,)."""
    # A ReLU6 cuts all channels at 6, however wide the range is.
    room = _room(observed, kept.low, min(kept.high, 6.0) if maker.activation == "relu6" else kept.high)
    wanted = room
    if not isinstance(reader, FloatDepthwise):
        # One weight scale covers all channels that an output reads. A larger channel brings more of the rounding of its
        # weights with it, and smaller weights are rounded more coarsely: the root balances both ranges.
        wanted = np.sqrt(room * _weight_share(reader))
    others = tuple(axis for axis in range(maker.rank) if axis != maker.channel_axis)
    greatest = np.maximum(np.abs(maker.weights).max(axis=others), np.abs(maker.bias)).astype(np.float64)
    representable = np.finfo(np.float32).max / np.maximum(greatest, 1)
    most = np.minimum(np.minimum(room / _HEADROOM, representable), _MOST)
    factors: Factors = np.exp2(np.floor(np.log2(np.maximum(np.minimum(wanted, most), 1)))).astype(np.float32)
    return factors


def _room(observed: Observed, lowest: float, highest: float) -> NDArray[np.float64]:
    """How many times as large a channel could be before it leaves a range, (C,); 1 if it was always zero."""
    low, high = observed.low.astype(np.float64), observed.high.astype(np.float64)
    above = np.divide(max(highest, 0.0), high, out=np.full(high.shape, np.inf), where=high > 0)
    below = np.divide(min(lowest, 0.0), low, out=np.full(low.shape, np.inf), where=low < 0)
    room: NDArray[np.float64] = np.minimum(above, below)
    room[np.isinf(room)] = 1.0
    return room


def _weight_share(reader: FloatWeighted) -> NDArray[np.float64]:
    """The greatest weight that an input channel meets, as a share of the greatest of the same output; (C_in,)."""
    weights = np.abs(reader.weights.astype(np.float64))
    if isinstance(reader, FloatConv2D):
        weights = weights.max(axis=(1, 2))
    greatest = weights.max(axis=1, keepdims=True)
    share = np.divide(weights, greatest, out=np.zeros_like(weights), where=greatest > 0)
    return np.asarray(share.max(axis=0), np.float64)


def _for_reader(reader: FloatWeighted, factors: Factors) -> Factors:
    """The factors along the last axis of the reader's weights: its input channels, or a depthwise layer's outputs."""
    return np.repeat(factors, reader.channels // len(factors)) if isinstance(reader, FloatDepthwise) else factors
