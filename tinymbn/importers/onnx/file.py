"""What an ``.onnx`` file says, as plain values: the only place that reads the protobuf."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError, ToolError, UnsupportedError
from tinymbn.files import read_file, require_file

if TYPE_CHECKING:
    import onnx

Values = NDArray[Any]

# Types whose values are numbers of NumPy, by the names of onnx.TensorProto.DataType.
NUMBERS = ("FLOAT", "FLOAT16", "DOUBLE", "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "BOOL")

_MAX_FILE_BYTES = 1 << 30
_MAX_NODES = 1 << 13
_MAX_RANK = 8


@dataclass(frozen=True)
class Node:
    """An operator as the file has it.

    Attributes:
        name: unique in the file; that of its first output where it has none.
        op: its type, such as "Conv"; of a domain that is not ONNX's own with the domain in front.
        inputs: names of tensors; empty for one left out.
        outputs: likewise.
        attributes: numbers, texts, tensors and lists of numbers; others are left out.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def output(self) -> str:
        """The first one."""
        return self.outputs[0]


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """The main graph of a file.

    Attributes:
        nodes: in running order.
        constants: the initializers by name.
        input: the name of the one input.
        input_shape: with the batch; None for a size that is left open.
        input_type: such as "FLOAT".
        outputs: names.
        opset: of ONNX's own operators.
        sha256: of the file, without what lies next to it.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Values]
    input: str
    input_shape: tuple[int | None, ...]
    input_type: str
    outputs: tuple[str, ...]
    opset: int
    sha256: str


def read_onnx(path: str | os.PathLike[str]) -> OnnxFile:
    """Read a file, and the weights that a file next to it may hold.

    Raises:
        ToolError: onnx is not installed.
        UnsupportedError: several inputs, or an input that is no tensor of numbers.
        ModelError: the file is missing or damaged, or names weights that do not lie next to it.
    """
    path = Path(path)
    data = read_file(path, ModelError, _MAX_FILE_BYTES)
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise ToolError("reading ONNX models: onnx is not installed: pip install 'tinymbn[onnx]'") from None
    try:
        return _read(onnx.ModelProto.FromString(data), path.parent, hashlib.sha256(data).hexdigest())
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error
    except (DecodeError, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise ModelError(f"{path}: damaged, or not an ONNX model: {str(error)[:200]}") from error


def _read(model: onnx.ModelProto, folder: Path, sha256: str) -> OnnxFile:
    graph = model.graph
    if not graph.node:
        raise ModelError("damaged, or not an ONNX model: it has no nodes")
    if len(graph.node) > _MAX_NODES:
        raise UnsupportedError(f"{len(graph.node)} nodes; expected at most {_MAX_NODES}")
    if graph.sparse_initializer:
        raise UnsupportedError("sparse weights")
    constants = {_text(tensor.name): _values(tensor, folder) for tensor in graph.initializer}
    inputs = [value for value in graph.input if _text(value.name) not in constants]  # old files list weights, too
    if len(inputs) != 1:
        raise UnsupportedError(f"{len(inputs)} inputs; tinymbn runs models of one")
    if not graph.output:
        raise ModelError("the model has no outputs")
    name = _text(inputs[0].name)
    if not inputs[0].type.HasField("tensor_type"):
        raise UnsupportedError(f'input "{name}" is no tensor')
    tensor = inputs[0].type.tensor_type
    if not tensor.HasField("shape"):
        raise UnsupportedError(f'input "{name}" has no shape: export the model again with one')
    if len(tensor.shape.dim) > _MAX_RANK:
        raise UnsupportedError(f'input "{name}" has {len(tensor.shape.dim)} axes')
    own = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    names: set[str] = set()
    return OnnxFile(
        nodes=tuple(_node(node, names, folder) for node in graph.node),
        constants=constants,
        input=name,
        input_shape=tuple(dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim),
        input_type=_type_name(tensor.elem_type),
        outputs=tuple(_text(value.name) for value in graph.output),
        opset=max(own, default=1),
        sha256=sha256,
    )


def _type_name(number: int) -> str:
    import onnx

    known = number in onnx.TensorProto.DataType.values()
    return str(onnx.TensorProto.DataType.Name(number)) if known else f"type {number}"


def _node(node: onnx.NodeProto, names: set[str], folder: Path) -> Node:
    """A node; its name joins ``names``."""
    op, inputs, outputs = _text(node.op_type), tuple(map(_text, node.input)), tuple(map(_text, node.output))
    base = name = _text(node.name) or next(iter(outputs), "") or op
    while name in names:
        name = f"{base}#{len(names)}" if name == base else f"{name}'"
    names.add(name)
    foreign = "" if node.domain in ("", "ai.onnx") else f"{_text(node.domain)}."
    return Node(name, foreign + op, inputs, outputs, _attributes(node, folder))


def _text(text: str | bytes) -> str:
    """A text, which the protobuf has as bytes where it is no UTF-8."""
    return text if isinstance(text, str) else text.decode(errors="replace")


def _attributes(node: onnx.NodeProto, folder: Path) -> Mapping[str, Any]:
    import onnx

    kinds = onnx.AttributeProto
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        name = _text(attribute.name)
        match attribute.type:
            case kinds.FLOAT:
                found[name] = attribute.f
            case kinds.INT:
                found[name] = attribute.i
            case kinds.STRING:
                found[name] = _text(attribute.s)
            case kinds.TENSOR:
                found[name] = _values(attribute.t, folder)
            case kinds.FLOATS:
                found[name] = tuple(attribute.floats)
            case kinds.INTS:
                found[name] = tuple(attribute.ints)
    return found


def _values(tensor: onnx.TensorProto, folder: Path) -> Values:
    """A tensor's values, read-only; raises ModelError or UnsupportedError with its name."""
    import onnx

    kind = _type_name(tensor.data_type)
    try:
        if kind not in NUMBERS:
            raise UnsupportedError(f"its type is {kind}; expected one of {', '.join(NUMBERS)}")
        if any(size < 0 for size in tensor.dims) or len(tensor.dims) > _MAX_RANK:
            raise ModelError(f"its shape is {tuple(tensor.dims)}")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).newbyteorder("<")
            where = {_text(entry.key): _text(entry.value) for entry in tensor.external_data}
            values = _external(where, tensor.dims, dtype, folder)
        else:
            values = np.asarray(onnx.numpy_helper.to_array(tensor))
    except ModelError as error:
        raise type(error)(f'tensor "{_text(tensor.name)}": {error}') from error
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f'tensor "{_text(tensor.name)}": damaged: {str(error)[:100]}') from error
    values.setflags(write=False)
    return values


def _external(where: Mapping[str, str], shape: Iterable[int], dtype: np.dtype[Any], folder: Path) -> Values:
    """Values that lie in a file of their own, which has to be in the model's folder and no link to elsewhere."""
    name = where.get("location", "")
    if not name or name in (".", "..") or Path(name).name != name or "\\" in name or ":" in name or "\0" in name:
        raise ModelError(f"its values are in {name!r}; expected a file in the model's own folder")
    path, shape = folder / name, tuple(shape)
    if path.is_symlink():
        raise ModelError(f"its values are in {name!r}, which is a link; expected a file in the model's own folder")
    size = require_file(path, ModelError)
    offset, length = int(where.get("offset", 0)), math.prod(shape) * dtype.itemsize
    if int(where.get("length", length)) != length or not 0 <= offset <= offset + length <= min(size, _MAX_FILE_BYTES):
        raise ModelError(f"{path}: {size} bytes; expected {length} from {offset} on")
    try:
        return np.fromfile(path, dtype, math.prod(shape), offset=offset).reshape(shape)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
