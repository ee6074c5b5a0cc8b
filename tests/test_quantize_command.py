"""From a float model and a folder of pictures to int8, by the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.command_line import Run
from tests.shared import SHARED, needs_shared
from tinymbn import Interpreter, load_model
from tinymbn.architectures import mobilenet_v1
from tinymbn.dataset import open_dataset
from tinymbn.image import load_picture, to_input
from tinymbn.quantize import FloatInterpreter, Histogram, Method, best_range, build, save_float_model

METHODS: tuple[Method, ...] = ("minmax", "percentile", "mse", "kl")


def write_pictures(folder: Path, count: int = 6, size: tuple[int, int] = (40, 30)) -> Path:
    folder.mkdir()
    chance = np.random.default_rng(0)
    for k in range(count):
        Image.fromarray(chance.integers(0, 256, (*size, 3)).astype(np.uint8)).save(folder / f"{k}.png")
    return folder


def write_model(path: Path) -> None:
    save_float_model(build(mobilenet_v1(0.1), 32, 4), path)


def test_a_model_that_new_made_becomes_int8(run: Run) -> None:
    write_model(Path("net.npz"))
    write_pictures(Path("pictures"))
    done = run("quantize", "net.npz", "--calibrate", "pictures", "-o", "model.npz")
    assert done.code == 0, done.err
    assert "calibrated on 6 pictures" in done.out
    assert "SQNR dB" in done.out
    assert run("run", "model.npz", "pictures/0.png").code == 0
    assert load_model("model.npz").preprocessing.mean is None  # -1..1 is the int8 range end to end


@pytest.mark.parametrize("method", METHODS)
def test_each_method_gives_layers_that_are_near(run: Run, method: str) -> None:
    write_model(Path("net.npz"))
    write_pictures(Path("pictures"), 12)
    done = run("quantize", "net.npz", "--calibrate", "pictures", "-o", "model.npz", "--method", method, "--json")
    values = json.loads(done.out)
    assert values["pictures"] == 12
    assert values["method"] == method
    least = 5 if method == "kl" else 15
    assert all(layer["sqnr_db"] is None or layer["sqnr_db"] > least for layer in values["layers"])


def test_pictures_that_cannot_be_read_are_skipped_and_counted(run: Run) -> None:
    write_model(Path("net.npz"))
    folder = write_pictures(Path("pictures"))
    (folder / "bad.png").write_bytes(b"no picture")
    done = run("quantize", "net.npz", "--calibrate", "pictures", "-o", "model.npz")
    assert done.code == 0
    assert "bad.png" in done.err
    assert "calibrated on 6 pictures, 1 skipped" in done.out


def test_nothing_to_calibrate_with_is_one_line(run: Run) -> None:
    write_model(Path("net.npz"))
    Path("empty").mkdir()
    refused = run("quantize", "net.npz", "--calibrate", "empty", "-o", "model.npz")
    assert refused.code == 3
    assert "no pictures in this folder" in refused.err
    (Path("empty") / "bad.png").write_bytes(b"")
    refused = run("quantize", "net.npz", "--calibrate", "empty", "-o", "model.npz")
    assert refused.code == 3
    assert "no calibration pictures" in refused.err
    assert not Path("model.npz").exists()


def test_the_page_shows_every_layer_and_needs_nothing_else(run: Run) -> None:
    write_model(Path("net.npz"))
    write_pictures(Path("pictures"))
    options = ("--calibrate", "pictures", "-o", "model.npz", "--report", "page.html")
    assert run("quantize", "net.npz", *options).code == 0
    page = Path("page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == len(load_model("model.npz").layers)
    assert "http" not in page
    assert "block13/pointwise" in page


@needs_shared
def test_vww_agrees_with_its_float_model_as_often_as_tensorflows_own(run: Run) -> None:
    """On 500 ImageNet pictures, of which none calibrated it; TensorFlow's own int8 model agrees on 492 or 494."""
    pytest.importorskip("h5py")
    from tinymbn.importers.keras import import_keras

    model = SHARED / "models" / "vww_96.h5"
    options = ("--calibrate", SHARED / "images", "--input-range", "0,1", "-o", "vww.npz")
    assert run("quantize", model, *options).code == 0
    graph, network = load_model("vww.npz"), import_keras(model)
    pictures = open_dataset(SHARED / "data" / "imagenet_sample_500.npz").pictures()
    x = np.stack([to_input(load_picture(picture.path, picture.data), graph) for picture in pictures])
    made = Interpreter(graph, threads=2).run(x)
    output = graph.output_tensors[0]
    scores = (made.astype(np.float32) - output.zero_point) * output.scale
    real = ((x.astype(np.float32) + 128) / 255).astype(np.float32)
    expected: NDArray[Any] = np.concatenate([FloatInterpreter(network).run(part) for part in np.split(real, 10)])
    agreeing = int((scores.argmax(axis=1) == expected.argmax(axis=1)).sum())
    difference = float(np.abs(scores - expected).mean())
    print(f"{agreeing} of 500 agree, mean absolute difference {difference:.4f}")
    assert agreeing >= 492
    assert difference <= 0.0176


# --------------------------------------------------------------------------------------------- ranges


def test_a_histogram_counts_all_and_keeps_the_ends() -> None:
    chance = np.random.default_rng(1)
    histogram = Histogram()
    parts = [chance.normal(scale=scale, size=5000).astype(np.float32) for scale in (0.1, 3, 0.01, 40)]
    for part in parts:
        histogram.add(part)
    every = np.concatenate(parts)
    assert histogram.counts.sum() == every.size
    assert histogram.range == (every.min(), every.max())
    below = histogram.counts[histogram.centres < 0].sum()
    assert abs(below - (every < 0).sum()) < 0.15 * every.size  # bins are as wide as the widest part needs
    median = histogram.centres[np.searchsorted(np.cumsum(histogram.counts), every.size // 2)]
    assert abs(median - np.median(every)) < 2 * (histogram.centres[1024] - histogram.centres[1023])


@pytest.mark.parametrize("method", METHODS)
def test_ranges_keep_the_bulk_and_zero(method: Method) -> None:
    chance = np.random.default_rng(2)
    histogram = Histogram()
    values = np.abs(chance.normal(size=200_000)).astype(np.float32)
    values[0] = 60  # one far out
    histogram.add(values)
    kept = best_range(histogram, method)
    assert kept.low <= 0.01
    if method == "minmax":
        assert kept.high == 60
    else:
        assert 2 < kept.high < 59


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, -3.0, 1e-20, 1e20])
def test_a_constant_has_a_range(method: Method, value: float) -> None:
    histogram = Histogram()
    histogram.add(np.full(5000, value, np.float32))
    kept = best_range(histogram, method)
    assert kept.low <= np.float32(value) <= kept.high
