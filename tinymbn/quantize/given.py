"""An int8 Graph of a network whose file says every scale, zero point and weight: they stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinymbn import fixedpoint
from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.graph import Graph, Quant, Source, Tensor
from tinymbn.layers import AnyLayer, AveragePool, MaxPool, Requantize, Reshape, Shape
from tinymbn.quantize.conversion import PROBABILITY_QUANT, Integers, convert_layer, quantize_weights
from tinymbn.quantize.float_graph import FloatGraph
from tinymbn.quantize.float_layers import AnyFloatLayer, FloatLogistic, FloatSoftmax, FloatWeighted
from tinymbn.quantize.folding import fold

_Keeping = AveragePool | MaxPool | Reshape
"""What makes values of its input's scale alone."""

_INT32_MAX = fixedpoint.INT32_MAX
_NEAR = 1e-5  # two float32 scales that are the same product, rounded in another order


@dataclass(frozen=True, eq=False)
class GivenWeights:
    """What a file says of a layer's weights.

    Attributes:
        values: int8, in the layer's own axes.
        scales: float32, (C_out,).
        zero_point: of the values.
        bias: int32, (C_out,); None where it is real in the file, or there is none.
        bias_scales: float32, (C_out,).
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]
    zero_point: int = 0
    bias: NDArray[np.int32] | None = None
    bias_scales: NDArray[np.float32] | None = None


def convert_given(
    graph: FloatGraph, quants: Mapping[str, Quant], weights: Mapping[str, GivenWeights | None], source: Source
) -> Graph:
    """The int8 Graph of a network with given scales.

    Requantisation is TensorFlow Lite's, so that outputs differ by a step here and there from what float arithmetic
    between quantisations makes.

    Args:
        graph: its weights are the real values of the given ones.
        quants: of its tensors as int8. A ReLU is part of the layer before where there is none between; of what pools
            and Reshapes read and make, one is enough.
        weights: by the layer's name; None: the file has them as real numbers. Those of layers that are not named, such
            as a batch-norm, are rounded as ``convert`` does.
        source: the file.

    Raises:
        UnsupportedError: a tensor has no scale, or weights are real numbers; all of them are listed.
        ModelError: two scales are further apart than 32-bit integers can express.
    """
    folded = fold(graph, keep=quants)
    quants = dict(quants)
    for layer in reversed(folded.layers):
        if isinstance(layer, _Keeping) and layer.output in quants:
            quants.setdefault(layer.inputs[0], quants[layer.output])
    _require_all(folded, quants, weights)
    found = {folded.input: quants[folded.input]}
    shapes = dict(folded.shapes)
    layers: list[AnyLayer] = []
    for layer in folded.layers:
        sources = [found[name] for name in layer.inputs]
        own = _own_quant(layer, sources[0])
        # All others have been looked for; a logistic's table goes to any scale, and to this where none is said.
        wanted = quants.get(layer.output) or own or PROBABILITY_QUANT
        made, found[layer.output] = own or wanted, wanted
        if made == wanted:
            layers.append(_converted(layer, sources, made, shapes, weights))
            continue
        middle = layer.inputs[0]
        if not isinstance(layer, Reshape) or shapes[middle] != layer.shape:
            middle = f"{layer.output}/before"
            while middle in shapes:
                middle += "'"
            shapes[middle], found[middle] = shapes[layer.output], made
            whole = replace(layer, name=middle, output=middle)
            layers.append(_converted(whole, sources, made, shapes, weights))
        layers.append(_requantize(layer, middle, made, wanted))
    return Graph(
        name=folded.name,
        tensors={name: Tensor(name, shape, found[name]) for name, shape in shapes.items()},
        layers=tuple(layers),
        input=folded.input,
        outputs=folded.outputs,
        source=source,
    )


def _own_quant(layer: AnyFloatLayer, source: Quant) -> Quant | None:
    """The only quantisation that a layer's output can have; None where it may have any."""
    if isinstance(layer, _Keeping):
        return source
    return PROBABILITY_QUANT if isinstance(layer, FloatSoftmax) else None


def _require_all(graph: FloatGraph, quants: Mapping[str, Quant], weights: Mapping[str, GivenWeights | None]) -> None:
    """Raise if a tensor has no scale, or a layer real weights."""
    problems = [] if graph.input in quants else [f'input "{graph.input}"']
    problems += [
        f'output "{layer.output}" of {layer.kind} "{layer.name}"'
        for layer in graph.layers
        if layer.output not in quants and not isinstance(layer, _Keeping | FloatSoftmax | FloatLogistic)
    ]
    problems += [
        f'weights of {layer.kind} "{layer.name}"'
        for layer in graph.layers
        if layer.name in weights and weights[layer.name] is None
    ]
    if problems:
        what = "tensors that are" if len(problems) > 1 else "tensor that is"
        raise UnsupportedError(f"{len(problems)} {what} not quantised: {'; '.join(problems)}")


def _converted(
    layer: AnyFloatLayer,
    sources: list[Quant],
    made: Quant,
    shapes: Mapping[str, Shape],
    weights: Mapping[str, GivenWeights | None],
) -> AnyLayer:
    try:
        integers = None
        if isinstance(layer, FloatWeighted):
            given = weights.get(layer.name)
            integers = (
                quantize_weights(layer, sources[0], made) if given is None else _integers(layer, sources[0], given)
            )
        with np.errstate(over="ignore"):  # an infinite scale is a ValueError of fixedpoint
            return convert_layer(layer, sources, made, shapes[layer.inputs[0]], integers)
    except ValueError as error:
        raise ModelError(f'layer "{layer.name}": {layer.kind}: {error}') from error


def _integers(layer: FloatWeighted, source: Quant, given: GivenWeights) -> Integers:
    """The given integers; a bias of another scale than the accumulator's is rounded to it."""
    scales = given.scales.astype(np.float64)
    real = (given.values.astype(np.float64) - given.zero_point) * layer.along_channels(scales)
    if not np.allclose(real, layer.weights, rtol=_NEAR, atol=0):
        raise UnsupportedError(f'layer "{layer.name}": a batch-norm after quantised weights')
    units = source.scale * scales
    if given.bias is not None and given.bias_scales is not None:
        same_units = np.allclose(given.bias_scales, units, rtol=_NEAR, atol=0)
        if same_units and np.allclose(given.bias * units, layer.bias, rtol=10 * _NEAR, atol=0):
            return Integers(given.values, given.bias, given.scales, given.zero_point)
    steps = np.clip(fixedpoint.round_array_half_away(layer.bias / units), -_INT32_MAX, _INT32_MAX)
    return Integers(given.values, steps.astype(np.int32), given.scales, given.zero_point)


def _requantize(layer: AnyFloatLayer, source: str, made: Quant, wanted: Quant) -> Requantize:
    try:
        scaling = fixedpoint.multiplier_and_shift(made.scale / wanted.scale)
    except ValueError as error:
        raise ModelError(f'layer "{layer.name}": {layer.kind}: {error}') from error
    return Requantize(layer.name, (source,), layer.output, *scaling)
