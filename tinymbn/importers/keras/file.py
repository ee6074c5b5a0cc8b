"""What a file of Keras says, as plain values: the only place that opens it.

``.h5`` is HDF5: arrays under the names of their layers, and the model's configuration as an attribute, if at all.
``.keras`` is a zip archive: the configuration, and HDF5 with the arrays of each layer by their numbers, under its class
with a number; ``.weights.h5`` is the same HDF5 alone. Nothing is executed, and no other file is read.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.archive import RECORD_BYTES, directory_bytes
from tinymbn.errors import ModelError, ToolError, UnsupportedError
from tinymbn.importers.weights import finite

Array = NDArray[np.float32]
Config = Mapping[str, Any]

MODELS = ("Functional", "Model", "Sequential")
"""The classes of models that list their layers."""

DAMAGE = (
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,  # h5py, zipfile, and what is nested too deep
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged file ends in, or one that says nonsense."""

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MAX_FILE_BYTES = 1 << 28
_MAX_CONFIG_BYTES = 1 << 24
_MAX_DIRECTORY_BYTES = 1 << 16
_MAX_ELEMENTS = 1 << 26  # of all arrays together
_MAX_DEPTH = 16  # of groups


@dataclass(frozen=True)
class KerasFile:
    """A model, or the weights of one.

    Attributes:
        kind: the class of the model; empty where there are weights alone.
        config: its configuration.
        arrays: every array, finite, by its path.
        groups: the path of every group.
        layer_names: of weights alone, in the order of the model; empty if arrays have numbers for names.
    """

    kind: str
    config: Config
    arrays: Mapping[str, Array]
    groups: tuple[str, ...]
    layer_names: tuple[str, ...]


def is_keras(start: bytes) -> bool:
    """Whether a file that begins like this is HDF5, or a zip archive as Keras writes it."""
    first = start[30:] if start.startswith(b"PK\3\4") else b""  # the first member's name: APPNOTE.TXT 4.3.7
    return start.startswith(_HDF5_MAGIC) or first.startswith((_METADATA.encode(), _CONFIG.encode()))


def read_keras(data: bytes) -> KerasFile:
    """The configuration and the arrays in a file's bytes.

    Raises:
        ToolError: h5py is not installed.
        ModelError: they are damaged or foreign; so does whatever of ``DAMAGE`` is raised.
        UnsupportedError: a model that does not list its layers.
    """
    try:
        import h5py
    except ImportError:
        raise ToolError("reading Keras models: h5py is not installed: pip install 'tinymbn[keras]'") from None
    config, weights = (None, data) if data.startswith(_HDF5_MAGIC) else _members(data)
    with h5py.File(io.BytesIO(weights), "r") as file:
        return _read(file, config)


def _members(data: bytes) -> tuple[bytes, bytes]:
    """Configuration and HDF5 file in a zip archive."""
    directory = directory_bytes(data[-RECORD_BYTES:])
    if directory is None or directory > _MAX_DIRECTORY_BYTES:
        raise ModelError("damaged, or not a Keras model: it does not end as a .keras does")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in (_CONFIG, _WEIGHTS):
            if archive.namelist().count(name) != 1:
                raise ModelError(f"damaged, or not a Keras model: expected one member {name}")
        return _member(archive, _CONFIG, _MAX_CONFIG_BYTES), _member(archive, _WEIGHTS, MAX_FILE_BYTES)


def _member(archive: zipfile.ZipFile, name: str, most_bytes: int) -> bytes:
    with archive.open(name) as member:
        content = member.read(most_bytes + 1)  # whatever the directory says of its size
    if len(content) > most_bytes:
        raise ModelError(f"member {name} is larger than {most_bytes} bytes")
    return content


def _read(file: Any, config: bytes | None) -> KerasFile:
    root = "model_weights/" if config is None and "model_config" in file.attrs else ""
    text = file.attrs["model_config"] if root else config
    arrays, groups = _contents(file, root)
    if text is None:
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in file.attrs.get("layer_names", ())]
        return KerasFile("", {}, arrays, groups, tuple(names))
    whole = json.loads(text, object_hook=_plain)
    if whole["class_name"] not in MODELS:
        raise UnsupportedError(f"a model of class {whole['class_name']}; expected Functional or Sequential")
    return KerasFile(whole["class_name"], whole["config"], arrays, groups, ())


def _plain(item: dict[str, Any]) -> Any:
    """What JSON has for a number or list of numbers that Keras has written as NumPy's."""
    return item["config"]["value"] if item.get("class_name") in ("__numpy__", "__tensor__") else item


def _contents(file: Any, root: str) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Every array under ``root`` by its path from there, and every group; an optimiser's are left out."""
    arrays: dict[str, Array] = {}
    groups: list[str] = []
    left = _MAX_ELEMENTS

    def visit(path: str, item: Any) -> None:
        nonlocal left
        name = path.removeprefix(root)
        if not path.startswith(root) or path.startswith("optimizer") or name.count("/") > _MAX_DEPTH:
            return
        if not hasattr(item, "shape"):
            groups.append(name)
            return
        if item.external is not None or item.is_virtual:
            raise ModelError(f'tensor "{name}" lies in another file, of which none is read')
        if item.dtype.kind != "f":
            return  # counters, and states of random numbers
        left -= item.size
        if left < 0:
            raise ModelError(f"more than {_MAX_ELEMENTS} weights")
        arrays[name] = finite(item[()], name.partition(":")[0])

    file.visititems(visit)
    return arrays, tuple(groups)


def arrays_by_layer(file: KerasFile) -> Mapping[str, Mapping[str, Array]]:
    """The arrays of each layer of a model by their names, or by "0", "1", ... where the file has no other.

    A layer of a model within the model has the names of both, with a slash between.
    """
    found: dict[str, Mapping[str, Array]] = {}
    if is_numbered(file):
        _by_number(_numbered_groups(file), file.config, "", "", found)
    else:
        _by_name(_named_groups(file.arrays), file.config, "", "", found)
    return found


def is_numbered(file: KerasFile) -> bool:
    """Whether arrays have numbers for names, and their groups numbers behind the classes of layers."""
    return any("/vars/" in path for path in file.arrays)


def arrays_by_class(file: KerasFile) -> Mapping[str, list[list[Array]]]:
    """The arrays of each layer in a numbered file, by the layers' classes, in the order of the model."""
    return {
        kind: [[arrays[number] for number in sorted(arrays)] for _, arrays in groups]
        for (around, kind), groups in _numbered_groups(file).items()
        if not around
    }


def arrays_in_order(file: KerasFile) -> list[Mapping[str, Array]]:
    """The arrays of each layer, by their names, in a file that names the layers in the order of the model."""
    named = _named_groups(file.arrays)
    return [named[layer, ""] for layer in file.layer_names if (layer, "") in named]


_Named = Mapping[tuple[str, str], Mapping[str, Array]]


def _named_groups(arrays: Mapping[str, Array]) -> _Named:
    """Arrays by their own names, for each (outermost layer, layer in it); ("conv", "") has all that is in "conv"."""
    found = defaultdict[tuple[str, str], dict[str, Array]](dict)
    for path, values in arrays.items():
        *groups, last = path.split("/")
        for i in range(1, len(groups) + 1):
            outermost = "/".join(groups[:i])
            for j in range(i, len(groups)):
                found[outermost, "/".join(groups[j:])][last.partition(":")[0]] = values
            found[outermost, ""][last.partition(":")[0]] = values
    return found


def _by_name(named: _Named, config: Config, scope: str, outermost: str, found: dict[str, Mapping[str, Array]]) -> None:
    for entry in config["layers"]:
        name = entry["config"]["name"]
        if entry["class_name"] in MODELS:
            _by_name(named, entry["config"], f"{scope}{name}/", outermost or name, found)
        else:
            found[scope + name] = named.get((outermost, name) if outermost else (name, ""), {})


_Numbered = Mapping[tuple[str, str], list[tuple[str, Mapping[str, Array]]]]


def _numbered_groups(file: KerasFile) -> _Numbered:
    """The groups of a class in the order of their numbers, with their arrays, for each (group around them, class).

    Keras counts the layers of a class in a model, 2.12 those with weights twice: what holds is the order.
    """
    arrays = defaultdict[str, dict[str, Array]](dict)
    for path, values in file.arrays.items():
        group, _, number = path.rpartition("/vars/")
        arrays[group][number] = values
    found = defaultdict[tuple[str, str], list[tuple[int, str]]](list)
    for path in file.groups:
        around, _, name = path.rpartition("/")
        kind, number = re.fullmatch(r"(.*?)(?:_(\d{1,9}))?", name, re.DOTALL).groups()  # type: ignore[union-attr]
        # The container is "layers", or "_layer_checkpoint_dependencies" in Keras 2.12.
        found[around.rpartition("/")[0], kind].append((int(number or 0), path))
    return {key: [(path, arrays[path]) for _, path in sorted(groups)] for key, groups in found.items()}


def _by_number(
    numbered: _Numbered, config: Config, scope: str, around: str, found: dict[str, Mapping[str, Array]]
) -> None:
    entries = defaultdict[str, list[Config]](list)
    for entry in config["layers"]:
        entries[_snake_case(entry["class_name"])].append(entry)
    for kind, of_kind in entries.items():
        groups = numbered.get((around, kind), [])
        if len(groups) != len(of_kind):
            continue  # operations, which are no layers; whoever looks for arrays here finds that there are none
        for entry, (path, arrays) in zip(of_kind, groups, strict=True):
            name = scope + entry["config"]["name"]
            if entry["class_name"] in MODELS:
                _by_number(numbered, entry["config"], f"{name}/", path, found)
            else:
                found[name] = arrays


def _snake_case(name: str) -> str:
    """A class's name as Keras writes it in paths: DepthwiseConv2D is depthwise_conv2d."""
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()
