"""From a float model and a folder of pictures to int8, by the command."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.command_line import Run
from tests.shared import CHECKOUT, SHARED, needs_shared
from tests.test_dataset import members
from tinymbn import Interpreter, load_model
from tinymbn.architectures import mobilenet_v1
from tinymbn.dataset import open_dataset
from tinymbn.image import load_picture, to_input, to_pixels
from tinymbn.preprocessing import Preprocessing
from tinymbn.quantization import CalibrationPictures, compare_layers
from tinymbn.quantize import (
    FloatInterpreter,
    Histogram,
    Method,
    best_range,
    build,
    calibrate,
    fold,
    observe,
    save_float_model,
)

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


def test_a_folder_may_hold_grey_pictures_arrays_and_other_sizes(run: Run) -> None:
    write_model(Path("net.npz"))
    folder = write_pictures(Path("pictures"), 1)
    chance = np.random.default_rng(0)
    grey = chance.integers(0, 256, (5, 90)).astype(np.uint8)
    Image.fromarray(grey).save(folder / "grey.png")
    np.save(folder / "array.npy", grey)
    np.save(folder / "real.npy", grey.astype(np.float32))
    done = run("quantize", "net.npz", "--calibrate", "pictures", "-o", "model.npz")
    assert "calibrated on 3 pictures, 1 skipped" in done.out
    problem = "real.npy: float32 of shape (5, 90); expected a uint8 picture (H, W) or (H, W, 3); skipped"
    assert done.err == f"tinymbn: pictures/{problem}\n"
    done = run("quantize", "net.npz", "--calibrate", "pictures/0.png", "-o", "model.npz")
    assert "calibrated on 1 picture\n" in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--calibrate", "nowhere"), 3, "tinymbn: nowhere: no such file"),
        (("--calibrate", "net.npz"), 3, "net.npz: an archive of header, labels, "),
        (("--calibrate", "p", "--labels", "labels.txt"), 3, "labels.txt: 2 labels; model 'mobilenet_v1_0.1_32' has 4"),
        (("--calibrate", "p", "--report", "model.npz"), 2, "model.npz: the model goes there; --report wants a file of"),
        (("--calibrate", "p", "--report", "no/page.html"), 2, "no/page.html: no folder no to write it to"),
        (("--calibrate", "p", "--mean", "1,2", "--std", "1,2"), 3, "mean and std have 2 channels; the input has 3"),
    ],
)
def test_what_cannot_be_is_one_line_before_any_work(
    run: Run, arguments: tuple[str, ...], code: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(Path("net.npz"))
    write_pictures(Path("p"))
    Path("labels.txt").write_text("a\nb\n")
    monkeypatch.setattr("tinymbn.quantize.calibrate", None)
    refused = run("quantize", "net.npz", "-o", "model.npz", *arguments)
    first, *hints = refused.err.splitlines()
    assert (refused.code, refused.out) == (code, "")
    assert text in first
    assert hints in ([], ["Hint: tinymbn quantize --help"])
    assert not Path("model.npz").exists()


def test_a_resolution_contradicts_no_file_that_says_its_own(run: Run) -> None:
    write_model(Path("net.npz"))
    write_pictures(Path("p"))
    options = ("quantize", "net.npz", "--calibrate", "p", "-o", "model.npz", "--resolution")
    refused = run(*options, "48")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("tinymbn: net.npz: its input is 32 high and 32 wide; expected no --resolution 48\n")
    assert not Path("model.npz").exists()
    assert run(*options, "32").code == 0


def test_a_weight_that_is_no_number_names_its_layer(run: Run) -> None:
    write_model(Path("net.npz"))
    with np.load("net.npz") as data:
        arrays = dict(data)
    arrays["layer_003.weights"] *= np.float32(np.nan)
    np.savez("net.npz", **arrays)
    refused = run("quantize", "net.npz", "--calibrate", ".", "-o", "model.npz")
    assert refused.code == 3
    assert 'net.npz: layer "block1/depthwise": depthwise: a weight or bias is not a finite number' in refused.err


def many_pictures(path: Path, count: int) -> None:
    """A data set of one picture, again and again."""
    picture = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8)).save(picture, "PNG")
    np.savez(path, **members(*[picture.getvalue()] * count, labels=[0] * count))


def test_channels_are_equalised_unless_said_otherwise(run: Run) -> None:
    write_model(Path("net.npz"))
    write_pictures(Path("pictures"))
    options = ("quantize", "net.npz", "--calibrate", "pictures", "-o", "model.npz", "--json")
    scaled = [layer["scaled_channels"] for layer in json.loads(run(*options).out)["layers"]]
    assert sum(scaled) > 100
    assert scaled[-4:] == [0, 0, 0, 0]  # nothing with weights reads what is averaged, nor what comes after it
    plain = json.loads(run(*options, "--no-equalize").out)["layers"]
    assert not any(layer["scaled_channels"] for layer in plain)


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    network = build(mobilenet_v1(0.1), 16, 2)
    start = fold(replace(network, layers=network.layers[:6], outputs=(network.layers[5].output,)))
    peaks = []
    for count in (20, 600):
        many_pictures(tmp_path / "d.npz", count)
        found = CalibrationPictures(network, network.preprocessing, tmp_path / "d.npz", None)
        tracemalloc.start()
        observe(start, found)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found.used == count
    assert peaks[1] < peaks[0] + 600_000  # the inputs alone would be 1.8 MB more


@pytest.mark.parametrize("most", [1, 2, 7, 19, 20, 21])
def test_pictures_are_taken_from_all_of_a_data_set(tmp_path: Path, most: int) -> None:
    network = build(mobilenet_v1(0.1), 8, 2)
    pictures = [io.BytesIO() for _ in range(20)]
    for shade, file in enumerate(pictures):
        Image.new("RGB", (8, 8), (shade, shade, shade)).save(file, "PNG")
    np.savez(tmp_path / "d.npz", **members(*(file.getvalue() for file in pictures), labels=[0] * 20))
    found = CalibrationPictures(network, network.preprocessing, tmp_path / "d.npz", most)
    taken = [round((float(picture[0, 0, 0]) + 1) * 127.5) for picture in found]
    assert len(taken) == found.count == found.used == min(most, 20)
    steps = np.diff([*taken, 20])
    assert taken[0] == 0
    assert np.ptp(steps) <= 1


def test_on_a_terminal_there_is_progress_and_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    write_model(tmp_path / "net.npz")
    many_pictures(tmp_path / "d.npz", 50_000)
    before = sorted(tmp_path.iterdir())
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "tinymbn", "quantize", "net.npz", "--calibrate", "d.npz", "--pictures", "50000"]
    path = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "codegen"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": path}
    running = subprocess.Popen(command, cwd=tmp_path, stderr=slave, stdout=subprocess.PIPE, env=environment)
    os.close(slave)
    shown = b""
    try:
        while not re.search(rb"\d+/50000 [\d,.]+/s \d:\d\d:\d\d", re.sub(rb"\x1b\[[\d;?]*[A-Za-z]", b"", shown)):
            shown += os.read(master, 4096)
        running.send_signal(signal.SIGINT)
        while b"interrupted" not in shown or b"\n" not in shown.rpartition(b"interrupted")[2]:
            shown += os.read(master, 4096)
        code = running.wait(20)
    finally:
        running.kill()
        out, _ = running.communicate()
        os.close(master)
    assert (code, out) == (130, b"")
    assert re.search(rb"tinymbn: interrupted after [\d,]+ of 50,000 pictures; nothing was written\r\n$", shown)
    assert sorted(tmp_path.iterdir()) == before


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
    from tinymbn.importers.keras.model import import_keras

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


@pytest.mark.parametrize("edges", [(-1.0, 1.0), (0.0, 1.0), (1.0, 2.0)])
def test_layers_are_compared_on_what_run_gives_the_int8_network(
    edges: tuple[float, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(Path("pictures"))
    network = build(mobilenet_v1(0.1), 32, 4, preprocessing=Preprocessing.of_range(*edges, origin="file"))
    found = CalibrationPictures(network, network.preprocessing, Path("pictures"), None)
    calibration = calibrate(network, found)
    made = calibration.convert()
    shown = compare_layers(calibration, made, found.first)[-1]
    output, signal, noise = made.output_tensors[0], 0.0, 0.0
    for path in sorted(Path("pictures").iterdir()):
        int8 = np.asarray(Interpreter(made).run(to_input(load_picture(path), made)), np.float64)
        table = network.preprocessing.real_values(3)
        assert table is not None
        pixels = to_pixels(load_picture(path), (32, 32, 3), network.preprocessing)
        real = np.asarray(FloatInterpreter(network).run(table[np.arange(3), pixels]), np.float64)
        signal += (real**2).sum()
        noise += (((int8 - output.zero_point) * output.scale - real) ** 2).sum()
    assert shown.sqnr_db == pytest.approx(10 * np.log10(signal / noise), abs=0.05)


def test_a_report_replaces_no_picture(run: Run) -> None:
    write_model(Path("net.npz"))
    write_pictures(Path("pictures"))
    before = Path("pictures/0.png").read_bytes()
    refused = run("quantize", "net.npz", "--calibrate", "pictures", "-o", "m.npz", "--report", "pictures/0.png")
    assert refused.code == 2
    assert "pictures/0.png: expected a name that ends in .html" in refused.err
    assert Path("pictures/0.png").read_bytes() == before


def test_a_seed_is_not_negative(run: Run) -> None:
    assert run("new", "--seed", -1, "-o", "x.npz").code == 2
