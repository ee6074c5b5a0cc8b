"""Reads what ``torch.export.save`` writes, without PyTorch: a zip of JSON, and of weights as they lie in memory.

PyTorch's own reader unpickles the sample inputs and whatever the file says is pickled; here nothing is. All
that a file says of sizes is held against its bytes.

Source: pytorch/pytorch, torch/export/pt2_archive and torch/_export/serde/schema.py, schema version 8,
of PyTorch 2.9 and later.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.archive import RECORD_BYTES, directory_bytes, stored_members
from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.weights import Array, finite
from tinymbn.layers import Shape

_SCHEMA = 8
_MAX_DIRECTORY_BYTES = 1 << 22
_MAX_JSON_BYTES = 1 << 24  # half a megabyte for MobileNetV2, most of it where in Python a layer was called
_MAX_JSON_VALUES = 1_000_000  # each takes up to 100 bytes once it is parsed
_MAX_NODES = 10_000
_FLOATS = {6: "<f2", 7: "<f4", 8: "<f8"}  # schema.py, ScalarType
_FLOAT = 7
# What reading JSON of another form than PyTorch's ends in.
DAMAGE = (KeyError, ValueError, TypeError, AttributeError, IndexError, RecursionError, ArithmeticError)


@dataclass(frozen=True)
class Reference:
    """A tensor that a node reads, by its name in the program."""

    name: str


@dataclass(frozen=True)
class Node:
    """One call of an operator.

    Attributes:
        name: of the node.
        operator: such as "aten.conv2d.default".
        arguments: by their names in the operator's declaration; what has its default may be missing.
        output: the tensor that it makes, the first if there are several; empty if there is none.
    """

    name: str
    operator: str
    arguments: Mapping[str, Any]
    output: str

    def get(self, name: str, default: Any = None) -> Any:
        """An argument, or its default."""
        return self.arguments.get(name, default)


@dataclass(frozen=True)
class Program:
    """A network as a list of calls.

    Attributes:
        inputs: tensors that a caller gives.
        outputs: tensors that a caller gets.
        nodes: in running order.
        parameters: what the network's state_dict calls a tensor, by its name in the program.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    parameters: Mapping[str, str]
    _metas: Mapping[str, Any]
    _payloads: Mapping[str, tuple[Any, bytes]]

    def is_float(self, name: str) -> bool:
        """Whether a tensor is float32."""
        return bool(self._metas[name]["dtype"] == _FLOAT)

    def shape(self, name: str) -> Shape:
        """The shape of a tensor, with the batch, which is 1 where it is open.

        Raises:
            UnsupportedError: another size is open.
        """
        sizes = self._metas[name]["sizes"]
        if any("as_expr" in size for size in sizes[1:]):
            raise UnsupportedError(f'"{name}" has a size that is open; expected one that is fixed when it is exported')
        return tuple(1 if "as_expr" in size else _whole(size["as_int"]) for size in sizes)

    def weights(self, name: str) -> Array:
        """The values of a parameter or constant, float32, in PyTorch's order of axes.

        Raises:
            ModelError: its bytes are not there, or do not fit its shape, or are not finite numbers.
            UnsupportedError: it is of another type, or pickled.
        """
        known_as = self.parameters[name]
        payload, data = self._payloads[known_as]
        if payload["use_pickle"]:
            raise UnsupportedError(f'tensor "{known_as}" is pickled, which could run anything')
        meta = payload["tensor_meta"]
        if meta["dtype"] not in _FLOATS:
            raise UnsupportedError(f'tensor "{known_as}" is not of float16, float32 or float64')
        return finite(_strided(known_as, meta, np.frombuffer(data, _FLOATS[meta["dtype"]])), known_as)


def is_exported(data: bytes) -> bool:
    """Whether a file with these bytes is one of ``torch.export.save``."""
    try:
        return _root(_members(data)) is not None
    except ModelError:
        return False


def read_program(data: bytes) -> Program:
    """The program in a file of ``torch.export.save``.

    Raises:
        ModelError: the file is damaged.
        UnsupportedError: it is of a version of the format that tinymbn does not read.
        KeyError, ValueError, TypeError and others of ``DAMAGE``: its JSON is not as PyTorch writes it.
    """
    return _program(_members(data))


def _members(data: bytes) -> dict[str, bytes]:
    """The files in the zip, by name."""
    directory = directory_bytes(data[-RECORD_BYTES:])
    if directory is None:
        raise ModelError("damaged, or not a file of torch.export.save: it does not end as a zip does")
    if directory > _MAX_DIRECTORY_BYTES:
        raise ModelError(f"its directory takes {directory} bytes; expected at most {_MAX_DIRECTORY_BYTES}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {info.filename: archive.read(info) for info in stored_members(archive, len(data))}
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"damaged, or not a file of torch.export.save: {str(error)[:200]}") from error


def _root(members: Mapping[str, bytes]) -> str | None:
    """The folder in the zip that everything is in, with its slash; None in a zip of another kind."""
    for name, content in members.items():
        root, _, file = name.rpartition("/")
        if file == "archive_format" and content == b"pt2":
            return f"{root}/" if root else ""
    return None


def _program(members: Mapping[str, bytes]) -> Program:
    root = _root(members)
    if root is None:
        if "serialized_exported_program.json" in members:
            raise UnsupportedError("a file as PyTorch 2.7 and older wrote it; save it with PyTorch 2.9 or later")
        raise ModelError("not a file of torch.export.save: it has no archive_format")
    if members.get(f"{root}byteorder", b"little") != b"little":
        raise UnsupportedError("its weights are big-endian; expected little-endian")
    start = f"{root}models/"
    names = [name[len(start) :].removesuffix(".json") for name in members if name.startswith(start)]
    if len(names) != 1:
        raise UnsupportedError(f"{len(names)} programs in one file; expected one of torch.export.save")
    name = names[0]
    if f"{root}data/weights/{name}.pt" in members:
        raise UnsupportedError("a file as PyTorch 2.8 wrote it, its weights pickled; save it with PyTorch 2.9 or later")
    content = _json(members, f"{start}{name}.json")
    version = content["schema_version"]["major"]
    if version != _SCHEMA:
        raise UnsupportedError(f"schema version {str(version)[:20]}; this tinymbn reads version {_SCHEMA}")
    payloads = {
        known_as: (payload, members.get(f"{root}data/{folder}/{payload['path_name']}", b""))
        for folder in ("weights", "constants")
        for known_as, payload in _json(members, f"{root}data/{folder}/{name}_{folder}_config.json")["config"].items()
    }
    module = content["graph_module"]
    signature, graph = module["signature"], module["graph"]
    if len(graph["nodes"]) > _MAX_NODES:
        raise ModelError(f"{len(graph['nodes'])} nodes; expected at most {_MAX_NODES}")
    inputs: list[str] = []
    parameters: dict[str, str] = {}
    for spec in signature["input_specs"]:
        kind, details = _only(spec)
        if kind == "user_input":
            inputs.append(_only(details["arg"])[1]["name"])
        elif kind in ("parameter", "buffer", "tensor_constant"):
            parameters[details["arg"]["name"]] = str(details[f"{kind}_name"])
    made = [spec["user_output"]["arg"] for spec in signature["output_specs"] if "user_output" in spec]
    return Program(
        inputs=tuple(inputs),
        outputs=tuple(_only(argument)[1]["name"] for argument in made),
        nodes=tuple(_node(node) for node in graph["nodes"]),
        parameters=parameters,
        _metas=graph["tensor_values"],
        _payloads=payloads,
    )


def _json(members: Mapping[str, bytes], name: str) -> Any:
    if name not in members:
        raise ModelError(f"damaged, or not a file of torch.export.save: it has no {name}")
    text = members[name]
    values = sum(text.count(mark) for mark in (b",", b"[", b"{"))
    if len(text) > _MAX_JSON_BYTES or values > _MAX_JSON_VALUES:
        raise ModelError(
            f"{name}: {len(text)} bytes with {values} values; "
            f"expected at most {_MAX_JSON_BYTES} with {_MAX_JSON_VALUES}"
        )
    return json.loads(text)


def _only(union: Mapping[str, Any]) -> tuple[str, Any]:
    """The kind and content of one of the schema's unions."""
    ((kind, content),) = union.items()
    return kind, content


def _node(node: Mapping[str, Any]) -> Node:
    made = [_only(output) for output in node["outputs"]]
    tensors = [content for kind, content in made if kind == "as_tensor"]
    tensors += [tensor for kind, content in made if kind == "as_tensors" for tensor in content]
    output = str(tensors[0]["name"]) if tensors else ""
    return Node(
        name=str(node.get("name") or output),
        operator=str(node["target"]).removeprefix("torch.ops."),
        arguments={argument["name"]: _argument(argument["arg"]) for argument in node["inputs"]},
        output=output,
    )


def _argument(argument: Mapping[str, Any]) -> Any:
    kind, content = _only(argument)
    if kind == "as_tensor":
        return Reference(content["name"])
    return None if kind == "as_none" else content


def _whole(size: Any) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ModelError(f"size {str(size)[:40]}; expected a whole number")
    return size


def _strided(name: str, meta: Mapping[str, Any], stored: NDArray[Any]) -> NDArray[Any]:
    """The elements that a tensor is of those stored, which it may share with others."""
    shape, strides = ([_whole(size["as_int"]) for size in meta[key]] for key in ("sizes", "strides"))
    offset, elements = _whole(meta["storage_offset"]["as_int"]), math.prod(shape)
    end = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if not 0 < elements <= stored.size or end >= stored.size:
        raise ModelError(f'tensor "{name}" of shape {tuple(shape)} has {stored.size} elements in the file')
    view = np.lib.stride_tricks.as_strided
    return view(stored[offset:], shape, [stride * stored.itemsize for stride in strides], writeable=False)
