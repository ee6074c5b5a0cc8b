"""A network before it is quantised: float32 layers in running order. Whatever exists has been checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tinymbn.errors import ModelError
from tinymbn.graph import MAX_ELEMENTS
from tinymbn.layers import Activation, AveragePool, MaxPool, Shape
from tinymbn.preprocessing import Preprocessing
from tinymbn.quantize.float_layers import AnyFloatLayer, BatchNorm


@dataclass(frozen=True, eq=False)
class FloatGraph:
    """An ordered list of float layers over named tensors (a DAG), batch 1, NHWC.

    Attributes:
        name: of the model.
        input: the name of the one input.
        input_shape: without the batch, ``(H, W, C)`` for pictures.
        layers: in running order; each reads only what stands before it.
        outputs: names of tensors.
        labels: of the classes; empty if unknown.
        preprocessing: from picture to the real values of the input.
        shapes: of every tensor by name, without the batch; follows from the rest.

    Raises:
        ModelError: the graph is not sound; the text names the layer or tensor.
    """

    name: str
    input: str
    input_shape: Shape
    layers: tuple[AnyFloatLayer, ...]
    outputs: tuple[str, ...]
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    shapes: Mapping[str, Shape] = field(init=False)

    def __post_init__(self) -> None:
        self._check(all(size >= 1 for size in self.input_shape), f"input shape {self.input_shape}")
        names = [layer.name for layer in self.layers]
        self._check(len(set(names)) == len(names), "two layers have one name")
        shapes = {self.input: self.input_shape}
        for layer in self.layers:
            if isinstance(layer, AveragePool | MaxPool):
                # Their clamp is in quantised units, which a float network does not have.
                self._check(layer.activation == Activation(), f'layer "{layer.name}" has a quantised activation')
            for name in layer.inputs:
                self._check(name in shapes, f'layer "{layer.name}" reads "{name}", which nothing before it makes')
            self._check(layer.output not in shapes, f'tensor "{layer.output}" is made twice')
            shapes[layer.output] = layer.output_shape(*(shapes[name] for name in layer.inputs))
        for name, shape in shapes.items():
            self._check(math.prod(shape) <= MAX_ELEMENTS, f'tensor "{name}" has shape {shape}: too many elements')
        self._check(len(self.outputs) >= 1, "no outputs")
        for name in self.outputs:
            self._check(name in shapes, f'output "{name}" is not a tensor')
        object.__setattr__(self, "shapes", MappingProxyType(shapes))

    @property
    def macs(self) -> int:
        """Multiplications of an activation with a weight in convolutions and dense layers."""
        return sum(layer.macs(self.shapes[layer.output]) for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Weights, and one bias a channel: batch-norms are part of both."""
        return sum(layer.parameters for layer in self.layers if not isinstance(layer, BatchNorm))

    def _check(self, condition: bool, problem: str) -> None:
        if not condition:
            raise ModelError(f"float model {self.name!r}: {problem}")
