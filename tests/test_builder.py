"""Float MobileNets of any alpha and resolution: as large as the papers say, and what is built is what was asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import Run
from tinymbn.architectures import mobilenet_v1, mobilenet_v2, nearest_multiple
from tinymbn.errors import ModelError, OptionError
from tinymbn.quantize import (
    BatchNorm,
    FloatInterpreter,
    FloatLogistic,
    build,
    fold,
    load_float_model,
    quantize,
    save_float_model,
)
from tinymbn.quantize.float_file import to_bytes

# Howard et al. 2017, tables 6 and 7: million Mult-Adds and million parameters. They round both ways.
PAPER_V1 = [
    (1.0, 224, 569, 4.2),
    (0.75, 224, 325, 2.6),
    (0.5, 224, 149, 1.3),
    (0.25, 224, 41, 0.5),
    (1.0, 192, 418, 4.2),
    (1.0, 160, 290, 4.2),
    (1.0, 128, 186, 4.2),
]


@pytest.mark.parametrize(("alpha", "resolution", "macs", "parameters"), PAPER_V1)
def test_mobilenet_v1_is_as_large_as_the_paper_says(
    alpha: float, resolution: int, macs: int, parameters: float
) -> None:
    graph = build(mobilenet_v1(alpha), resolution, 1000)
    assert abs(graph.macs / 1e6 - macs) < 1
    assert abs(graph.parameters / 1e6 - parameters) < 0.06


def test_full_convolutions_cost_what_the_paper_says() -> None:
    """Table 4: 4,866 million Mult-Adds, which here leave out the dense layer's one, and 29.3 million parameters."""
    graph = build(mobilenet_v1(separable=False), 224, 1000)
    dense = 1024 * 1000
    assert abs((graph.macs - dense) / 1e6 - 4866) < 1
    assert abs(graph.parameters / 1e6 - 29.3) < 0.06


def test_mobilenet_v2_is_as_large_as_the_paper_says() -> None:
    """Sandler et al. 2018, table 4: 300 million Mult-Adds, 3.4 million parameters."""
    graph = build(mobilenet_v2(), 224, 1000)
    assert abs(graph.macs / 1e6 - 300) < 1
    assert abs(graph.parameters / 1e6 - 3.4) < 0.1
    assert sum(layer.kind == "add" for layer in graph.layers) == 10


@pytest.mark.parametrize("architecture", [mobilenet_v1(0.13), mobilenet_v1(0.35), mobilenet_v2(0.1), mobilenet_v2(1.4)])
@pytest.mark.parametrize(("resolution", "channels"), [(33, 1), ((20, 47), 3)])
def test_any_alpha_and_resolution_runs_and_quantises(
    architecture: object, resolution: int | tuple[int, int], channels: int
) -> None:
    graph = build(architecture, resolution, 7, channels=channels)  # type: ignore[arg-type]
    pictures = np.random.default_rng(0).uniform(-1, 1, (3, *graph.input_shape)).astype(np.float32)
    scores = FloatInterpreter(graph).run(pictures)
    assert isinstance(scores, np.ndarray)
    assert scores.shape == (3, 7)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert quantize(graph, pictures, input_range=(-1, 1)).macs == graph.macs


def test_parameters_count_one_bias_a_channel_and_no_batch_norm() -> None:
    graph = build(mobilenet_v2(0.35), 96, 10)
    assert graph.parameters == fold(graph).parameters
    assert any(isinstance(layer, BatchNorm) for layer in graph.layers)


def test_given_weights_are_used_and_all_of_them() -> None:
    architecture = mobilenet_v1(0.25)
    chance = np.random.default_rng(3)
    template = build(architecture, 32, 4)
    given: dict[str, np.ndarray] = {"dense/bias": chance.normal(size=4).astype(np.float32)}
    for layer in template.layers:
        if layer.kind in ("conv2d", "depthwise", "dense"):
            given[f"{layer.name}/weights"] = chance.normal(size=layer.weights.shape).astype(np.float32)  # type: ignore[union-attr]
        if isinstance(layer, BatchNorm):
            for name in ("gamma", "beta", "mean", "variance"):
                values = chance.uniform(0.5, 2, layer.gamma.shape).astype(np.float32)
                given[f"{layer.name.removesuffix('/norm')}/{name}"] = values
    graph = build(architecture, 32, 4, parameters=given)
    norm = next(layer for layer in graph.layers if layer.name == "block3/depthwise/norm")
    assert isinstance(norm, BatchNorm)
    np.testing.assert_array_equal(norm.variance, given["block3/depthwise/variance"])
    with pytest.raises(ModelError, match='"block3/depthwise/mean" is missing; expected an array of shape'):
        build(architecture, 32, 4, parameters={k: v for k, v in given.items() if k != "block3/depthwise/mean"})
    with pytest.raises(ModelError, match='"more" belongs to no layer'):
        build(architecture, 32, 4, parameters=given | {"more": np.zeros(1, np.float32)})
    with pytest.raises(ModelError, match=r'"dense/bias" has shape \(5,\); expected \(4,\)'):
        build(architecture, 32, 4, parameters=given | {"dense/bias": np.zeros(5, np.float32)})
    with pytest.raises(ModelError, match='"dense/bias" has values that are not finite'):
        build(architecture, 32, 4, parameters=given | {"dense/bias": np.full(4, np.nan, np.float32)})


@pytest.mark.parametrize("alpha", [0.0, -1.0, 4.5, float("nan")])
def test_a_width_that_is_none_is_refused(alpha: float) -> None:
    for architecture in (mobilenet_v1, mobilenet_v2):
        with pytest.raises(OptionError, match="expected a number over 0, at most 4"):
            architecture(alpha)


def test_channel_counts_are_multiples_and_not_much_less() -> None:
    assert [nearest_multiple(wanted, 8) for wanted in (1, 11.2, 12, 16, 33.6, 44.8)] == [8, 16, 16, 16, 32, 48]
    assert [nearest_multiple(wanted, 1) for wanted in (0.3, 11.2, 12.9)] == [1, 11, 12]


# --------------------------------------------------------------------------------------------- the file


def test_a_float_model_comes_back_from_its_file(tmp_path: Path) -> None:
    graph = build(mobilenet_v2(0.35), 64, 5)
    logistic = FloatLogistic("logistic", ("logits",), "probabilities")
    graph = replace(graph, layers=(*graph.layers, logistic), outputs=("scores", "probabilities"))
    save_float_model(graph, tmp_path / "net.npz")
    again = load_float_model(tmp_path / "net.npz")
    assert to_bytes(again) == to_bytes(graph)
    picture = np.random.default_rng(0).uniform(-1, 1, graph.input_shape).astype(np.float32)
    for found, expected in zip(FloatInterpreter(again).run(picture), FloatInterpreter(graph).run(picture), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("at", [0, 1, 500, -500])
def test_a_damaged_file_is_refused_in_a_line(tmp_path: Path, at: int) -> None:
    path = tmp_path / "net.npz"
    data = bytearray(to_bytes(build(mobilenet_v1(0.1), 32, 2)))
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"net\.npz: ") as caught:
        load_float_model(path)
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------------------------- the commands


def test_new_writes_what_info_shows(run: Run) -> None:
    done = run(
        "new", "--arch", "mobilenet_v1", "--alpha", 0.25, "--resolution", 224, "--classes", 1000, "-o", "net.npz"
    )
    assert done.code == 0
    assert "mobilenet_v1_0.25_224, float" in done.out
    values = json.loads(run("info", "net.npz", "--json").out)
    assert round(values["macs"] / 1e6) == 41
    assert round(values["parameters"] / 1e6, 1) == 0.5
    shown = run("info", "net.npz").out
    assert "tinymbn quantize" in shown
    assert "depthwise 3x3/2" in shown


@pytest.mark.parametrize("command", [("run", "net.npz", "x.png"), ("plan", "net.npz", "--board", "stm32f7")])
def test_a_float_model_has_to_be_quantised_first(run: Run, command: tuple[str, ...]) -> None:
    assert run("new", "--alpha", 0.1, "--resolution", 32, "--classes", 2, "-o", "net.npz").code == 0
    Path("x.png").write_bytes(b"")
    refused = run(*command)
    assert refused.code == 3
    assert "a float model; tinymbn runs int8: quantise it first" in refused.err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--alpha", 0), "alpha 0; expected a number over 0"),
        (("--resolution", 0), "resolution 0; expected 1 to 4096"),
        (("--classes", 5000), "classes 5000; expected 1 to 4095"),
    ],
)
def test_what_cannot_be_built_is_refused(run: Run, options: tuple[object, ...], problem: str) -> None:
    refused = run("new", *options, "-o", "net.npz")
    assert refused.code == 2
    assert problem in refused.err
    assert not Path("net.npz").exists()
