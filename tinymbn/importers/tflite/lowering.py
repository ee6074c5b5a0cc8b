"""The graph under construction while a ``.tflite`` is lowered, operator by operator.

The file's shapes have the batch in front, the graph's have not; a legacy file's uint8 tensors are int8 here,
128 lower, zero point included. Both differences end in this module.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.graph import Quant, Tensor
from tinymbn.importers.tflite.file import Operator, TfliteFile
from tinymbn.importers.tflite.tensors import FileTensors, without_batch
from tinymbn.layers import MAX_RANK, AnyLayer, Dequantize, Quantize, Reshape, Shape


class Lowering(FileTensors):
    """Tensors, constants and layers made so far.

    Attributes:
        layers: in running order.
        tensors: the graph's tensors by name.
        constants: int8 constants that layers read.
        space_to_batch: operators of that name, by their output.
        batched_convolution: convolutions of what those make, by their output.
    """

    def __init__(self, file: TfliteFile) -> None:
        super().__init__(file)
        self.layers: list[AnyLayer] = []
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, NDArray[np.int8]] = {}
        self.space_to_batch: dict[int, Operator] = {}
        self.batched_convolution: dict[int, Operator] = {}
        self._int8: dict[int, str] = {}  # the graph's int8 tensor of a file tensor
        self._dequantized: dict[int, str] = {}  # float outputs, by the int8 tensor behind them

    def is_legacy(self, index: int) -> bool:
        """Whether the file has the tensor as uint8."""
        return self.tensor(index).dtype == "uint8"

    def quant(self, index: int) -> Quant:
        """Scale and zero point as int8.

        Raises:
            UnsupportedError: the tensor is not int8 or uint8, or has no or more than one scale.
        """
        tensor = self.tensor(index)
        if tensor.dtype not in ("int8", "uint8"):
            raise UnsupportedError(f'"{tensor.name}" is {tensor.dtype}; tinymbn computes in int8')
        if len(tensor.scales) != 1:
            raise UnsupportedError(f'"{tensor.name}" has {len(tensor.scales)} scales; an activation needs one')
        return Quant(float(tensor.scales[0]), int(tensor.zero_points[0]) - (128 if self.is_legacy(index) else 0))

    # ------------------------------------------------------------------------------- the graph's tensors

    def begin(self, index: int) -> None:
        """Make a file tensor the graph's input."""
        tensor = self.tensor(index)
        self._shapes[index] = tensor.shape
        if tensor.dtype == "int8":
            self._int8[index] = self._declare(tensor.name, without_batch(tensor.shape), self.quant(index))
            return
        if tensor.dtype not in ("uint8", "float32"):
            raise UnsupportedError(f'input "{tensor.name}" is {tensor.dtype}; expected int8, uint8 or float32')
        quant = None
        if tensor.dtype == "uint8":
            q = self.quant(index)
            quant = Quant(q.scale, q.zero_point + 128)
        self._add(Tensor(tensor.name, without_batch(tensor.shape), quant, "uint8" if quant else "float32"))

    def quantize_input(self, output: int) -> None:
        """Let a file's QUANTIZE of the graph's input make its int8 tensor."""
        index = self.file.inputs[0]
        name = self.output(output, self.file_shape(index))
        self._emit_quantize(self.tensor(index).name, name)
        if self.is_legacy(index):
            self._int8[index] = name

    def input(self, index: int) -> Tensor:
        """The int8 tensor that stands for a file tensor.

        Raises:
            UnsupportedError: it is not int8 or uint8.
            ModelError: nothing has made it.
        """
        if index in self._int8:
            return self.tensors[self._int8[index]]
        tensor = self.tensor(index)
        quant = self.quant(index)
        if tensor.values is not None:
            values = tensor.values.reshape(without_batch(tensor.shape))
            name = self._declare(tensor.name, values.shape, quant)
            self.constants[name] = signed(values)
            self._int8[index] = name
        elif index == self.file.inputs[0]:
            name = self._declare(self._invented(f"{tensor.name}/int8"), without_batch(tensor.shape), quant)
            self._emit_quantize(tensor.name, name)
            self._int8[index] = name
        elif index in self.space_to_batch or index in self.batched_convolution:
            raise UnsupportedError(f'"{tensor.name}" is in batches of space, in which convolutions alone are')
        else:
            raise ModelError(f'nothing makes tensor "{tensor.name}"')
        return self.tensors[self._int8[index]]

    def input_as(self, index: int, shape: Shape) -> Tensor:
        """The int8 tensor of a file tensor in another shape: a RESHAPE, where it needs one."""
        tensor = self.input(index)
        return tensor if tensor.shape == shape else self._reshape(tensor, shape, self._invented(tensor.name))

    def output(self, index: int, file_shape: Shape) -> str:
        """Declare the int8 tensor that stands for an operator's output; returns its name."""
        tensor = self.tensor(index)
        if index in self._int8 or index in self._dequantized:
            raise ModelError(f'tensor "{tensor.name}" is made twice')
        # Where the file's tensor is an output of another type, the edge gets its name.
        at_edge = self.is_legacy(index) and index in self.file.outputs
        name = self._invented(f"{tensor.name}/int8") if at_edge else tensor.name
        self._int8[index] = self._declare(name, without_batch(file_shape), self.quant(index))
        self._shapes[index] = file_shape
        return name

    def output_from(self, index: int, file_shape: Shape, shape: Shape) -> tuple[str, str]:
        """As ``output``, for a layer that makes ``shape``, which may differ by sizes of 1.

        Returns:
            What the layer is to write, and a name to give to ``finish``.
        """
        final = self.output(index, file_shape)
        if self.tensors[final].shape == shape:
            return final, final
        return self._declare(self._invented(final), shape, self.quant(index)), final

    def finish(self, written: str, final: str) -> None:
        """Reshape what a layer wrote into the declared output, where they differ."""
        if written != final:
            tensor = self.tensors[final]
            self.layers.append(Reshape(name=final, inputs=(written,), output=final, shape=tensor.shape))

    def scratch(self, name: str, shape: Shape, quant: Quant) -> str:
        """Declare a tensor that the file does not have."""
        return self._declare(self._invented(name), shape, quant)

    def alias(self, index: int, source: int) -> None:
        """Let two file tensors be one int8 tensor."""
        self._int8[index] = self.input(source).name
        self._shapes[index] = self.file_shape(source)

    def dequantize(self, source: int, output: int) -> None:
        """Note that a float output of the graph comes from an int8 tensor."""
        self._dequantized[output] = self.input(source).name
        self._shapes[output] = self.file_shape(source)

    def end(self) -> tuple[str, ...]:
        """Put the edges at the graph's outputs; returns the outputs' names."""
        return tuple(self._edge(index) for index in self.file.outputs)

    def _edge(self, index: int) -> str:
        tensor = self.tensor(index)
        if index in self._dequantized:
            source = self.tensors[self._dequantized[index]]
            edge = Tensor(tensor.name, source.shape, None, "float32")
        elif index == self.file.inputs[0]:
            return tensor.name
        elif tensor.dtype == "uint8":
            source = self.input(index)
            edge = Tensor(tensor.name, source.shape, Quant(source.scale, source.zero_point + 128), "uint8")
        else:
            return self.input(index).name
        if tensor.name not in self.tensors:
            self._add(edge)
            self.layers.append(Dequantize(name=tensor.name, inputs=(source.name,), output=tensor.name))
        return tensor.name

    def _emit_quantize(self, source: str, output: str) -> None:
        self.layers.append(Quantize(name=output, inputs=(source,), output=output))

    def _reshape(self, source: Tensor, shape: Shape, name: str) -> Tensor:
        assert source.quant is not None
        self._declare(name, shape, source.quant)
        self.layers.append(Reshape(name=name, inputs=(source.name,), output=name, shape=shape))
        return self.tensors[name]

    def _invented(self, base: str) -> str:
        return self.new_name(base, self.tensors)

    def _declare(self, name: str, shape: Shape, quant: Quant) -> str:
        if len(shape) > MAX_RANK:
            raise UnsupportedError(f"{len(shape)} axes after the batch; tensors have {MAX_RANK}")
        self._add(Tensor(name, shape, quant))
        return name

    def _add(self, tensor: Tensor) -> None:
        if tensor.name in self.tensors:
            raise ModelError(f'two tensors are called "{tensor.name}"')
        self.tensors[tensor.name] = tensor


def signed(values: NDArray[Any]) -> NDArray[np.int8]:
    """Int8 or uint8 values as int8, uint8 ones 128 lower."""
    if values.dtype == np.uint8:
        return (values ^ np.uint8(0x80)).view(np.int8)
    return np.array(values, np.int8)
