"""What a ``.tflite`` file says, as plain values: the only place that reads the flatbuffer.

A flatbuffer is a web of offsets, and a damaged one may point anywhere. Python's accessors stay inside the bytes;
what is left to do here is to bound every count before looping over it, and to turn every failure into one error.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import tflite
from numpy.typing import NDArray

from tinymbn.errors import ModelError

MAX_FILE_BYTES = 1 << 28
_MAX_OPERATORS = 4096
_MAX_TENSORS = 8192
_MAX_OPERANDS = 256
_MAX_RANK = 8
_MAX_NAME = 1024

_TYPES = {number: name.lower() for name, number in vars(tflite.TensorType).items() if isinstance(number, int)}
_OPERATORS = {number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
_OPTION_TYPES = {number: name for name, number in vars(tflite.BuiltinOptions).items() if isinstance(number, int)}
_NUMPY: Mapping[str, np.dtype[Any]] = {
    "int8": np.dtype("int8"),
    "uint8": np.dtype("uint8"),
    "int16": np.dtype("<i2"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
}

_WINDOW = ("Padding", "StrideH", "StrideW")
_POOL = (*_WINDOW, "FilterHeight", "FilterWidth", "FusedActivationFunction")
_DILATION = ("DilationHFactor", "DilationWFactor", "FusedActivationFunction")
# The fields that matter of each operator's options; schema.fbs has them all.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "Conv2DOptions": (*_WINDOW, *_DILATION),
    "DepthwiseConv2DOptions": (*_WINDOW, *_DILATION),
    "FullyConnectedOptions": ("FusedActivationFunction", "WeightsFormat", "KeepNumDims"),
    "Pool2DOptions": _POOL,
    "ReducerOptions": ("KeepDims",),
    "AddOptions": ("FusedActivationFunction",),
    "MulOptions": ("FusedActivationFunction",),
    "SubOptions": ("FusedActivationFunction",),
    "DivOptions": ("FusedActivationFunction",),
    "SoftmaxOptions": ("Beta",),
    "ConcatenationOptions": ("Axis", "FusedActivationFunction"),
    "PackOptions": ("Axis",),
    "GatherOptions": ("Axis", "BatchDims"),
    "ReshapeOptions": ("NewShapeAsNumpy",),
    "SqueezeOptions": ("SqueezeDimsAsNumpy",),
    "ResizeNearestNeighborOptions": ("AlignCorners", "HalfPixelCenters"),
    "StridedSliceOptions": ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask"),
}


@dataclass(frozen=True, eq=False)
class FileTensor:
    """A tensor as the file has it.

    Attributes:
        name: unique in the file; made so where it is not.
        shape: with the batch; what ``shape_signature`` leaves open is 1.
        open_axes: the axes that ``shape_signature`` leaves open (-1).
        dtype: "int8", "uint8", "int32", "float32", ... in schema.fbs's words.
        scales: float32, empty if the tensor is not quantised.
        zero_points: int64, as many as scales, or one for all.
        values: the constant's values in its shape; None for activations.
        sparse: its values are stored in a sparse form.
    """

    name: str
    shape: tuple[int, ...]
    open_axes: tuple[int, ...]
    dtype: str
    scales: NDArray[np.float32]
    zero_points: NDArray[np.int64]
    values: NDArray[Any] | None
    sparse: bool


@dataclass(frozen=True)
class Operator:
    """An operator as the file has it; operands are indices of tensors, -1 is one left out."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class TfliteFile:
    """The main subgraph of a file, and what else is in it."""

    tensors: tuple[FileTensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    metadata: bytes  # TFLITE_METADATA, or empty
    sha256: str


def parse(data: bytes) -> TfliteFile:
    """Read a file's bytes.

    Raises:
        ModelError: they are no sound ``.tflite``.
    """
    if data[4:8] != b"TFL3":
        raise ModelError('not a .tflite model: the identifier "TFL3" is missing')
    try:
        return _parse(data)
    except ModelError:
        raise
    except (
        struct.error,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        AttributeError,
        OverflowError,
    ) as error:
        # What the accessors raise when an offset leads outside, or to something that is not there.
        raise ModelError(f"damaged flatbuffer: {type(error).__name__}: {str(error)[:100]}") from error


def _parse(data: bytes) -> TfliteFile:
    model = tflite.Model.GetRootAs(data, 0)
    _bounded(model.SubgraphsLength(), 1, 1024, "subgraphs")
    graph = model.Subgraphs(0)
    codes = [
        _operator_code(model.OperatorCodes(i))
        for i in range(_bounded(model.OperatorCodesLength(), 0, _MAX_OPERATORS, "operator codes"))
    ]
    count = _bounded(graph.TensorsLength(), 1, _MAX_TENSORS, "tensors")
    tensors: list[FileTensor] = []
    names: set[str] = set()
    for i in range(count):
        tensor = _tensor(model, graph.Tensors(i), i, names)
        names.add(tensor.name)
        tensors.append(tensor)
    return TfliteFile(
        tensors=tuple(tensors),
        operators=tuple(
            _operator(graph.Operators(i), codes, count)
            for i in range(_bounded(graph.OperatorsLength(), 0, _MAX_OPERATORS, "operators"))
        ),
        inputs=_operands(graph.InputsLength(), graph.Inputs, count, "inputs", optional=False),
        outputs=_operands(graph.OutputsLength(), graph.Outputs, count, "outputs", optional=False),
        metadata=_metadata(model),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _bounded(count: int, low: int, high: int, what: str) -> int:
    if not low <= count <= high:
        raise ModelError(f"damaged flatbuffer: {count} {what}; expected {low} to {high}")
    return count


def _operands(length: int, get: Callable[[int], int], tensors: int, what: str, *, optional: bool) -> tuple[int, ...]:
    indices = tuple(int(get(i)) for i in range(_bounded(length, 0, _MAX_OPERANDS, what)))
    for index in indices:
        _bounded(index, -1 if optional else 0, tensors - 1, f"as an index among {what}")
    return indices


def _operator_code(code: Any) -> str:
    # Files before schema version 3a have the code in the old byte alone, newer ones in both. BuiltinCode() of the
    # accessors already chooses, and wrongly where the old byte is left out: read the field itself.
    slot = code._tab.Offset(10)
    new = code._tab.Get(flatbuffers.number_types.Int32Flags, code._tab.Pos + slot) if slot else 0
    number = max(new, code.DeprecatedBuiltinCode())
    name: str = _OPERATORS.get(number, f"operator {number}")
    if name == "CUSTOM":
        return f"CUSTOM {_text(code.CustomCode())}"
    return name


def _text(raw: bytes | None) -> str:
    return (raw or b"")[:_MAX_NAME].decode(errors="replace")


def _operator(operator: Any, codes: list[str], tensors: int) -> Operator:
    index = operator.OpcodeIndex()
    _bounded(index, 0, len(codes) - 1, "as an index of an operator code")
    return Operator(
        code=codes[index],
        inputs=_operands(operator.InputsLength(), operator.Inputs, tensors, "operator inputs", optional=True),
        outputs=_operands(operator.OutputsLength(), operator.Outputs, tensors, "operator outputs", optional=False),
        options=_options(operator),
    )


def _options(operator: Any) -> Mapping[str, Any]:
    kind = _OPTION_TYPES.get(operator.BuiltinOptionsType(), "")
    table = operator.BuiltinOptions()
    if table is None or kind not in _OPTIONS:
        return {}
    options = getattr(tflite, kind)()
    options.Init(table.Bytes, table.Pos)
    values = {}
    for field in _OPTIONS[kind]:
        value = getattr(options, field)()
        if field.endswith("AsNumpy"):
            length = getattr(options, field.replace("AsNumpy", "Length"))()
            value = tuple(int(v) for v in value) if 0 < length <= _MAX_RANK else ()
        values[field.removesuffix("AsNumpy")] = value
    return values


def _tensor(model: Any, tensor: Any, index: int, names: set[str]) -> FileTensor:
    name = _text(tensor.Name()) or f"tensor_{index}"
    if name in names:
        name = f"{name}#{index}"
    rank = _bounded(tensor.ShapeLength(), 0, _MAX_RANK, f'dimensions of tensor "{name}"')
    shape = [int(tensor.Shape(axis)) for axis in range(rank)]
    open_axes: tuple[int, ...] = ()
    if tensor.ShapeSignatureLength() == rank:
        open_axes = tuple(axis for axis in range(rank) if tensor.ShapeSignature(axis) == -1)
    values = _values(model, tensor, name, shape, _TYPES.get(tensor.Type(), ""))
    shape = [1 if size == -1 or axis in open_axes else size for axis, size in enumerate(shape)]
    dtype = _TYPES.get(tensor.Type(), f"type {tensor.Type()}")
    scales, zero_points = _quantization(tensor, name)
    return FileTensor(
        name=name,
        shape=tuple(shape),
        open_axes=open_axes,
        dtype=dtype,
        scales=scales,
        zero_points=zero_points,
        values=values,
        sparse=tensor.Sparsity() is not None,
    )


def _quantization(tensor: Any, name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    quantization = tensor.Quantization()
    if quantization is None or quantization.ScaleLength() == 0:
        return np.zeros(0, np.float32), np.zeros(0, np.int64)
    # Views of the file, not copies: thousands of tensors of a damaged file may share one long vector.
    scales = quantization.ScaleAsNumpy()
    zero_points = np.zeros(1, np.int64)
    if quantization.ZeroPointLength() > 0:
        zero_points = quantization.ZeroPointAsNumpy()
    if len(zero_points) not in (1, len(scales)):
        raise ModelError(f'tensor "{name}" has {len(scales)} scales and {len(zero_points)} zero points')
    return scales, zero_points


def _values(model: Any, tensor: Any, name: str, shape: list[int], dtype: str) -> NDArray[Any] | None:
    index = tensor.Buffer()
    if not 0 < index < model.BuffersLength():
        return None
    buffer = model.Buffers(index)
    if dtype not in _NUMPY or tensor.Sparsity() is not None:
        return None
    if buffer.DataLength() == 0:
        # An empty list of axes is a constant; an activation has no data either, but has elements.
        return np.zeros(shape, _NUMPY[dtype]) if min(shape, default=1) == 0 else None
    raw = buffer.DataAsNumpy()
    elements = 1
    for size in shape:
        elements *= size
    if min(shape, default=1) < 0 or elements * _NUMPY[dtype].itemsize != len(raw):
        raise ModelError(f'tensor "{name}" has {len(raw)} bytes of data; its type {dtype} {tuple(shape)} needs others')
    values: NDArray[Any] = raw.view(_NUMPY[dtype]).reshape(shape)
    return values


def _metadata(model: Any) -> bytes:
    for i in range(_bounded(model.MetadataLength(), 0, 1024, "metadata entries")):
        entry = model.Metadata(i)
        if entry.Name() == b"TFLITE_METADATA" and 0 < entry.Buffer() < model.BuffersLength():
            buffer = model.Buffers(entry.Buffer())
            if buffer.DataLength() > 0:
                content: bytes = buffer.DataAsNumpy().tobytes()
                return content
    return b""
