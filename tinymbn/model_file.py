"""Reads and writes a Graph as ``.npz``; ``docs/model-format.md`` describes the file.

The reader trusts nothing: sizes are compared with the file before anything is read, nothing is decompressed,
nothing is unpickled, and the Graph checks itself when it is made.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import math
import os
import re
import types
import zipfile
from collections.abc import Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from tinymbn import layers
from tinymbn.archive import RECORD_BYTES, directory_bytes, stored_members
from tinymbn.errors import FloatModelError, ModelError
from tinymbn.files import read_file, write_file
from tinymbn.graph import Graph, Source, Tensor
from tinymbn.preprocessing import Preprocessing

FORMAT = "tinymbn-model"
FLOAT_FORMAT = "tinymbn-float-model"
VERSION = 1
ROUNDING = "double"  # ``fixedpoint.requantize`` rounds twice; ``requantize_once``, of dense layers, once

_HEADER = "header"
_FIELDS = {
    "format",
    "version",
    "rounding",
    "name",
    "source",
    "preprocessing",
    "input",
    "outputs",
    "tensors",
    "constants",
    "layers",
}
_LABELS = "labels"
_MAX_FILE_BYTES = 1 << 28
_MAX_HEADER_BYTES = 4_000_000  # names of tensors are long
_MAX_HEADER_VALUES = 60_000  # a thousand layers; each value takes up to 100 bytes once it is parsed
_MAX_DIRECTORY_BYTES = 1 << 21
_KINDS: dict[str, Any] = {kind.kind: kind for kind in get_args(layers.AnyLayer)}
# What NDArray[...] is made of: an alias of ndarray, from NumPy 2.5 on a type alias of its own.
_ARRAY_HINTS = (np.ndarray, get_origin(NDArray[np.int8]))
_ARRAY_TYPES: Mapping[str, np.dtype[Any]] = {name: np.dtype(name) for name in ("|i1", "<i4", "|u1", "<f4")}
# As NumPy writes it: magic, version 1.0, length, a dictionary, spaces, a line feed.
_NPY_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<dtype>[|<>=\w]{1,8})', 'fortran_order': False, "
    rb"'shape': \((?P<shape>[0-9, ]{0,60})\), \} *\n",
    re.DOTALL,
)


# ---------------------------------------------------------------------------------------------- writing


def save_model(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a graph; the same graph gives the same bytes.

    The file appears whole or not at all.

    Raises:
        ModelError: the header would be too large to be read again.
        OutputError: the file cannot be written.
    """
    write_file(Path(path), to_bytes(graph))


def to_bytes(graph: Graph) -> bytes:
    """The ``.npz`` file of a graph, in memory."""
    arrays: dict[str, NDArray[Any]] = {}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "rounding": ROUNDING,
        "name": graph.name,
        "source": encode(graph.source, "source", arrays),
        "preprocessing": encode(graph.preprocessing, "preprocessing", arrays),
        "input": graph.input,
        "outputs": list(graph.outputs),
        "tensors": [encode(tensor, "", arrays) for tensor in graph.tensors.values()],
        "constants": {
            name: encode(values, f"constant_{i:03}", arrays) for i, (name, values) in enumerate(graph.constants.items())
        },
        "layers": [
            {"kind": layer.kind, **encode(layer, f"layer_{i:03}", arrays)} for i, layer in enumerate(graph.layers)
        ],
    }
    return pack(header, graph.labels, arrays)


def pack(header: Mapping[str, Any], labels: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The ``.npz`` file of a header, labels and the arrays that the header names, in memory.

    Raises:
        ModelError: the header would be too large to be read again.
    """
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    _check_header_size(text)
    lines = "\n".join(labels).encode()
    members = {_HEADER: np.frombuffer(text, np.uint8), _LABELS: np.frombuffer(lines, np.uint8), **arrays}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, values in members.items():
            member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # whatever the machine, so that the bytes are the same
            member.external_attr = 0o644 << 16
            content = io.BytesIO()
            np.lib.format.write_array(content, values, version=(1, 0), allow_pickle=False)
            archive.writestr(member, content.getvalue())
    return file.getvalue()


def fingerprint(graph: Graph) -> str:
    """SHA-256, hexadecimal, of what a chip computes: the same for a model and its import, whatever its labels.

    Names of the model and of its file do not count either; names of layers and what is done to a picture do.
    """
    bare = dataclasses.replace(graph, name="", labels=(), source=Source())
    return hashlib.sha256(to_bytes(bare)).hexdigest()


def encode(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """A value as JSON; arrays go into ``arrays``, under a name made of the path to them."""
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return {"array": path}
    if dataclasses.is_dataclass(value):
        return {
            field.name: encode(getattr(value, field.name), f"{path}.{field.name}", arrays)
            for field in dataclasses.fields(value)
        }
    if isinstance(value, tuple):
        return [encode(item, path, arrays) for item in value]
    return value


# ---------------------------------------------------------------------------------------------- reading


def read_npz(path: str | os.PathLike[str]) -> Graph:
    """The graph in a ``.npz`` file.

    Raises:
        FloatModelError: it holds a float graph.
        ModelError: the file is missing, damaged, foreign, of a future format, or says something impossible.
    """
    path = Path(path)
    data = read_file(path, ModelError, _MAX_FILE_BYTES)
    try:
        arrays = unpack(data)
        header = parse_header(arrays)
        if header["format"] == FLOAT_FORMAT:
            raise FloatModelError
        return _to_graph(header, arrays)
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error


def unpack(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of a ``.npz`` file, of which nothing is trusted.

    Raises:
        ModelError: it is damaged or foreign.
    """
    directory = directory_bytes(data[-RECORD_BYTES:])
    if directory is None or not data.startswith(b"PK\3\4"):
        raise ModelError("damaged, or not a tinymbn model: it does not begin and end as a .npz does")
    if directory > _MAX_DIRECTORY_BYTES:
        raise ModelError(f"its directory takes {directory} bytes; expected at most {_MAX_DIRECTORY_BYTES}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {
                info.filename.removesuffix(".npy"): _read_array(archive, info)
                for info in stored_members(archive, len(data))
            }
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"damaged, or not a tinymbn model: {str(error)[:200]}") from error


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """One ``.npy`` member, as a read-only array that lies in the bytes read."""
    data = archive.read(info)
    # Not NumPy's own reader: it evaluates the header as Python text.
    header = _NPY_HEADER.match(data)
    if header is None or len(header[0]) != 10 + int.from_bytes(data[8:10], "little"):
        raise ModelError(f"member {info.filename!r} is not a .npy array of version 1.0 in C order")
    dtype = _ARRAY_TYPES.get(header["dtype"].decode())
    if dtype is None:
        found = header["dtype"].decode()
        raise ModelError(f"member {info.filename!r} holds {found!r}; expected int8, int32, uint8 or float32")
    shape = tuple(int(length) for length in header["shape"].split(b",") if length.strip())
    if len(header[0]) + math.prod(shape) * dtype.itemsize != len(data):
        raise ModelError(f"member {info.filename!r} has other bytes than shape {str(shape)[:40]} needs")
    array = np.frombuffer(data, dtype, offset=len(header[0])).reshape(shape)
    return array if array.flags.aligned else array.copy()


def _to_graph(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Graph:
    require_fields(header, _FIELDS)
    unused = dict(arrays)

    def field(name: str, hint: Any) -> Any:
        return decode(hint, header[name], name, unused)

    tensors = field("tensors", tuple[Tensor, ...])
    raw_layers, constants = header["layers"], header["constants"]
    if not isinstance(raw_layers, list):
        raise ModelError("header: 'layers' is not a list")
    if not isinstance(constants, dict):
        raise ModelError("header: 'constants' is not an object")
    by_name = {tensor.name: tensor for tensor in tensors}
    if len(by_name) != len(tensors):
        raise ModelError("header: two tensors have one name")
    graph = Graph(
        name=field("name", str),
        tensors=by_name,
        layers=tuple(decode_layer(_KINDS, raw, f"layers[{i}]", unused) for i, raw in enumerate(raw_layers)),
        input=field("input", str),
        outputs=field("outputs", tuple[str, ...]),
        constants={
            name: decode(NDArray[np.int8], raw, f"constants[{name!r}]", unused) for name, raw in constants.items()
        },
        labels=decode_labels(arrays),
        preprocessing=field("preprocessing", Preprocessing),
        source=field("source", Source),
    )
    require_all_used(unused)
    return graph


def require_all_used(unused: Collection[str]) -> None:
    """Refuse arrays that no layer has taken."""
    for name in set(unused) - {_HEADER, _LABELS}:
        raise ModelError(f"member '{name[:40]}.npy' belongs to no layer")


def parse_header(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The header of a model of either format, of a version that is known.

    Raises:
        ModelError: there is none, or it is not one of these.
    """
    if _HEADER not in arrays or arrays[_HEADER].dtype != np.uint8:
        raise ModelError("not a tinymbn model: it has no header")
    text = arrays[_HEADER].tobytes()
    _check_header_size(text)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"its header is not JSON: {error}") from error
    if not isinstance(header, dict) or header.get("format") not in (FORMAT, FLOAT_FORMAT):
        raise ModelError("not a tinymbn model: its header does not say so")
    version = header.get("version")
    if version != VERSION:
        raise ModelError(
            f"format {str(version)[:20]}; this tinymbn reads format {VERSION}; import the model again, or upgrade"
        )
    if header["format"] == FORMAT and header.get("rounding") != ROUNDING:
        raise ModelError(f"rounding {str(header.get('rounding'))[:20]!r}; this tinymbn computes {ROUNDING!r}")
    return header


def require_fields(header: Mapping[str, Any], fields: Set[str]) -> None:
    """Refuse a header that has not these fields alone."""
    for name in fields - set(header):
        raise ModelError(f"header: {name!r} is missing")
    for name in set(header) - fields:
        raise ModelError(f"header: {name[:40]!r} is not known")


def _check_header_size(text: bytes) -> None:
    """Refuse a header that would take much more memory than bytes, or that a reader would refuse."""
    if len(text) > _MAX_HEADER_BYTES:
        raise ModelError(f"its header takes {len(text)} bytes; expected at most {_MAX_HEADER_BYTES}")
    values = sum(text.count(mark) for mark in (b",", b"[", b"{"))
    if values > _MAX_HEADER_VALUES:
        raise ModelError(f"its header has {values} values; expected at most {_MAX_HEADER_VALUES}")


def decode_labels(arrays: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    """The labels; empty where there are none."""
    if _LABELS not in arrays:
        raise ModelError("member 'labels.npy' is missing")
    try:
        text = arrays[_LABELS].tobytes().decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"labels are not UTF-8: {error}") from error
    return tuple(text.split("\n")) if text else ()


def decode_layer(kinds: Mapping[str, Any], raw: Any, where: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """The layer, of one of these kinds, that JSON stands for.

    Raises:
        ModelError: it stands for none.
    """
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise ModelError(f"header: {where}: {str(kind)[:40]!r} is not a layer kind")
    fields = {name: value for name, value in raw.items() if name != "kind"}
    return decode(kinds[kind], fields, where, arrays)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of a dataclass' fields; looking them up takes longer than reading a layer."""
    return get_type_hints(kind)


def decode(hint: Any, raw: Any, where: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """The value of type ``hint`` that the JSON ``raw`` stands for.

    Raises:
        ModelError: it stands for none.
    """

    def refuse(expected: str) -> ModelError:
        return ModelError(f"header: {where} is {str(raw)[:40]}; expected {expected}")

    origin, args = get_origin(hint), get_args(hint)
    if origin in _ARRAY_HINTS:
        name = raw.get("array") if isinstance(raw, dict) else None
        if not isinstance(name, str) or name not in arrays:
            raise refuse("the name of an array that nothing else uses")
        return arrays.pop(name)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = _hints(hint)
        names = [field.name for field in dataclasses.fields(hint)]
        if not isinstance(raw, dict) or set(raw) != set(names):
            raise refuse(f"an object with {', '.join(names)}")
        return hint(**{name: decode(hints[name], raw[name], f"{where}.{name}", arrays) for name in names})
    if origin is tuple:
        if not isinstance(raw, list):
            raise refuse("a list")
        items = args[:1] * len(raw) if args[-1] is Ellipsis else args
        if len(items) != len(raw):
            raise refuse(f"a list of {len(items)}")
        return tuple(decode(item, one, where, arrays) for item, one in zip(items, raw, strict=True))
    if origin is Literal:
        if not isinstance(raw, str) or raw not in args:
            raise refuse(" or ".join(args))
        return raw
    if origin in (Union, types.UnionType):
        return None if raw is None else decode(args[0], raw, where, arrays)
    if hint is float and type(raw) is int and abs(raw) < 2**53:
        raw = float(raw)
    if type(raw) is not hint or (hint is int and abs(raw) >= 2**63):
        raise refuse(f"{'an' if hint is int else 'a'} {hint.__name__}")
    return raw
