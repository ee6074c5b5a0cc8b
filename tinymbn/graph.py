"""A model: tensors, and layers in the order in which they run. Whatever exists has been checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError
from tinymbn.layers import MAX_RANK, AnyLayer, Dequantize, Quantize, Shape
from tinymbn.layers.base import frozen_array
from tinymbn.preprocessing import Preprocessing

DType = Literal["int8", "uint8", "float32"]

# A tensor that no microcontroller or PC inference has a use for; keeps a damaged file from asking for terabytes.
MAX_ELEMENTS = 1 << 28
# So that 255 steps are still a float32.
MAX_SCALE = 1e36
MIN_SCALE = 1e-30  # and so that a real value divided by a step is one, too

_ZERO_POINTS = {"int8": (-128, 127), "uint8": (0, 255)}


@dataclass(frozen=True)
class Quant:
    """Scale and zero point of one tensor; ``real = scale * (q - zero_point)``."""

    scale: float  # > 0, real units a step; a float32 value
    zero_point: int  # the q that stands for real 0


@dataclass(frozen=True)
class Tensor:
    """One value of the graph.

    Attributes:
        name: unique in the graph.
        shape: without the batch of 1; rank 1 to 4, ``(H, W, C)`` for maps.
        quant: None for float32.
        dtype: int8 inside; uint8 or float32 only at the graph's input and outputs.
    """

    name: str
    shape: Shape
    quant: Quant | None
    dtype: DType = "int8"

    def __post_init__(self) -> None:
        def check(condition: bool, problem: str) -> None:
            if not condition:
                raise ModelError(f'tensor "{self.name}": {problem}')

        check(isinstance(self.name, str) and self.name != "", "it has no name")
        check(
            self.dtype in ("int8", "uint8", "float32"),
            f"type {self.dtype!r}; expected int8, uint8 or float32",
        )
        check(
            1 <= len(self.shape) <= MAX_RANK,
            f"rank {len(self.shape)}; expected 1 to {MAX_RANK} after the batch",
        )
        whole = all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in self.shape)
        check(whole, f"shape {self.shape}; expected sizes of 1 and more")
        check(self.elements <= MAX_ELEMENTS, f"shape {self.shape}; expected at most {MAX_ELEMENTS} elements")
        if self.dtype == "float32":
            check(self.quant is None, "it is float32 and has a scale")
            return
        if self.quant is None:
            raise ModelError(f'tensor "{self.name}": it is {self.dtype} and has no scale and zero point')
        scale, zero_point = self.quant.scale, self.quant.zero_point
        check(isinstance(scale, float) and MIN_SCALE <= scale <= MAX_SCALE, f"scale {scale}; expected > 0")
        low, high = _ZERO_POINTS[self.dtype]
        check(
            isinstance(zero_point, int) and low <= zero_point <= high,
            f"zero point {zero_point}; expected {low} to {high} for {self.dtype}",
        )

    @property
    def elements(self) -> int:
        """Elements, and for int8 bytes."""
        return math.prod(self.shape)

    @property
    def zero_point(self) -> int:
        """The zero point of a quantised tensor."""
        assert self.quant is not None
        return self.quant.zero_point

    @property
    def scale(self) -> float:
        """The scale of a quantised tensor."""
        assert self.quant is not None
        return self.quant.scale


@dataclass(frozen=True)
class Source:
    """The file a graph was imported from; both empty for a graph made in memory."""

    file: str = ""  # the name alone, no folder
    sha256: str = ""


@dataclass(frozen=True, eq=False)
class Graph:
    """An ordered list of layers over named tensors (a DAG), batch 1.

    Attributes:
        name: of the model.
        tensors: every tensor by name: input, constants, and each layer's output.
        layers: in running order; each reads only what stands before it.
        input: the name of the one input.
        outputs: names, in the file's order.
        constants: int8 values of the tensors that are operands of ADD, MUL or CONCATENATION.
        labels: of the classes; empty if unknown.
        preprocessing: from picture to input.
        source: where it came from.

    Raises:
        ModelError: the graph is not sound; the text names the layer or tensor.
    """

    name: str
    tensors: Mapping[str, Tensor]
    layers: tuple[AnyLayer, ...]
    input: str
    outputs: tuple[str, ...]
    constants: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    source: Source = Source()

    def __post_init__(self) -> None:
        constants = {name: frozen_array(values) for name, values in self.constants.items()}
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        object.__setattr__(self, "constants", MappingProxyType(constants))
        self._check_names()
        self._check_constants()
        self._check_layers()
        self._check_edges()

    @property
    def input_tensor(self) -> Tensor:
        """The tensor that ``Interpreter.run`` takes."""
        return self.tensors[self.input]

    @property
    def output_tensors(self) -> tuple[Tensor, ...]:
        """The tensors that ``Interpreter.run`` returns."""
        return tuple(self.tensors[name] for name in self.outputs)

    @property
    def quantized_input(self) -> Tensor:
        """The int8 tensor at the input: the input itself, or what ``Quantize`` makes of it."""
        for layer in self.layers:
            if isinstance(layer, Quantize):
                return self.tensors[layer.output]
        return self.input_tensor

    @property
    def macs(self) -> int:
        """Multiplications of an activation with a weight, whole network."""
        return sum(layer.macs(self.tensors[layer.output].shape) for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Weights and biases, whole network."""
        return sum(layer.parameters for layer in self.layers)

    def int8_layers(self) -> Iterator[AnyLayer]:
        """The layers that run on a chip: all but the edges."""
        return (layer for layer in self.layers if not isinstance(layer, Quantize | Dequantize))

    def _check(self, condition: bool, problem: str) -> None:
        if not condition:
            raise ModelError(f"model {self.name!r}: {problem}")

    def _check_names(self) -> None:
        self._check(all(name == tensor.name for name, tensor in self.tensors.items()), "a tensor goes by two names")
        self._check(self.input in self.tensors, f'input "{self.input}" is not a tensor')
        self._check(len(self.outputs) >= 1, "no outputs")
        names = [layer.name for layer in self.layers]
        self._check(len(set(names)) == len(names), "two layers have one name")
        self._check(not any("\n" in label for label in self.labels), "a label has more than one line")
        self._check(self.labels != ("",), "its only label is empty")

    def _check_constants(self) -> None:
        for name, values in self.constants.items():
            self._check(name in self.tensors, f'constant "{name}" is not a tensor')
            tensor = self.tensors[name]
            self._check(
                tensor.dtype == "int8" and values.dtype == np.int8 and values.shape == tensor.shape,
                f'constant "{name}" is {values.dtype} {values.shape}; expected {tensor.dtype} {tensor.shape}',
            )
            self._check(name != self.input, f'constant "{name}" is the input')

    def _check_layers(self) -> None:
        known = {self.input, *self.constants}
        for layer in self.layers:
            for name in layer.inputs:
                self._check(name in known, f'layer "{layer.name}" reads "{name}", which nothing before it makes')
            self._check(
                layer.output in self.tensors,
                f'layer "{layer.name}" makes "{layer.output}", which is no tensor',
            )
            self._check(layer.output not in known, f'tensor "{layer.output}" is made twice')
            known.add(layer.output)
            shape = layer.output_shape(*(self.tensors[name].shape for name in layer.inputs))
            declared = self.tensors[layer.output].shape
            self._check(
                shape == declared,
                f'layer "{layer.name}" ({layer.kind}) makes shape {shape}; its output tensor says {declared}',
            )
        for name in self.tensors:
            self._check(name in known, f'nothing makes tensor "{name}"')
        for name in self.outputs:
            self._check(name in known, f'output "{name}" is not a tensor')

    def _check_edges(self) -> None:
        """Only the edges are not int8: what ``Quantize`` reads is the input, what ``Dequantize`` makes an output."""
        for layer in self.layers:
            what = f'layer "{layer.name}" ({layer.kind})'
            for name in layer.inputs:
                outside = self.tensors[name].dtype != "int8"
                self._check(
                    outside == isinstance(layer, Quantize),
                    f'{what} reads "{name}", which is {self.tensors[name].dtype}',
                )
            outside = self.tensors[layer.output].dtype != "int8"
            self._check(
                outside == isinstance(layer, Dequantize),
                f'{what} makes "{layer.output}", which is {self.tensors[layer.output].dtype}',
            )
            if outside:
                self._check(layer.output in self.outputs, f'{what} makes "{layer.output}", which is not an output')
            if isinstance(layer, Quantize | Dequantize):
                self._check_shift_by_128(layer)

    def _check_shift_by_128(self, layer: Quantize | Dequantize) -> None:
        """A uint8 edge has the scale of its int8 side and a zero point 128 apart: the bytes differ by 0x80 alone."""
        a, b = self.tensors[layer.inputs[0]], self.tensors[layer.output]
        for outer, inner in ((a, b), (b, a)):
            if outer.dtype == "uint8":
                self._check(
                    outer.scale == inner.scale and outer.zero_point == inner.zero_point + 128,
                    f'layer "{layer.name}" ({layer.kind}): uint8 {outer.quant} and int8 {inner.quant} '
                    "are not one quantisation 128 apart",
                )
