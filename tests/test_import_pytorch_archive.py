"""Files of torch.export.save, read without PyTorch: what is in them, and what of them is not trusted."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.command_line import Run
from tests.pt2_writer import Pt2Writer, Tensor, small_network
from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.pytorch.exported import import_exported
from tinymbn.quantize import FloatGraph, FloatInterpreter


def pointwise(values: np.ndarray, **changes: Any) -> tuple[Pt2Writer, Tensor]:
    """A convolution with a 1x1 kernel, 2 -> 3 channels, on 2x2; changes are of its weights' payload."""
    writer = Pt2Writer()
    x = writer.input("x", 1, 2, 2, 2)
    weights = writer.parameter("conv.weight", values)
    payload = writer.payloads["conv.weight"]
    for key, value in changes.items():
        (payload if key in payload else payload["tensor_meta"])[key] = value
    return writer, writer.call("aten.conv2d.default", (1, 3, 2, 2), input=x, weight=weights)


def load(writer: Pt2Writer, output: Tensor) -> FloatGraph:
    Path("net.pt2").write_bytes(writer.build(output))
    return import_exported("net.pt2")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_maps_become_channels_last_and_what_reads_them_flattened_is_put_in_order() -> None:
    chance = np.random.default_rng(0)
    kernel, matrix = (chance.normal(size=shape).astype(np.float32) for shape in ((3, 2, 1, 1), (4, 12)))
    writer, made = pointwise(kernel)
    flat = writer.call("aten.view.default", (1, 12), self=made, size=[1, -1])
    dense = writer.call("aten.linear.default", (1, 4), input=flat, weight=writer.parameter("dense.weight", matrix))
    graph = load(writer, dense)
    assert graph.input_shape == (2, 2, 2)
    assert [layer.name for layer in graph.layers] == ["conv", "view_1", "dense"]
    x = chance.normal(size=(2, 2, 2)).astype(np.float32)  # (H, W, C)
    expected = matrix @ np.einsum("oc,hwc->ohw", kernel[:, :, 0, 0], x).ravel()
    np.testing.assert_allclose(FloatInterpreter(graph).run(x), expected, rtol=1e-5)


def test_a_network_is_read_whole() -> None:
    graph = load(*small_network())
    kinds = "conv2d batch_norm relu depthwise add max_pool reshape dense mean dense add softmax"
    assert [layer.kind for layer in graph.layers] == kinds.split()
    assert graph.shapes[graph.outputs[0]] == (5,)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_weights_of_other_precisions_become_float32(dtype: str) -> None:
    graph = load(*pointwise(np.arange(6).reshape(3, 2, 1, 1).astype(dtype)))
    assert graph.layers[0].weights.tolist() == [[[[0, 1]]], [[[2, 3]]], [[[4, 5]]]]  # type: ignore[union-attr]


def test_weights_may_lie_in_any_order_and_share_their_bytes() -> None:
    stored = np.arange(8, dtype=np.float32).reshape(4, 2, 1, 1)
    sizes = [{"as_int": size} for size in (3, 2, 1, 1)]
    strides = [{"as_int": stride} for stride in (1, 3, 1, 1)]
    graph = load(*pointwise(stored, sizes=sizes, strides=strides, storage_offset={"as_int": 2}))
    assert graph.layers[0].weights.tolist() == [[[[2, 5]]], [[[3, 6]]], [[[4, 7]]]]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "changes",
    [
        {"storage_offset": {"as_int": 1}},
        {"storage_offset": {"as_int": -1}},
        {"strides": [{"as_int": 1 << 40}, {"as_int": 1}, {"as_int": 1}, {"as_int": 1}]},
        {"strides": [{"as_int": 2}, {"as_int": -1}, {"as_int": 1}, {"as_int": 1}]},
        {"sizes": [{"as_int": 3}, {"as_int": 2}, {"as_int": 1 << 30}, {"as_int": 1}]},
        {"sizes": [{"as_int": 0}, {"as_int": 2}, {"as_int": 1}, {"as_int": 1}]},
        {"path_name": "weight_9"},
        {"tensor_meta": None},
    ],
)
def test_weights_outside_their_bytes_are_refused(changes: dict[str, Any]) -> None:
    writer, output = pointwise(np.zeros((3, 2, 1, 1), np.float32), **changes)
    with pytest.raises(ModelError, match=r"^net\.pt2: "):
        load(writer, output)


class _Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("unpickled"),))


def test_nothing_is_unpickled() -> None:
    writer, output = pointwise(np.zeros((3, 2, 1, 1), np.float32), use_pickle=True)
    bomb = pickle.dumps(_Bomb())
    writer.members |= {"data/weights/weight_0": bomb, "data/sample_inputs/model.pt": bomb}
    with pytest.raises(UnsupportedError, match=r'tensor "conv\.weight" is pickled'):
        load(writer, output)
    writer.payloads["conv.weight"]["use_pickle"] = False
    writer.members["data/weights/weight_0"] = bytes(24)
    load(writer, output)
    assert not Path("unpickled").exists()


def test_weights_that_are_no_numbers_name_their_tensor() -> None:
    with pytest.raises(ModelError, match=r'net\.pt2: tensor "conv\.weight" has values that are not finite numbers'):
        load(*pointwise(np.full((3, 2, 1, 1), 1e300)))  # no number of float32
    with pytest.raises(UnsupportedError, match=r'tensor "conv\.weight" is not of float16, float32 or float64'):
        load(*pointwise(np.zeros((3, 2, 1, 1), np.int64)))


def test_other_versions_of_the_format_are_told_apart() -> None:
    writer, output = small_network()
    writer.version = {"major": 9, "minor": 0}
    with pytest.raises(UnsupportedError, match="schema version 9; this tinymbn reads version 8"):
        load(writer, output)
    writer.version["major"] = 8
    writer.members["byteorder"] = b"big"
    with pytest.raises(UnsupportedError, match="big-endian"):
        load(writer, output)
    writer.members = {"data/weights/model.pt": b""}
    with pytest.raises(UnsupportedError, match=r"as PyTorch 2\.8 wrote it"):
        load(writer, output)
    with zipfile.ZipFile("net.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
    with pytest.raises(UnsupportedError, match=r"as PyTorch 2\.7 and older wrote it"):
        import_exported("net.pt2")


def test_sizes_beyond_reason_are_refused() -> None:
    writer = Pt2Writer()
    x = writer.input("x", 1, 3, 1 << 20, 1 << 20)
    with pytest.raises(UnsupportedError, match="a tensor of 3298534883328 elements; expected at most 16777216"):
        load(writer, writer.call("aten.relu.default", (1, 3, 1 << 20, 1 << 20), self=x))
    writer, output = small_network()
    writer.nodes *= 1000
    with pytest.raises(ModelError, match="14000 nodes; expected at most 10000"):
        load(writer, output)
    writer, output = small_network()
    writer.nodes[0]["metadata"] = {"stack_trace": "x" * (1 << 24)}
    with pytest.raises(ModelError, match=r"models/model\.json: \d+ bytes with \d+ values; expected at most"):
        load(writer, output)
    writer.members["models/model.json"] = b"[" * 100_000
    with pytest.raises(ModelError, match="damaged, or not a file"):
        load(writer, output)


def test_archives_that_are_compressed_or_cut_off_are_one_line(run: Run) -> None:
    writer, output = small_network()
    whole = writer.build(output)
    Path("pictures").mkdir()
    for length in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        Path("cut.pt2").write_bytes(whole[:length])
        refused = run("quantize", "cut.pt2", "--calibrate", "pictures", "-o", "model.npz")
        assert refused.code == 3
        assert refused.err.startswith("tinymbn: cut.pt2: damaged, or not a file of torch.export.save")
        assert refused.err.count("\n") == 1
    with zipfile.ZipFile("small.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/archive_format", b"pt2")
    with pytest.raises(ModelError, match="is compressed or encrypted"):
        import_exported("small.pt2")


def test_the_command_needs_no_pytorch_and_asks_what_pixels_mean(run: Run) -> None:
    writer, output = small_network()
    Path("net.pt").write_bytes(writer.build(output))  # known by its content as well
    Path("pictures").mkdir()
    for k, picture in enumerate(np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3), np.uint8)):
        Image.fromarray(picture).save(f"pictures/{k}.png")
    refused = run("quantize", "net.pt", "--calibrate", "pictures", "-o", "model.npz")
    assert refused.code == 3
    assert "--input-range LOW,HIGH, or --mean and --std" in refused.err
    done = run(
        "quantize", "net.pt", "--calibrate", "pictures", "--input-range", "0,1", "-o", "model.npz", "--json", "-q"
    )
    assert done.code == 0, done.err
    assert all(layer["sqnr_db"] is None or layer["sqnr_db"] > 20 for layer in json.loads(done.out)["layers"])
