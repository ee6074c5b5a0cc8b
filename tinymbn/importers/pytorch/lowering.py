"""The float graph under construction while a program of PyTorch is lowered, node by node."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.pytorch.archive import Node, Program, Reference
from tinymbn.importers.pytorch.layout import CHANNELS_LAST, Axes, Value, natural_order
from tinymbn.importers.weights import Array
from tinymbn.layers import Padding, Reshape, Shape
from tinymbn.quantize import AnyFloatLayer

_TO_CHANNELS_FIRST = [0, 3, 1, 2]  # what a permute makes of (N, H, W, C)
_MAX_ELEMENTS = 1 << 26  # of a tensor: 4096x4096 pixels
_MAX_WEIGHTS = 1 << 28  # in all layers; a file may name the same ones any number of times


class Lowering:
    """Tensors and layers made so far.

    Attributes:
        program: what is lowered.
        layers: in running order.
        input: the name of the one input.
        shapes: of the float graph's tensors.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.layers: list[AnyFloatLayer] = []
        self.shapes: dict[str, Shape] = {}
        self._values: dict[str, Value] = {}
        # Parameters that were transposed and the like: the name in the program, and what the axes have become.
        self._turned: dict[str, tuple[str, Axes]] = {}
        self._changed: dict[str, str] = {}  # views that are no more what they were, by the node that changed them
        self._names = {node.name for node in program.nodes}  # that layers have, or may get
        self._taken = 0  # weights
        self.input = self._begin()

    def _begin(self) -> str:
        if len(self.program.inputs) != 1:
            raise UnsupportedError(f"it has {len(self.program.inputs)} inputs; expected one")
        name = self.program.inputs[0]
        shape = self.program.shape(name)
        if not self.program.is_float(name):
            raise UnsupportedError(f'input "{name}" is not float32')
        if len(shape) < 2 or shape[0] != 1 or min(shape) < 1:
            raise UnsupportedError(f'input "{name}" has shape {shape}; expected a batch of 1, as (1, C, H, W)')
        if math.prod(shape) > _MAX_ELEMENTS:
            raise UnsupportedError(f'input "{name}" has shape {shape}; expected at most {_MAX_ELEMENTS} elements')
        order = natural_order(shape)
        if len(shape) == 4 and not self._is_turned(name):
            order = CHANNELS_LAST
        value = self._values[name] = Value(name, shape, order, name)
        self.shapes[name] = value.graph_shape
        return name

    def _is_turned(self, name: str) -> bool:
        """Whether the program itself makes a tensor (N, C, H, W) out of (N, H, W, C)."""
        readers = [node for node in self.program.nodes if node.get("self") == Reference(name)]
        return any(
            node.operator == "aten.permute.default" and node.get("dims") == _TO_CHANNELS_FIRST for node in readers
        )

    def output(self, name: str) -> str:
        """The float graph's tensor of an output."""
        value = self.read(Reference(name))
        if value.columns is not None or value.order not in (natural_order(value.shape), CHANNELS_LAST):
            raise UnsupportedError(f'output "{name}" is a map whose axes were moved or flattened; expected scores')
        return value.tensor

    # ------------------------------------------------------------------------------- what nodes read

    def value(self, read: Any) -> Value:
        """A tensor that is computed."""
        if not isinstance(read, Reference):
            raise UnsupportedError(f"it reads {str(read)[:40]}; expected a tensor")
        if read.name in self._changed:
            raise UnsupportedError(f"it reads {read.name}, which {self._changed[read.name]} has changed in its place")
        if read.name not in self._values:
            raise UnsupportedError(
                f"it reads {read.name}, " + ("a constant" if self.is_constant(read) else "which is not known")
            )
        return self._values[read.name]

    def read(self, read: Any) -> Value:
        """What a node without a window reads."""
        value = self.value(read)
        if value.around != Padding():
            raise UnsupportedError("it reads padding, which only a convolution may")
        return value

    def map(self, read: Any) -> Value:
        """What a node with a window reads."""
        value = self.value(read)
        if not value.is_map:
            raise UnsupportedError(f"it reads {value.shape} with axes that were moved; expected a map (1, C, H, W)")
        return value

    def is_constant(self, read: Any) -> bool:
        """Whether what a node reads is a parameter."""
        return isinstance(read, Reference) and (read.name in self.program.parameters or read.name in self._turned)

    def _parameter(self, read: Any) -> tuple[str, Axes]:
        """The name of a parameter in the program, and its axes as they have become; empty if as they were."""
        if not self.is_constant(read):
            raise UnsupportedError("its weights are computed; expected parameters")
        return self._turned.get(read.name, (read.name, ()))

    def weights(self, read: Any) -> Array:
        """The values of a parameter."""
        name, axes = self._parameter(read)
        values = self.program.weights(name)
        self._taken += values.size
        if self._taken > _MAX_WEIGHTS:
            raise ModelError(f"over {_MAX_WEIGHTS} weights")
        return values.transpose(axes) if axes else values

    def by_channel(self, read: Any, channels: int, default: float) -> Array:
        """The values of a parameter of one axis; ``default`` where there is none."""
        if read is None:
            return np.full(channels, default, np.float32)
        values = self.weights(read)
        if values.shape != (channels,):
            name = self.program.parameters[self._parameter(read)[0]]
            raise ModelError(f'tensor "{name}" has shape {values.shape}; expected ({channels},)')
        return values

    def module(self, node: Node, read: Any) -> str:
        """The name of the module whose parameter a node reads; the node's own where that is taken."""
        name = self.program.parameters[self._parameter(read)[0]].rpartition(".")[0]
        if not name or name in self._names:
            return node.name
        self._names.add(name)
        return name

    # ------------------------------------------------------------------------------- what nodes make

    def emit(self, node: Node, layer: AnyFloatLayer, order: Axes, columns: NDArray[np.int64] | None = None) -> Value:
        """Add the layer that makes a node's output, whose axes lie in this order."""
        if not self.program.is_float(node.output):
            raise UnsupportedError("it makes another type than float32")
        value = Value(layer.output, self.program.shape(node.output), order, node.output, columns)
        made = layer.output_shape(*(self.shapes[name] for name in layer.inputs))
        if made != value.graph_shape:
            raise ModelError(f'layer "{layer.name}": {layer.kind}: it makes {made}, and the file has {value.shape}')
        if math.prod(made) > _MAX_ELEMENTS:
            raise UnsupportedError(f"it makes {made}; expected at most {_MAX_ELEMENTS} elements")
        self.layers.append(layer)
        self.shapes[layer.output] = made
        return value

    def reshape(self, node: Node, x: Value) -> Value:
        """What a node makes that only gives x another shape."""
        value = x.reshaped(self.program.shape(node.output))
        if value.graph_shape == self.shapes[x.tensor]:
            return value
        layer = Reshape(node.name, (x.tensor,), node.output, value.graph_shape)
        return replace(self.emit(node, layer, value.order, value.columns), memory=x.memory)

    def turn(self, node: Node, read: Reference, axes: Axes) -> None:
        """Let a node's output be a parameter with its axes in another order."""
        name, before = self._parameter(read)
        self._turned[node.output] = (name, tuple(before[axis] for axis in axes) if before else axes)

    def stand_in(self, node: Node) -> Value:
        """A tensor in place of what cannot be computed, so that what follows can be looked at."""
        shape = self.program.shape(node.output)
        order = CHANNELS_LAST if len(shape) == 4 and shape[0] == 1 else natural_order(shape)
        value = Value(node.output, shape, order, node.output)
        self.shapes[node.output] = value.graph_shape
        return value

    def keep(self, node: Node, made: Value, changes: Reference | None) -> None:
        """Let a value be a node's output, and what the node changes in its place, by whatever name that is read."""
        if changes is not None:
            before = self.value(changes)
            made = replace(made, memory=before.memory)
            for name, other in list(self._values.items()):
                if other.memory == before.memory and replace(other, columns=None) == replace(before, columns=None):
                    self._values[name] = made
                elif other.memory == before.memory:
                    self._changed[name] = node.name
        self._values[node.output] = made
