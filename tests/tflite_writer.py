"""Writes small .tflite files, so that tests can ask for any operator with any shape, scale and option."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import flatbuffers
import numpy as np
import tflite
from numpy.typing import ArrayLike, NDArray

# Which union member holds the options of an operator; those not named here have none.
_OPTIONS = {
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DIV": "DivOptions",
    "EXPAND_DIMS": "ExpandDimsOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GATHER": "GatherOptions",
    "HARD_SWISH": "HardSwishOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MUL": "MulOptions",
    "PACK": "PackOptions",
    "PAD": "PadOptions",
    "PADV2": "PadV2Options",
    "QUANTIZE": "QuantizeOptions",
    "REDUCE_MAX": "ReducerOptions",
    "RESHAPE": "ReshapeOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SHAPE": "ShapeOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SQUEEZE": "SqueezeOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "TRANSPOSE": "TransposeOptions",
}

_TYPES = {
    "float16": tflite.TensorType.FLOAT16,
    "float32": tflite.TensorType.FLOAT32,
    "int32": tflite.TensorType.INT32,
    "uint8": tflite.TensorType.UINT8,
    "int64": tflite.TensorType.INT64,
    "int16": tflite.TensorType.INT16,
    "int8": tflite.TensorType.INT8,
}

# Enumerations among the options, by the name of the option.
_ENUMERATIONS = {
    "padding": tflite.Padding,
    "fused_activation_function": tflite.ActivationFunctionType,
    "out_type": tflite.TensorType,
}


@dataclass(frozen=True)
class TensorEntry:
    """A tensor to be written."""

    name: str
    shape: Sequence[int]
    dtype: str
    scale: Sequence[float]
    zero_point: Sequence[int]
    dimension: int
    signature: Sequence[int] | None
    data: bytes | None


@dataclass(frozen=True)
class OperatorEntry:
    """An operator to be written."""

    kind: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: dict[str, Any]


@dataclass
class TfliteWriter:
    """A model of one subgraph that grows by tensors and operators; both are known by their index.

    Attributes:
        codes: where the operator's code stands: "both" (converters since 2020), "deprecated" alone (older
            ones), or "builtin" alone.
        tensors, operators: what has been added; an index is a place in them.
    """

    codes: Literal["both", "deprecated", "builtin"] = "both"
    tensors: list[TensorEntry] = field(default_factory=list)
    operators: list[OperatorEntry] = field(default_factory=list)

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "int8",
        *,
        scale: float | Sequence[float] = (),
        zero_point: int | Sequence[int] = (),
        dimension: int = 0,
        signature: Sequence[int] | None = None,
        data: bytes | None = None,
    ) -> int:
        """Adds a tensor, shape with the batch; one scale is per tensor, several are per ``dimension``."""
        scales = [scale] if isinstance(scale, float | int | np.floating) else list(scale)
        zeros = [zero_point] if isinstance(zero_point, int | np.integer) else list(zero_point)
        if scales and not zeros:
            zeros = [0] * len(scales)
        self.tensors.append(TensorEntry(name, shape, dtype, scales, zeros, dimension, signature, data))
        return len(self.tensors) - 1

    def constant(self, name: str, values: ArrayLike, dtype: str | None = None, **quantization: Any) -> int:
        """Adds a tensor with data; integers without a type are int32, as TFLite's shapes and axes are."""
        array: NDArray[Any] = np.asarray(values)
        if dtype is not None:
            array = array.astype(dtype)
        elif not isinstance(values, np.ndarray | np.generic):
            array = array.astype(np.int32)
        return self.tensor(name, array.shape, str(array.dtype), data=array.tobytes(), **quantization)

    def operator(self, kind: str, inputs: int | Sequence[int], outputs: int | Sequence[int], **options: Any) -> None:
        """Adds an operator; ``kind`` as in the schema, options by their schema names, input -1 is absent."""
        ins = [inputs] if isinstance(inputs, int) else list(inputs)
        outs = [outputs] if isinstance(outputs, int) else list(outputs)
        self.operators.append(OperatorEntry(kind, ins, outs, options))

    def build(self, inputs: int | Sequence[int], outputs: int | Sequence[int]) -> bytes:
        """Returns the file that takes and gives these tensors."""
        b = flatbuffers.Builder(1024)
        kinds = sorted({operator.kind for operator in self.operators})
        tensors = [self._tensor(b, tensor, buffer=i + 1) for i, tensor in enumerate(self.tensors)]
        operators = [self._operator(b, operator, kinds.index(operator.kind)) for operator in self.operators]
        subgraph = _table(
            b,
            "SubGraph",
            Tensors=_offsets(b, tensors),
            Inputs=_int32s(b, [inputs] if isinstance(inputs, int) else inputs),
            Outputs=_int32s(b, [outputs] if isinstance(outputs, int) else outputs),
            Operators=_offsets(b, operators),
        )
        # Buffer 0 is empty by convention; tensor i has buffer i + 1.
        buffers = [_buffer(b, None), *(_buffer(b, tensor.data) for tensor in self.tensors)]
        model = _table(
            b,
            "Model",
            Version=3,
            OperatorCodes=_offsets(b, [self._operator_code(b, kind) for kind in kinds]),
            Subgraphs=_offsets(b, [subgraph]),
            Description=b.CreateString("made by tests/tflite_writer.py"),
            Buffers=_offsets(b, buffers),
        )
        b.Finish(model, file_identifier=b"TFL3")
        return bytes(b.Output())

    def _operator_code(self, b: Any, kind: str) -> int:
        code = getattr(tflite.BuiltinOperator, kind)
        # The old field is one byte; newer codes leave 127 there.
        old = {"DeprecatedBuiltinCode": min(code, 127)} if self.codes != "builtin" else {}
        new = {"BuiltinCode": code} if self.codes != "deprecated" else {}
        return _table(b, "OperatorCode", Version=1, **old, **new)

    def _tensor(self, b: Any, tensor: TensorEntry, buffer: int) -> int:
        fields: dict[str, Any] = {}
        if tensor.scale:
            fields["Quantization"] = _table(
                b,
                "QuantizationParameters",
                Scale=b.CreateNumpyVector(np.array(tensor.scale, np.float32)),
                ZeroPoint=b.CreateNumpyVector(np.array(tensor.zero_point, np.int64)),
                QuantizedDimension=tensor.dimension,
            )
        if tensor.signature is not None:
            fields["ShapeSignature"] = _int32s(b, tensor.signature)
        return _table(
            b,
            "Tensor",
            Shape=_int32s(b, tensor.shape),
            Type=_TYPES[tensor.dtype],
            Buffer=buffer,
            Name=b.CreateString(tensor.name),
            **fields,
        )

    def _operator(self, b: Any, operator: OperatorEntry, code: int) -> int:
        fields: dict[str, Any] = {}
        if operator.kind in _OPTIONS:
            name = _OPTIONS[operator.kind]
            options: dict[str, Any] = {}
            for key, value in operator.options.items():
                if isinstance(value, str):
                    value = getattr(_ENUMERATIONS[key], value)
                elif isinstance(value, list | tuple):
                    value = _int32s(b, value)
                options["".join(word.capitalize() for word in key.split("_"))] = value
            fields = {
                "BuiltinOptionsType": getattr(tflite.BuiltinOptions, name),
                "BuiltinOptions": _table(b, name, **options),
            }
        return _table(
            b,
            "Operator",
            OpcodeIndex=code,
            Inputs=_int32s(b, operator.inputs),
            Outputs=_int32s(b, operator.outputs),
            **fields,
        )


def _table(b: Any, name: str, **fields: Any) -> int:
    """Writes a table with the builder functions that the ``tflite`` package generates for each field."""
    getattr(tflite, f"{name}Start")(b)
    for key, value in fields.items():
        getattr(tflite, f"{name}Add{key}")(b, value)
    offset: int = getattr(tflite, f"{name}End")(b)
    return offset


def _offsets(b: Any, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    vector: int = b.EndVector()
    return vector


def _int32s(b: Any, values: Sequence[int]) -> int:
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependInt32(int(value))
    vector: int = b.EndVector()
    return vector


def _buffer(b: Any, data: bytes | None) -> int:
    if data is None:
        return _table(b, "Buffer")
    return _table(b, "Buffer", Data=b.CreateNumpyVector(np.frombuffer(data, np.uint8)))
