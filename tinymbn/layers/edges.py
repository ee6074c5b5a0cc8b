"""The layers between the outside world and int8."""

from __future__ import annotations

from dataclasses import dataclass

from tinymbn.layers.base import Layer, Shape


@dataclass(frozen=True)
class Quantize(Layer):
    """Float32 or uint8 to int8, at the graph's input: stays on the host."""

    kind = "quantize"

    def __post_init__(self) -> None:
        self._require_inputs(1)

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]


@dataclass(frozen=True)
class Dequantize(Layer):
    """Int8 to float32 or uint8, at a graph's output: stays on the host."""

    kind = "dequantize"

    def __post_init__(self) -> None:
        self._require_inputs(1)

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]
