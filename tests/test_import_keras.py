"""Files of Keras, in the layouts that its versions write: what tinymbn makes of them, and what it refuses.

Whether Keras computes the same was seen with Keras 2.12, 2.15, 3.0 to 3.15; here the files are written without it.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.command_line import Run
from tests.firmwares import require_tools
from tests.mutations import damage_bytes, damage_json
from tests.shared import SHARED, needs_shared
from tests.test_quantize_command import write_pictures
from tinymbn import load_model
from tinymbn.architectures import Architecture, mobilenet_v1, mobilenet_v2
from tinymbn.errors import ModelError, TinymbnError, UnsupportedError
from tinymbn.image import load_picture, to_input
from tinymbn.importers.keras.model import import_keras
from tinymbn.quantize import (
    BatchNorm,
    FloatConv2D,
    FloatDense,
    FloatDepthwise,
    FloatGraph,
    FloatInterpreter,
    build,
    fold_into_preprocessing,
)

h5py = pytest.importorskip("h5py")

Arrays = Mapping[str, NDArray[Any]]

# --------------------------------------------------------------------------------------------- files as Keras writes


def write_h5(path: Path, kind: str, config: Mapping[str, Any], arrays: Mapping[str, Arrays]) -> None:
    """A whole model as HDF5: arrays by the paths of their groups."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": kind, "config": config})
        file.create_group("model_weights")
        for group, named in arrays.items():
            for name, values in named.items():
                file.create_dataset(f"model_weights/{group}/{name}", data=values)


def numbered(groups: Mapping[str, Sequence[NDArray[Any]]]) -> bytes:
    """HDF5 whose arrays have numbers."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for group, arrays in groups.items():
            file.create_group(f"{group}/vars")
            for number, values in enumerate(arrays):
                file.create_dataset(f"{group}/vars/{number}", data=values)
    return content.getvalue()


def write_zip(path: Path, kind: str, config: Any, weights: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    """A ``.keras`` file."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("config.json", json.dumps({"class_name": kind, "config": config}))
        archive.writestr("model.weights.h5", weights)


def write_sequential(path: Path, layers: list[dict[str, Any]], weights: Mapping[str, Arrays]) -> None:
    """A Sequential model as Keras 2 saves it."""
    arrays = {f"{name}/{name}": {f"{which}:0": a for which, a in named.items()} for name, named in weights.items()}
    write_h5(path, "Sequential", {"name": "s", "layers": layers}, arrays)


def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name, **config}}


def called(node: Any, kind: str, name: str, **config: Any) -> dict[str, Any]:
    """A layer of a Functional model, with what it reads."""
    return {**layer(kind, name, **config), "name": name, "inbound_nodes": [] if node is None else [node]}


def keras_2(*names: str) -> list[list[Any]]:
    """What a layer reads, in Keras 2's form."""
    return [[name, 0, 0, {}] for name in names]


def keras_3(*operands: Any) -> dict[str, Any]:
    """What a layer reads, in Keras 3's form."""

    def tensor(name: str) -> dict[str, Any]:
        return {"class_name": "__keras_tensor__", "config": {"shape": [None], "keras_history": [name, 0, 0]}}

    return {"args": [tensor(o) if isinstance(o, str) else o for o in operands], "kwargs": {"training": False}}


INPUT = layer("InputLayer", "x", batch_input_shape=[None, 8, 8, 2])
CONVOLUTION = {"strides": [2, 2], "padding": "valid", "activation": "relu", "data_format": "channels_last"}


# --------------------------------------------------------------------------------------------- transfer learning

KERNEL, BIAS = np.random.default_rng(0).normal(size=(3, 3, 3, 4)), np.array([0.5, -0.5, 0.1, 0.0])
NORM = [np.array(values) for values in ([1, 2, 0.5, 1.5], [0.1, 0, -0.2, 0.3], [0.2, 0, 0.1, 1], [1, 2, 0.5, 0.9])]
HEAD = [np.random.default_rng(1).normal(size=(4, 3)), np.array([0.1, 0.2, -0.3])]


def transfer_model(of: int) -> dict[str, Any]:
    """A picture of 0..255, augmented, brought to -1..1, through a base model with batch-norm, to three classes."""
    shape = {"batch_input_shape" if of == 2 else "batch_shape": [None, 8, 8, 3]}
    reads: Any = keras_2 if of == 2 else keras_3
    base = [
        called(None, "InputLayer", "inner", **shape),
        called(reads("inner"), "ZeroPadding2D", "pad", padding=[[0, 1], [0, 1]]),
        called(reads("pad"), "Conv2D", "conv", **{**CONVOLUTION, "activation": "linear"}, use_bias=True),
        called(reads("conv"), "BatchNormalization", "norm", axis=[3] if of == 2 else -1, epsilon=0.001),
        called(reads("norm"), "ReLU", "relu", max_value=6.0, negative_slope=0.0, threshold=0.0),
    ]
    augment = [layer("InputLayer", "inside", **shape), layer("RandomFlip", "flip", mode="horizontal")]
    if of == 2:
        divide = called(["augment", 1, 0, {"y": 127.5, "name": None}], "TFOpLambda", "divide", function="math.truediv")
        subtract = called(["divide", 0, 0, {"y": 1.0, "name": None}], "TFOpLambda", "less", function="math.subtract")
    else:
        divide = called(keras_3("augment", 127.5), "TrueDivide", "divide")
        subtract = called(keras_3("divide", 1.0), "Subtract", "less")
    layers = [
        called(None, "InputLayer", "picture", **shape),
        called(reads("picture"), "Sequential", "augment", layers=augment),
        divide,
        subtract,
        called(reads("less"), "Functional", "base", layers=base, output_layers=[["relu", 0, 0]]),
        called(reads("base"), "GlobalAveragePooling2D", "pool"),
        called(reads("pool"), "Dropout", "drop"),
        called(reads("drop"), "Dense", "head", activation="softmax", use_bias=True),
    ]
    return {"name": "m", "layers": layers, "output_layers": ["head", 0, 0] if of == 3 else [["head", 0, 0]]}


def transfer_output(x: NDArray[Any]) -> NDArray[Any]:
    padded = np.pad(x / 127.5 - 1, ((0, 1), (0, 1), (0, 0)))
    taps = np.stack([padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] for i in range(4) for j in range(4)])
    gamma, beta, mean, variance = NORM
    sums = np.einsum("nhwc,hwco->no", taps, KERNEL) + BIAS
    maps = np.clip((sums - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0, 6)
    exponentials = np.exp(maps.mean(axis=0) @ HEAD[0] + HEAD[1])
    return np.asarray(exponentials / exponentials.sum())


def write_transfer_model(path: Path, layout: str) -> None:
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    if layout.startswith(".h5"):
        of, end = (2, ":0") if layout.endswith("2") else (3, "")
        outer = "m/head" if of == 3 else "head"
        arrays = {
            "base/conv": {f"kernel{end}": KERNEL, f"bias{end}": BIAS},
            "base/norm": {f"{name}{end}": values for name, values in zip(names, NORM, strict=True)},
            f"head/{outer}": {f"kernel{end}": HEAD[0], f"bias{end}": HEAD[1]},
        }
        write_h5(path, "Functional", transfer_model(of), arrays)
        return
    top = "_layer_checkpoint_dependencies" if layout == ".keras of 2.12" else "layers"
    groups = {
        f"{top}/sequential": [],
        f"{top}/functional/{top}/conv2d": [KERNEL, BIAS],
        f"{top}/functional/{top}/batch_normalization": NORM,
        f"{top}/dense": HEAD,
    }
    write_zip(path, "Functional", transfer_model(2 if layout == ".keras of 2.12" else 3), numbered(groups))


@pytest.mark.parametrize("layout", [".h5 of 2", ".h5 of 3", ".keras of 2.12", ".keras of 3"])
def test_a_model_within_a_model_is_one_network(layout: str, tmp_path: Path) -> None:
    write_transfer_model(tmp_path / "m", layout)
    graph = import_keras(tmp_path / "m")
    x = np.random.default_rng(2).integers(0, 256, (8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(FloatInterpreter(graph).run(x), transfer_output(x), atol=1e-5)
    assert {"base/conv", "base/norm"} < {made.name for made in graph.layers}
    # What is done to pixels first needs no layer on the chip.
    rest = fold_into_preprocessing(graph)
    assert (rest.input, rest.layers[0].name) == ("picture", "base/conv")
    table = rest.preprocessing.real_values(3)
    assert table is not None
    np.testing.assert_allclose(table[0], np.linspace(-1, 1, 256), atol=1e-6)
    real = table[np.arange(3), x.astype(int)]
    np.testing.assert_allclose(FloatInterpreter(rest).run(real), transfer_output(x), atol=1e-5)


def test_the_command_knows_pixels_from_a_rescaling(run: Run) -> None:
    write_transfer_model(Path("m.keras"), ".keras of 3")
    write_pictures(Path("p"))
    done = run("quantize", "m.keras", "--calibrate", "p", "-o", "model.npz")
    assert done.code == 0, done.err
    graph = load_model("model.npz")
    assert graph.layers[0].name == "base/conv"
    assert graph.preprocessing.mean is None  # -1..1 is the int8 range end to end
    assert graph.preprocessing.origin == "guess"
    assert "with batch-norms folded" in run("info", "m.keras").out
    refused = run("run", "m.keras", "p/0.png")
    assert refused.code == 3
    assert "m.keras: a float model; tinymbn runs int8: quantise it first: tinymbn quantize MODEL" in refused.err


@pytest.mark.parametrize("scale", [2.0, -1 / 255])
def test_a_rescaling_that_is_not_of_pixels_says_nothing_of_them(scale: float, tmp_path: Path) -> None:
    layers = [layer("InputLayer", "x", batch_shape=[None, 8, 8, 3]), layer("Rescaling", "r", scale=scale, offset=1)]
    write_sequential(tmp_path / "m.h5", layers, {})
    graph = import_keras(tmp_path / "m.h5")
    x = np.random.default_rng(0).normal(size=(8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(FloatInterpreter(graph).run(x), x * np.float32(scale) + 1, atol=1e-6)
    assert (graph.preprocessing.mean is None) == (scale == 2.0)
    assert len(fold_into_preprocessing(graph).layers) == 1  # no pixel is divided by less than 0


def test_the_same_layer_twice_is_refused(tmp_path: Path) -> None:
    layers = [
        called(None, "InputLayer", "x", batch_shape=[None, 8, 8, 3]),
        {**called(keras_3("x"), "ReLU", "relu"), "inbound_nodes": [keras_3("x"), keras_3("relu")]},
    ]
    write_h5(tmp_path / "m.h5", "Functional", {"layers": layers, "output_layers": [["relu", 1, 0]]}, {})
    with pytest.raises(UnsupportedError, match=r"relu \(ReLU\): it is called several times; expected once"):
        import_keras(tmp_path / "m.h5")


# --------------------------------------------------------------------------------------------- layers


def one_layer(tmp_path: Path, kind: str, arrays: Arrays, x: NDArray[Any], **config: Any) -> NDArray[Any]:
    """What a layer makes of x, (H, W, C)."""
    layers = [layer("InputLayer", "x", batch_shape=[None, *x.shape]), layer(kind, "a", **config)]
    write_sequential(tmp_path / "m.h5", layers, {"a": arrays})
    return np.asarray(FloatInterpreter(import_keras(tmp_path / "m.h5")).run(x.astype(np.float32)))


def test_a_separable_convolution_is_two(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    deep, wide, bias, x = (chance.normal(size=size) for size in ((2, 2, 3, 2), (1, 1, 6, 4), 4, (4, 5, 3)))
    arrays = {"depthwise_kernel": deep, "pointwise_kernel": wide, "bias": bias}
    made = one_layer(tmp_path, "SeparableConv2D", arrays, x, strides=[1, 1], padding="valid", activation="relu")
    taps = np.stack([[x[i : i + 2, j : j + 2] for j in range(4)] for i in range(3)])
    middle = np.einsum("yxhwc,hwcm->yxcm", taps, deep).reshape(3, 4, 6)
    np.testing.assert_allclose(made, np.maximum(middle @ wide[0, 0] + bias, 0), atol=1e-5)


def test_a_normalization_is_by_channel(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, 5, 2))
    arrays = {"mean": np.array([1.0, 2.0]), "variance": np.array([4.0, 0.25])}
    made = one_layer(tmp_path, "Normalization", arrays, x, axis=[-1], invert=False, mean=None, variance=None)
    np.testing.assert_allclose(made, (x - [1, 2]) / [2, 0.5], atol=1e-5)
    made = one_layer(tmp_path, "Normalization", {}, x, axis=[3], mean=[1.0, 2.0], variance=[4.0, 0.25])
    np.testing.assert_allclose(made, (x - [1, 2]) / [2, 0.5], atol=1e-5)


def test_what_a_layer_leaves_out_is_left_out(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, 5, 2))
    arrays = {"beta": np.array([1.0, 2.0]), "moving_mean": np.array([0.5, 0]), "moving_variance": np.array([1.0, 4])}
    made = one_layer(tmp_path, "BatchNormalization", arrays, x, axis=[3], epsilon=0.0, scale=False, center=True)
    np.testing.assert_allclose(made, (x - [0.5, 0]) / [1, 2] + [1, 2], atol=1e-5)
    kernel = np.random.default_rng(1).normal(size=(2, 3))
    made = one_layer(tmp_path, "Dense", {"kernel": kernel}, x, use_bias=False, activation="linear")
    np.testing.assert_allclose(made, x @ kernel, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "config"),
    [("Activation", {"activation": "sigmoid"}), ("Sigmoid", {}), ("TFOpLambda", {"function": "math.sigmoid"})],
)
def test_a_sigmoid_is_a_logistic(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, 5, 2)) * 3
    made = one_layer(tmp_path, kind, {}, x, **config)
    np.testing.assert_allclose(made, 1 / (1 + np.exp(-x)), atol=1e-6)


def test_a_network_of_two_classes_may_end_in_one_probability(run: Run) -> None:
    chance = np.random.default_rng(0)
    layers = [
        layer("InputLayer", "picture", batch_input_shape=[None, 16, 16, 3]),
        layer("Rescaling", "small", scale=1 / 127.5, offset=-1),
        layer("Conv2D", "c", **CONVOLUTION),
        layer("GlobalAveragePooling2D", "g"),
        layer("Dense", "d", activation="sigmoid"),
    ]
    weights = {
        "c": {"kernel": chance.normal(size=(3, 3, 3, 8)), "bias": chance.normal(size=8)},
        "d": {"kernel": chance.normal(size=(8, 1)) * 3, "bias": np.zeros(1)},
    }
    write_sequential(Path("m.h5"), layers, weights)
    write_pictures(Path("p"))
    Path("labels.txt").write_text("cat\ndog\n")
    done = run("quantize", "m.h5", "--calibrate", "p", "-o", "model.npz", "--labels", "labels.txt")
    assert done.code == 0, done.err
    assert "d/sigmoid  logistic" in done.out
    network, graph = import_keras("m.h5"), load_model("model.npz")
    assert [one.kind for one in graph.layers] == ["conv2d", "mean", "dense", "lookup"]
    x = to_input(load_picture(Path("p/0.png")), graph)
    (expected,) = np.asarray(FloatInterpreter(network).run(x.astype(np.float32) + 128))
    scores = json.loads(run("run", "model.npz", "p/0.png", "--json").out)["pictures"][0]["outputs"][0]["scores"]
    found = {one["label"]: one["score"] for one in scores}
    assert found["dog"] == pytest.approx(expected, abs=0.02)
    assert found["cat"] == 1 - found["dog"]
    for name in ("cat", "dog"):
        Path("data", name).mkdir(parents=True)
        shutil.copy("p/0.png", f"data/{name}")
    assert "top-1     50.00%: 1 of 2" in run("eval", "model.npz", "data").out
    require_tools("host")
    verified = run("verify", "model.npz", "--board", "host", "p/0.png")
    assert "EQUAL    4 layers, 4 inputs" in verified.out, verified.err


@needs_shared
def test_a_keras_model_computes_what_tensorflow_lite_does() -> None:
    litert = pytest.importorskip("ai_edge_litert.interpreter", exc_type=ImportError)
    graph = import_keras(SHARED / "models" / "vww_96.h5")
    assert graph.macs == 7_489_664
    x = np.random.default_rng(0).uniform(0, 1, (3, 96, 96, 3)).astype(np.float32)
    found = FloatInterpreter(graph).run(x)
    reference = litert.Interpreter(str(SHARED / "models" / "vww_96_float.tflite"))
    reference.allocate_tensors()
    for k, picture in enumerate(x):
        reference.set_tensor(reference.get_input_details()[0]["index"], picture[None])
        reference.invoke()
        expected = reference.get_tensor(reference.get_output_details()[0]["index"])[0]
        np.testing.assert_allclose(found[k], expected, atol=1e-5)


def test_zero_padding_is_the_windows_own(tmp_path: Path) -> None:
    layers = [INPUT, layer("ZeroPadding2D", "pad", padding=[[0, 1], [0, 1]]), layer("Conv2D", "c", **CONVOLUTION)]
    layers += [layer("GlobalAveragePooling2D", "g"), layer("Dense", "d", activation="softmax")]
    chance = np.random.default_rng(0)
    weights = {
        "c": {"kernel": chance.normal(size=(3, 3, 2, 5)), "bias": np.arange(5.0)},
        "d": {"kernel": chance.normal(size=(5, 3)), "bias": np.zeros(3)},
    }
    write_sequential(tmp_path / "m.h5", layers, weights)
    graph = import_keras(tmp_path / "m.h5")
    x = chance.normal(size=(8, 8, 2)).astype(np.float32)
    padded = np.pad(x, ((0, 1), (0, 1), (0, 0)))
    taps = np.stack([padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] for i in range(4) for j in range(4)])
    maps = np.maximum(np.einsum("nhwc,hwco->no", taps, weights["c"]["kernel"]) + np.arange(5), 0)
    logits = maps.mean(axis=0) @ weights["d"]["kernel"]
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    np.testing.assert_allclose(FloatInterpreter(graph).run(x), expected, atol=1e-5)


def test_all_unsupported_layers_are_listed(run: Run) -> None:
    layers = [INPUT, layer("LSTM", "memory"), layer("Conv2DTranspose", "up"), layer("Flatten", "f")]
    layers.append(layer("Dense", "d", activation="gelu"))
    write_sequential(Path("m.h5"), layers, {})
    Path("p").mkdir()
    refused = run("quantize", "m.h5", "--calibrate", "p", "-o", "model.npz")
    assert refused.code == 3
    listed = "memory (LSTM); up (Conv2DTranspose); d (Dense): activation gelu"
    assert f"3 layers that tinymbn does not know: {listed}" in refused.err


def test_weights_that_are_no_numbers_name_the_tensor(run: Run) -> None:
    kernel = np.zeros((3, 3, 2, 5))
    kernel[1, 1, 1, 1] = np.nan
    layers = [INPUT, layer("Conv2D", "c", **CONVOLUTION)]
    write_sequential(Path("m.h5"), layers, {"c": {"kernel": kernel, "bias": np.zeros(5)}})
    refused = run("quantize", "m.h5", "--calibrate", ".", "-o", "model.npz")
    assert refused.code == 3
    assert 'tensor "c/c/kernel" has values that are not finite numbers' in refused.err


def test_values_of_pixels_have_to_be_said_where_the_model_does_not(run: Run) -> None:
    layers = [layer("InputLayer", "x", batch_input_shape=[None, 8, 8, 3]), layer("Conv2D", "c", **CONVOLUTION)]
    write_sequential(Path("m.h5"), layers, {"c": {"kernel": np.ones((3, 3, 3, 5)), "bias": np.zeros(5)}})
    write_pictures(Path("p"))
    refused = run("quantize", "m.h5", "--calibrate", "p", "-o", "model.npz")
    assert refused.code == 3
    assert "--input-range LOW,HIGH" in refused.err


def test_all_layers_that_are_code_are_listed_and_none_is_run(tmp_path: Path) -> None:
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAAAAAAA", "defaults": None, "closure": None}}
    layers = [INPUT, layer("Lambda", "a", function=code), layer("Mine", "b"), layer("Activation", "c", activation=code)]
    write_zip(tmp_path / "m.keras", "Sequential", {"layers": layers}, numbered({}))
    with pytest.raises(UnsupportedError, match=r"3 layers .*: a \(Lambda\); b \(Mine\); c \(Activation\): activation"):
        import_keras(tmp_path / "m.keras")


# --------------------------------------------------------------------------------------------- weights alone


def network(architecture: Architecture, resolution: int = 32, classes: int = 5) -> FloatGraph:
    """With random weights and batch-norms."""
    chance = np.random.default_rng(3)
    parameters: dict[str, NDArray[np.float32]] = {}
    for made in build(architecture, resolution, classes).layers:
        if isinstance(made, FloatConv2D | FloatDepthwise):
            parameters[f"{made.name}/weights"] = made.weights
        elif isinstance(made, FloatDense):
            parameters["dense/weights"] = made.weights
            parameters["dense/bias"] = chance.normal(size=classes).astype(np.float32)
        elif isinstance(made, BatchNorm):
            stage = made.name.removesuffix("/norm")
            ranges = {"gamma": (0.5, 1.5), "beta": (-0.3, 0.3), "mean": (-0.2, 0.2), "variance": (0.5, 2)}
            for name, ends in ranges.items():
                parameters[f"{stage}/{name}"] = chance.uniform(*ends, made.gamma.size).astype(np.float32)
    return build(architecture, resolution, classes, parameters=parameters)


def weights_of(graph: FloatGraph) -> list[tuple[str, str, Arrays]]:
    """Class, name and arrays of each layer that has any, in Keras' axes."""
    found: list[tuple[str, str, Arrays]] = []
    for made in graph.layers:
        match made:
            case FloatConv2D():
                found.append(("conv2d", made.name, {"kernel": made.weights.transpose(1, 2, 3, 0)}))
            case FloatDepthwise():
                found.append(("depthwise_conv2d", made.name, {"depthwise_kernel": made.weights[..., None]}))
            case BatchNorm():
                arrays = {"gamma": made.gamma, "beta": made.beta}
                arrays |= {"moving_mean": made.mean, "moving_variance": made.variance}
                found.append(("batch_normalization", made.name, arrays))
            case FloatDense():
                kernel = made.weights.T if "v2" in graph.name else made.weights.T[None, None]
                kind = "dense" if "v2" in graph.name else "conv2d"
                found.append((kind, made.name, {"kernel": kernel, "bias": made.bias}))
    return found


def write_weights(path: Path, layers: list[tuple[str, str, Arrays]], layout: str) -> None:
    if layout == "named":
        with h5py.File(path, "w") as file:
            names = ["input", *(name.replace("/", "_") for _, name, _ in layers)]
            file.attrs["layer_names"] = [name.encode() for name in names]
            for _, name, arrays in layers:
                name = name.replace("/", "_")
                for which, values in arrays.items():
                    file.create_dataset(f"{name}/{name}/{which}:0", data=values)
        return
    step = 2 if layout == "numbered twice" else 1
    counts, groups = Counter[str](), {}
    for kind, _, arrays in layers:
        number = f"_{counts[kind] * step}" if counts[kind] else ""
        groups[f"{'layers' if step == 1 else '_layer_checkpoint_dependencies'}/{kind}{number}"] = list(arrays.values())
        counts[kind] += 1
    path.write_bytes(numbered(groups))


@pytest.mark.parametrize("layout", ["named", "numbered", "numbered twice"])
@pytest.mark.parametrize("architecture", [mobilenet_v1(0.25), mobilenet_v2(0.35)], ids=["v1", "v2"])
def test_weights_alone_are_their_network(layout: str, architecture: Architecture, tmp_path: Path) -> None:
    expected = network(architecture)
    write_weights(tmp_path / "w.h5", weights_of(expected), layout)
    graph = import_keras(tmp_path / "w.h5", 32)
    x = np.random.default_rng(4).uniform(-1, 1, (32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(FloatInterpreter(graph).run(x), FloatInterpreter(expected).run(x), atol=1e-6)
    table = graph.preprocessing.real_values(3)
    assert table is not None
    assert (table[0, 0], table[0, 255]) == (-1, 1)


def test_keras_pads_after_where_a_map_is_odd(tmp_path: Path) -> None:
    write_weights(tmp_path / "w.h5", weights_of(network(mobilenet_v1(0.25))), "named")
    shapes = import_keras(tmp_path / "w.h5", 75).shapes
    # As Keras' own MobileNet of this size: ceil(75 / 2), then a row more and no half of a stride.
    assert [shapes[f"block{k}/depthwise"][0] for k in (1, 2, 4, 6, 12)] == [38, 19, 9, 4, 2]


def test_weights_that_are_no_whole_network_are_refused(run: Run) -> None:
    layers = weights_of(network(mobilenet_v2(0.35)))
    Path("p").mkdir()
    cases = [
        (layers, (), 2, "w.h5: weights alone do not say the size of a picture: --resolution R"),
        (layers[:-1], ("--resolution", 64), 3, "weights without the top: it has no classifier"),
        (layers[3:], ("--resolution", 64), 3, "of another network than keras.applications' MobileNet and MobileNetV2"),
        ([], ("--resolution", 64), 3, "of another network"),
        ([*layers[:1], (*layers[1][:2], {"gamma": np.ones(16)}), *layers[2:]], ("--resolution", 64), 3, "has 1 arrays"),
        (layers, ("--resolution", 0), 2, "resolution 0; expected 1 to 4096"),
    ]
    for part, options, code, text in cases:
        for layout in ("named", "numbered"):
            write_weights(Path("w.h5"), part, layout)
            refused = run("quantize", "w.h5", "--calibrate", "p", "-o", "model.npz", *options)
            assert refused.code == code, refused.err
            assert text in refused.err


# --------------------------------------------------------------------------------------------- damage


def test_what_a_zip_archive_may_do_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", b" " * (1 << 25))
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(ModelError, match=r"member config\.json is larger than 16777216 bytes"):
        import_keras(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
    with pytest.raises(ModelError, match=r"expected one member config\.json"):
        import_keras(path)
    write_zip(path, "Sequential", {"layers": []}, b"no HDF5")
    with pytest.raises(ModelError, match="damaged, or not a Keras model"):
        import_keras(path)
    path.write_text("no archive")
    with pytest.raises(ModelError, match="damaged, or not a Keras model"):
        import_keras(path)


def test_arrays_are_bounded_and_lie_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(4096))
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a/kernel", (16,), "f4", external=[(str(tmp_path / "secret"), 0, 64)])
    with pytest.raises(ModelError, match=r'tensor "a/kernel" lies in another file'):
        import_keras(path, 64)
    with h5py.File(path, "w") as file:
        file.create_dataset("a/kernel", (1 << 40,), "f4", chunks=(1024,), compression="gzip")
    with pytest.raises(ModelError, match="more than 67108864 weights"):
        import_keras(path, 64)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"layers": [{}]}, "damaged, or not a Keras model"),
        ({"layers": "x"}, "damaged, or not a Keras model"),
        ({"layers": [layer("InputLayer", "x", batch_shape=[None, None, 8, 3])]}, "expected fixed sizes"),
        ({"layers": [layer("InputLayer", "x", batch_shape=[None, 1 << 20, 1 << 20, 3])]}, "too many elements"),
        ({"layers": [INPUT, INPUT]}, "several inputs"),
        ({"layers": [layer("Flatten", "f")]}, "damaged, or not a Keras model"),
        ({"layers": [INPUT, layer("Conv2D", "c", **CONVOLUTION)]}, 'tensor "c/kernel" is missing'),
        ({"layers": [INPUT, layer("Softmax", "s", axis=1)]}, r"axis \[1\]; expected the last"),
        ({"layers": [INPUT, layer("Flatten", "f", data_format="channels_first")]}, "channels first"),
        ({"layers": [INPUT, layer("ZeroPadding2D", "p", padding=[[1, 1], [1, 1]])]}, "it reads padding"),
    ],
)
def test_what_makes_no_sense_is_one_line(change: dict[str, Any], text: str, tmp_path: Path) -> None:
    write_h5(tmp_path / "m.h5", "Sequential", change, {})
    with pytest.raises(ModelError, match=text):
        import_keras(tmp_path / "m.h5")
    write_zip(tmp_path / "m.keras", "Sequential", change, numbered({}))
    with pytest.raises(ModelError, match=text):
        import_keras(tmp_path / "m.keras")


def test_a_configuration_nested_without_end_is_one_line(tmp_path: Path) -> None:
    deep: dict[str, Any] = {"layers": []}
    for _ in range(300):
        deep = {"layers": [{"class_name": "Sequential", "config": {"name": "s", **deep}}]}
    write_h5(tmp_path / "m.h5", "Sequential", deep, {})
    with pytest.raises(ModelError, match=r"m\.h5: "):
        import_keras(tmp_path / "m.h5")


def test_a_damaged_keras_file_is_refused_or_sound(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    path, refused = tmp_path / "m.keras", 0
    write_transfer_model(path, ".keras of 3")
    sound = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        weights = archive.read("model.weights.h5")
    for seed in range(8 * pytestconfig.getoption("--examples")):
        rng = random.Random(seed)
        if seed % 2:
            path.write_bytes(damage_bytes(sound, rng))
        else:
            config = json.loads(damage_json(json.dumps(transfer_model(3)).encode(), rng))
            write_zip(path, "Functional", config, weights)
        try:
            import_keras(path)
        except TinymbnError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(("index", "size"), [(0, 0), (0, 8), (1, 2**64 - 16), (1, 1 << 20)])
def test_a_heap_that_never_ends_is_refused(index: int, size: int, tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    write_transfer_model(path, ".h5 of 2")
    data = bytearray(path.read_bytes())
    struct.pack_into("<H6xQ", data, data.index(b"GCOL\1") + 16, index, size)  # the first object of a global heap
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"m\.h5: damaged: byte \d+: an object of \d+ bytes in a heap"):
        import_keras(path)


def test_weights_may_look_like_a_heap(tmp_path: Path) -> None:
    values = np.frombuffer(b"GCOL\1\0\0\0" * 2 * 8, np.float32)
    made = one_layer(tmp_path, "Dense", {"kernel": values.reshape(2, -1)}, np.ones((1, 1, 2)), use_bias=False)
    np.testing.assert_array_equal(made.ravel(), values.reshape(2, -1).sum(axis=0))


def test_an_h5_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    write_transfer_model(path, ".h5 of 2")
    sound = path.read_bytes()
    for size in range(0, len(sound), len(sound) // 50):
        path.write_bytes(sound[:size])
        with pytest.raises(ModelError, match=r"m\.h5: "):
            import_keras(path)
