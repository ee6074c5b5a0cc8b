"""The float graph under construction while a model of Keras is lowered, layer by layer.

A layer is known by its name; one of a model within the model by both names, with a slash between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.keras.file import Config, KerasFile, arrays_by_layer
from tinymbn.importers.pixels import guessed_preprocessing
from tinymbn.importers.scaling import scaled
from tinymbn.importers.weights import Array
from tinymbn.layers import Padding, Shape, Window, same_padding
from tinymbn.quantize import AnyFloatLayer, FloatGraph, FloatLogistic, FloatSoftmax, Relu


class KerasLowering:
    """Tensors and layers made so far.

    Attributes:
        problems: what is not supported, a line a layer; shapes are not known after the first.
        input: the graph's input; empty until there is one.
    """

    def __init__(self, file: KerasFile) -> None:
        self.problems: list[str] = []
        self.input = ""
        self._arrays = arrays_by_layer(file)
        self._layers: list[AnyFloatLayer] = []
        self._shapes: dict[str, Shape] = {}
        # What stands for the output of a layer that computes nothing; and zeros around it that a window takes in.
        self._tensor: dict[str, str] = {}
        self._zeros: dict[str, Padding] = {}

    def begin(self, name: str, config: Config) -> None:
        """Make a layer the graph's input."""
        shape = config.get("batch_input_shape") or config["batch_shape"]
        if None in shape[1:]:
            raise UnsupportedError(f'input "{name}" has shape {shape[1:]}; expected fixed sizes')
        if self.input:
            raise UnsupportedError("it has several inputs; expected one")
        self.input = name
        self._tensor[name] = name
        self._shapes[name] = tuple(shape[1:])

    def end(self, name: str, outputs: Sequence[str]) -> FloatGraph:
        """The graph with the outputs of these layers."""
        if not self.input:
            raise ModelError("it has no input layer")
        return FloatGraph(
            name=name,
            input=self.input,
            input_shape=self._shapes[self.input],
            layers=tuple(self._layers),
            outputs=tuple(self.read(output) for output in outputs),
            preprocessing=guessed_preprocessing(self._layers),
        )

    def shape(self, name: str) -> Shape:
        """The shape of what a layer makes, without the batch."""
        return self._shapes[self.tensor(name)]

    def tensor(self, name: str) -> str:
        """The tensor that stands for a layer's output, but for zeros around it."""
        if name not in self._tensor:
            raise ModelError(f'layer "{name}" is read, and nothing before makes it')
        return self._tensor[name]

    def alias(self, name: str, source: str) -> None:
        """Let a layer's output be another's."""
        self._tensor[name] = self.tensor(source)
        self._zeros[name] = self._zeros.get(source, Padding())

    def pad(self, name: str, source: str, zeros: Padding) -> None:
        """Let a layer's output be another's with zeros around it, which a window takes in."""
        self._tensor[name] = self.read(source)
        self._zeros[name] = zeros

    def add(self, layer: AnyFloatLayer, name: str) -> None:
        """Add a layer that makes the tensor of Keras' layer ``name``."""
        self._layers.append(layer)
        self._shapes[layer.output] = layer.output_shape(*(self._shapes[tensor] for tensor in layer.inputs))
        self._tensor[name] = layer.output

    def read(self, source: str) -> str:
        """The tensor that a layer without a window reads."""
        if self._zeros.get(source, Padding()) != Padding():
            raise UnsupportedError("it reads padding, which only a convolution may")
        return self.tensor(source)

    def arrays(self, name: str, *expected: str) -> list[Array]:
        """The weights of a layer: kernel, bias, gamma, ..."""
        found = self._arrays.get(name, {})
        arrays = []
        for number, which in enumerate(expected):
            # By its own name, by that which Keras 3 gives to every kernel, or by its number.
            values = next((found[key] for key in (which, which.rpartition("_")[2], str(number)) if key in found), None)
            if values is None:
                raise ModelError(f'tensor "{name}/{which}" is missing')
            arrays.append(values)
        return arrays

    def window(self, config: Config, kernel: tuple[int, int], source: str) -> Window:
        """The window of a convolution or pool, what stands around its source made its padding."""
        strides, dilation = tuple(config["strides"]), tuple(config.get("dilation_rate", (1, 1)))
        around = self._zeros.get(source, Padding())
        if config["padding"] == "same":
            height, width, _ = self.shape(source)
            size = (height + around.top + around.bottom, width + around.left + around.right)
            around += same_padding(size, kernel, strides, dilation)
        return Window(kernel, strides, dilation, around)

    def finish(self, name: str, activation: str, tensor: str) -> None:
        """What a layer's own activation makes of it."""
        if activation == "linear":
            self._tensor[name] = tensor
        elif activation == "softmax":
            self.add(FloatSoftmax(f"{name}/softmax", (tensor,), name), name)
        elif activation == "sigmoid":
            self.add(FloatLogistic(f"{name}/sigmoid", (tensor,), name), name)
        else:
            self.add(Relu(f"{name}/{activation}", (tensor,), name, activation), name)  # type: ignore[arg-type]

    def scale(self, name: str, source: str, factor: Any, offset: Any) -> None:
        """A layer that multiplies each channel and adds to it; numbers, or one a channel."""
        read = self.read(source)
        channels = self._shapes[read][-1]
        by_channel = (np.broadcast_to(np.asarray(x, np.float32).ravel(), channels) for x in (factor, offset))
        self.add(scaled(name, read, name, *by_channel), name)
