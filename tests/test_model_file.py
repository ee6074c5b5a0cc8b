"""A graph survives the file, and no file harms the reader."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.graphs import classifier
from tinymbn import Interpreter, ModelError, load_model, save_model
from tinymbn.errors import OutputError
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.layers import Requantize
from tinymbn.model_file import to_bytes


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def _archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _npy(values: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(values), version=(1, 0), allow_pickle=True)
    return file.getvalue()


def _with_header(change: Callable[[dict[str, Any]], object]) -> bytes:
    members = _members(to_bytes(classifier()))
    header = _header(members)
    change(header)
    members["header.npy"] = _npy(np.frombuffer(json.dumps(header).encode(), np.uint8))
    return _archive(members)


def _header(members: dict[str, bytes]) -> dict[str, Any]:
    values = np.load(io.BytesIO(members["header.npy"]), allow_pickle=False)
    header: dict[str, Any] = json.loads(values.tobytes())
    return header


def _refusal(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "model.npz"
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        load_model(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


def test_a_graph_survives_the_file(tmp_path: Path) -> None:
    graph = classifier()
    save_model(graph, tmp_path / "model.npz")
    again = load_model(tmp_path / "model.npz")
    assert to_bytes(again) == to_bytes(graph)
    assert again.tensors == graph.tensors
    assert (again.labels, again.preprocessing, again.source) == (graph.labels, graph.preprocessing, graph.source)
    x = np.arange(40, dtype=np.int8).reshape(4, 5, 2)
    assert np.array_equal(Interpreter(again).run(x), Interpreter(graph).run(x))


def test_the_same_graph_gives_the_same_bytes() -> None:
    assert to_bytes(classifier()) == to_bytes(classifier())


def test_numpy_reads_the_arrays_without_pickle(tmp_path: Path) -> None:
    save_model(classifier(), tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:
        assert file["layer_000.weights.values"].shape == (3, 3, 2, 2)
        assert file["header"].tobytes().startswith(b'{"format":"tinymbn-model","version":1')


def test_a_graph_without_labels_survives(tmp_path: Path) -> None:
    save_model(dataclasses.replace(classifier(), labels=()), tmp_path / "model.npz")
    assert load_model(tmp_path / "model.npz").labels == ()


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no folder"):
        save_model(classifier(), tmp_path / "missing" / "model.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(OutputError, match="not a file, so it is not replaced"):
        save_model(classifier(), tmp_path / "folder.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.npz"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load_model(tmp_path / "none.npz")
    with pytest.raises(ModelError, match="not a file"):
        load_model(tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK", b"\0" * 4096, b"#!/bin/sh\n" * 100, b"PK\3\4" + b"\0" * 100])
def test_a_foreign_file_is_refused(tmp_path: Path, data: bytes) -> None:
    assert "not a tinymbn model" in _refusal(tmp_path, data)


def test_a_foreign_npz_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3, np.int8))
    assert "not a tinymbn model: it has no header" in _refusal(tmp_path, file.getvalue())


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = to_bytes(classifier())
    for length in range(0, len(data), 97):
        _refusal(tmp_path, data[:length])


def test_a_future_format_says_what_to_do(tmp_path: Path) -> None:
    text = _refusal(tmp_path, _with_header(lambda header: header.update(version=2)))
    assert text == "format 2; this tinymbn reads format 1; import the model again, or upgrade"


def test_another_rounding_is_refused(tmp_path: Path) -> None:
    assert "rounding 'single'" in _refusal(tmp_path, _with_header(lambda header: header.update(rounding="single")))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("a pickle was loaded",))

    members = _members(to_bytes(classifier()))
    members["labels.npy"] = _npy(np.array([Trap()], object))
    assert "holds '|O'" in _refusal(tmp_path, _archive(members))
    members["labels.npy"] = pickle.dumps(Trap())
    assert "labels.npy" in _refusal(tmp_path, _archive(members))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    members = _members(to_bytes(classifier()))
    members["labels.npy"] = _npy(np.zeros(100_000_000, np.uint8))
    bomb = _archive(members, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1_000_000
    path = tmp_path / "bomb.npz"
    path.write_bytes(bomb)
    del members, bomb
    tracemalloc.start()
    with pytest.raises(ModelError, match="compressed"):
        load_model(path)
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()


def test_absurd_shapes_take_no_memory(tmp_path: Path) -> None:
    members = _members(to_bytes(classifier()))
    header = b"{'descr': '|i1', 'fortran_order': False, 'shape': (9000000000, 9000000000), }".ljust(117) + b"\n"
    members["layer_000.weights.values.npy"] = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header
    tracemalloc.start()
    text = _refusal(tmp_path, _archive(members))
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()
    assert "other bytes than shape (9000000000, 9000000000) needs" in text


def test_a_model_takes_at_most_four_times_its_size(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    save_model(classifier(), path)
    load_model(path)
    tracemalloc.start()
    load_model(path)
    assert tracemalloc.get_traced_memory()[1] < 4 * path.stat().st_size + 8_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda h: h["tensors"][0].update(shape=[4, 5, 0]), "expected sizes of 1 and more"),
        (lambda h: h["tensors"][0].update(shape=[10**30, 1, 1]), "expected an int"),
        (lambda h: h["tensors"][0].update(shape=[2**40, 1, 1]), "elements"),
        (lambda h: h["tensors"][0].update(shape=[True, 5, 2]), "expected an int"),
        (lambda h: h["tensors"][0]["quant"].update(scale=float("nan")), "scale nan"),
        (lambda h: h["tensors"][0]["quant"].update(zero_point=128), "zero point 128"),
        (lambda h: h["tensors"][0].update(extra=1), "expected an object with name, shape, quant, dtype"),
        (lambda h: h["layers"][0].update(kind="convolution"), "'convolution' is not a layer kind"),
        (lambda h: h["layers"][0].update(output="input"), 'tensor "input" is made twice'),
        (lambda h: h["layers"][0].update(inputs=["scores"]), 'reads "scores", which nothing before it makes'),
        (lambda h: h["layers"][0]["window"].update(stride=[0, 1]), "is not in [1, 65536]"),
        (lambda h: h["layers"][0]["window"]["padding"].update(top=9), "padding"),
        (lambda h: h["layers"][0]["activation"].update(low=101), "lets nothing through"),
        (lambda h: h["layers"][0]["weights"].update(bias={"array": "nothing"}), "expected the name of an array"),
        (lambda h: h["layers"][0]["weights"].update(values={"array": "labels"}), "expected int8 of rank 4"),
        (lambda h: h["layers"][3].update(rows={"array": "layer_000.weights.bias"}), "expected the name of an array"),
        (lambda h: h["layers"].pop(), 'nothing makes tensor "scores"'),
        (lambda h: h.update(outputs=[]), "no outputs"),
        (lambda h: h.update(extra=1), "'extra' is not known"),
        (lambda h: h["preprocessing"].update(std=[0.0, 1.0]), "std"),
        (lambda h: h.pop("input"), "'input' is missing"),
        (lambda h: h.update(layers={}), "'layers' is not a list"),
    ],
)
def test_what_a_header_says_wrong_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], Any], text: str) -> None:
    assert text in _refusal(tmp_path, _with_header(change))


def test_deep_json_is_refused(tmp_path: Path) -> None:
    members = _members(to_bytes(classifier()))
    members["header.npy"] = _npy(np.frombuffer(b"[" * 50_000, np.uint8))
    assert "not JSON" in _refusal(tmp_path, _archive(members))


def test_a_header_of_very_many_values_is_refused(tmp_path: Path) -> None:
    members = _members(to_bytes(classifier()))
    members["header.npy"] = _npy(np.frombuffer(b"[" + b"[]," * 1_000_000 + b"0]", np.uint8))
    data = _archive(members)
    tracemalloc.start()
    assert "2000001 values; expected at most 60000" in _refusal(tmp_path, data)
    assert tracemalloc.get_traced_memory()[1] < 4 * len(data)
    tracemalloc.stop()


def test_a_member_that_belongs_to_no_layer_is_refused(tmp_path: Path) -> None:
    members = {**_members(to_bytes(classifier())), "extra.npy": _npy(np.zeros(3, np.int8))}
    assert "member 'extra.npy' belongs to no layer" in _refusal(tmp_path, _archive(members))


def test_bytes_before_the_archive_are_refused(tmp_path: Path) -> None:
    assert "does not begin and end as a .npz does" in _refusal(tmp_path, b"#!" + to_bytes(classifier()))


def test_a_model_of_many_layers_with_long_names_is_written_and_read(tmp_path: Path) -> None:
    count = 400
    names = [f"MobilenetV3/expanded_conv_{i}/" + "a_very_long_name_of_a_fused_operator/" * 20 for i in range(count + 1)]
    graph = Graph(
        name="long",
        tensors={name: Tensor(name, (2,), Quant(0.5, 0)) for name in names},
        layers=tuple(Requantize(after, (before,), after, 2**30, 1) for before, after in pairwise(names)),
        input=names[0],
        outputs=(names[-1],),
    )
    save_model(graph, tmp_path / "long.npz")
    assert load_model(tmp_path / "long.npz").tensors == graph.tensors


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("header.npy", b"x")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("header.npy", b"x")
    assert "two members have one name" in _refusal(tmp_path, file.getvalue())
