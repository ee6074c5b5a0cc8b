"""The float graph under construction while a float ``.tflite`` is lowered, operator by operator.

The file's shapes have the batch in front, the graph's have not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast, get_args

import numpy as np

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.tflite.file import Operator, TfliteFile
from tinymbn.importers.tflite.operators.operands import constant, fused_activation
from tinymbn.importers.tflite.tensors import FileTensors, without_batch
from tinymbn.importers.weights import Array, finite
from tinymbn.layers import MAX_RANK, Padding, Reshape, Shape
from tinymbn.quantize import AnyFloatLayer, Relu
from tinymbn.quantize.float_layers import FloatActivation


class FloatLowering(FileTensors):
    """Tensors and layers made so far.

    Attributes:
        layers: in running order.
    """

    def __init__(self, file: TfliteFile) -> None:
        super().__init__(file)
        self.layers: list[AnyFloatLayer] = []
        self.shapes: dict[str, Shape] = {}
        self._names: dict[int, str] = {}
        self._padded: dict[int, tuple[int, Padding]] = {}  # what is a tensor with zeros around it

    def begin(self, index: int) -> None:
        """Make a file tensor the graph's input."""
        tensor = self.tensor(index)
        if tensor.dtype != "float32":
            raise UnsupportedError(f'input "{tensor.name}" is {tensor.dtype}; expected float32')
        self._shapes[index] = tensor.shape
        self._names[index] = tensor.name
        self.shapes[tensor.name] = without_batch(tensor.shape)

    def input(self, index: int) -> str:
        """The graph's tensor that stands for a file tensor.

        Raises:
            UnsupportedError: it is a constant, or has zeros around it.
            ModelError: nothing has made it.
        """
        tensor = self.tensor(index)
        if index in self._padded:
            raise UnsupportedError(f'"{tensor.name}" is padding, which only a convolution may read')
        if self.values(index) is not None:
            raise UnsupportedError(f'"{tensor.name}" is constant')
        if index not in self._names:
            raise ModelError(f'nothing makes tensor "{tensor.name}"')
        return self._names[index]

    def padded_input(self, index: int) -> tuple[str, Padding]:
        """As ``input``, and the zeros around it."""
        source, padding = self._padded.get(index, (index, Padding()))
        return self.input(source), padding

    def input_as(self, index: int, shape: Shape) -> str:
        """As ``input``, in another shape: a reshape, where it needs one."""
        name = self.input(index)
        if self.shapes[name] == shape:
            return name
        made = self._invented(name)
        self._append(Reshape(made, (name,), made, shape))
        return made

    def pad(self, index: int, source: int, file_shape: Shape, padding: Padding) -> None:
        """Let a file tensor be another with more zeros around it."""
        before, around = self._padded.get(source, (source, Padding()))
        self._padded[index] = before, around + padding
        self._shapes[index] = file_shape

    def constant(self, index: int, what: str) -> Array:
        """The values of a constant operand.

        Raises:
            UnsupportedError: it is computed at run time, or quantised.
            ModelError: they are not finite.
        """
        values = constant(self, index, what)
        if values.dtype.kind != "f":
            raise UnsupportedError(f"{self.tensor(index).dtype} {what}")
        return np.ascontiguousarray(finite(values, self.tensor(index).name))

    def name(self, op: Operator) -> str:
        """The name of what an operator makes: its layer's too."""
        return self.tensor(op.outputs[0]).name

    def emit(self, op: Operator, file_shape: Shape, layer: AnyFloatLayer) -> None:
        """Add the layer that an operator is, without the activation that is its own.

        That follows as a layer, and a reshape where the file's shape has other sizes of 1; the last makes the tensor.
        """
        index = op.outputs[0]
        tensor, shape = self.tensor(index), without_batch(file_shape)
        if index in self._names or index in self._padded:
            raise ModelError(f'tensor "{tensor.name}" is made twice')
        if len(shape) > MAX_RANK:
            raise UnsupportedError(f"{len(shape)} axes after the batch; tensors have {MAX_RANK}")
        chain = [layer]
        activation = fused_activation(op, *get_args(FloatActivation))
        if activation != "none":
            chain.append(Relu("", ("",), "", cast(FloatActivation, activation)))
        if layer.output_shape(*(self.shapes[name] for name in layer.inputs)) != shape:
            chain.append(Reshape("", ("",), "", shape))
        name, sources = tensor.name, layer.inputs
        for part in chain:
            output = tensor.name if part is chain[-1] else self._invented(f"{tensor.name}/sums")
            self._append(replace(part, name=name, inputs=sources, output=output))
            name, sources = output, (output,)
        self._names[index] = tensor.name
        self._shapes[index] = file_shape

    def _append(self, layer: AnyFloatLayer) -> None:
        self.layers.append(layer)
        self.shapes[layer.output] = layer.output_shape(*(self.shapes[name] for name in layer.inputs))

    def _invented(self, base: str) -> str:
        return self.new_name(base, self.shapes)
