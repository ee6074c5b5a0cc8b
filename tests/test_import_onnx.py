"""ONNX models: what tinymbn makes of them computes what ONNX Runtime computes."""

from __future__ import annotations

import builtins
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.command_line import Run
from tests.onnx_models import OnnxNet, mobilenet_v1, mobilenet_v2, quantize, quantized_tensors, runtime
from tinymbn import Interpreter, TinymbnError, load_model
from tinymbn.errors import ModelError, OptionError, ToolError, UnsupportedError
from tinymbn.graph import Graph, Quant
from tinymbn.importers.onnx.model import import_onnx, import_quantized_onnx
from tinymbn.layers import Conv2D, Dense
from tinymbn.quantize import FloatGraph, FloatInterpreter, fold

Array = NDArray[np.float32]
Build = Callable[[OnnxNet], str]

MAP = (1, 4, 7, 10)  # (N, C, H, W), not square


def outputs(graph: FloatGraph, pictures: Array) -> Array:
    """Of a float graph for (N, C, H, W) or (N, F); maps are (N, C, H, W) again."""
    made = FloatInterpreter(graph).run(pictures.transpose(0, 2, 3, 1) if pictures.ndim == 4 else pictures)
    assert isinstance(made, np.ndarray)
    return made.transpose(0, 3, 1, 2) if made.ndim == 4 else made


def require_equal(net: OnnxNet, output: str, shape: tuple[int, ...], folder: Path) -> FloatGraph:
    """Hold an import against ONNX Runtime, before and after folding."""
    path = net.save(folder / "net.onnx", output)
    graph = import_onnx(path)
    pictures = np.random.default_rng(3).normal(0.3, 1.5, (3, *shape[1:])).astype(np.float32)
    expected = runtime(path, pictures)
    for network in (graph, fold(graph)):
        found = outputs(network, pictures)
        atol = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=atol)
    return graph


# ------------------------------------------------------------------------------------------ whole networks


@pytest.mark.parametrize("head", ["pool", "flat"])
@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
def test_a_mobilenet_v1_computes_what_onnx_runtime_does(size: tuple[int, int], head: str, tmp_path: Path) -> None:
    net, output = mobilenet_v1(*size, head=head)
    graph = require_equal(net, output, (1, 3, *size), tmp_path)
    assert {layer.kind for layer in fold(graph).layers} <= {"conv2d", "depthwise", "mean", "reshape", "dense"}


@pytest.mark.parametrize("resolution", [32, 45])
def test_a_mobilenet_v2_computes_what_onnx_runtime_does(resolution: int, tmp_path: Path) -> None:
    net, output = mobilenet_v2(resolution)
    graph = require_equal(net, output, (1, 3, resolution, resolution), tmp_path)
    kinds = [layer.kind for layer in fold(graph).layers]
    assert kinds.count("add") == 4
    assert len(kinds) == 18 + 4 + 2  # convolutions, sums, mean and dense: the reshape is of a shape that it has


def test_what_tf2onnx_writes_of_a_keras_model(tmp_path: Path) -> None:
    """Channels last at the input, Transposes around, SAME as padding after, MatMul with its bias apart."""
    net = OnnxNet(("n", 33, 21, 3), opset=15)
    scaled = net.add("Sub", net.add("Mul", "x", net.constant(1 / 127.5)), net.constant([1.0, 0.9, 1.1]))
    x = net.add("Transpose", scaled, perm=[0, 3, 1, 2])
    x = net.add("Relu", net.norm(net.convolution(x, 3, 8, 3, strides=[2, 2], auto_pad="SAME_UPPER"), 8))
    x = net.add("Clip", x, net.constant(0), net.constant(6))
    x = net.add("Transpose", x, perm=[0, 2, 3, 1])
    x = net.add("Pad", x, net.integers(0, 0, 0, 0, 0, 1, 1, 0))
    x = net.add("Transpose", x, perm=[0, 3, 1, 2])
    x = net.convolution(x, 8, 8, 3, group=8, strides=[2, 2])
    x = net.relu6(net.add("Add", x, net.random(1, 8, 1, 1)))
    x = net.add("Transpose", net.convolution(x, 8, 12), perm=[0, 2, 3, 1])
    x = net.add("ReduceMean", net.add("Relu", net.add("Add", x, net.random(12))), axes=[1, 2], keepdims=0)
    x = net.add("Add", net.add("MatMul", x, net.random(12, 5)), net.random(5))
    path = net.save(tmp_path / "keras.onnx", net.add("Softmax", x, axis=-1))
    graph = import_onnx(path)
    assert graph.input_shape == (33, 21, 3)
    pictures = np.random.default_rng(1).uniform(0, 255, (2, 33, 21, 3)).astype(np.float32)
    expected = runtime(path, pictures)
    np.testing.assert_allclose(FloatInterpreter(graph).run(pictures), expected, atol=1e-5)
    np.testing.assert_allclose(FloatInterpreter(fold(graph)).run(pictures), expected, atol=1e-5)
    assert [layer.kind for layer in fold(graph).layers] == [
        *("depthwise", "conv2d", "depthwise", "conv2d", "mean", "dense", "softmax")
    ]


# ------------------------------------------------------------------------------------------ kinds of nodes


def convolution(made: int = 6, kernel: int = 3, group: int = 1, **attributes: Any) -> Build:
    return lambda net: net.convolution("x", 4, made, kernel, group=group, **attributes)


def node(op: str, *constants: Any, **attributes: Any) -> Build:
    return lambda net: net.add(op, "x", *(net.constant(values) for values in constants), **attributes)


def with_bias(net: OnnxNet) -> str:
    return net.add("Conv", "x", net.random(6, 4, 2, 3), net.random(6), kernel_shape=[2, 3], dilations=[2, 1])


def padded(*pads: int, **attributes: Any) -> Build:
    return lambda net: net.convolution(net.add("Pad", "x", net.integers(*pads)), 4, 5, 3, **attributes)


def dense_over_a_map(movement: Build, **attributes: Any) -> Build:
    def build(net: OnnxNet) -> str:
        flat = movement(net)
        shape = (5, 280) if attributes.get("transB") else (280, 5)
        return net.add("Gemm", flat, net.random(*shape), net.random(5), **attributes)

    return build


def reshaped(*shape: int) -> Build:
    return lambda net: net.add("Reshape", "x", net.integers(*shape))


def channels_last_dense(net: OnnxNet) -> str:
    last = net.add("Transpose", "x", perm=[0, 2, 3, 1])
    return net.add("Transpose", net.add("MatMul", last, net.random(4, 6)), perm=[0, 3, 1, 2])


def broadcast_sum(net: OnnxNet) -> str:
    return net.add("Add", "x", net.add("GlobalAveragePool", "x"))


def more_axes(net: OnnxNet) -> str:
    mean = net.add("Add", net.add("ReduceMean", "x", axes=[2, 3], keepdims=0), net.random(1, 1, 4))
    return net.add("MatMul", net.add("Squeeze", mean, net.integers(0, 1)), net.random(4, 3))


def squeezed_convolution(net: OnnxNet) -> str:
    pooled = net.add("GlobalAveragePool", "x")
    return net.add("Squeeze", net.convolution(pooled, 4, 6), net.integers(2, 3))


def mean_of_columns(net: OnnxNet) -> str:
    columns = net.add("ReduceMean", "x", axes=[3], keepdims=0)
    return net.add("Gemm", net.add("Flatten", columns), net.random(28, 3))


def mean_of_rows(net: OnnxNet) -> str:
    return net.add("ReduceMean", net.add("Reshape", "x", net.integers(0, 0, -1)), axes=[2], keepdims=0)


def norm_of_means(net: OnnxNet) -> str:
    mean = net.norm(net.add("Flatten", net.add("GlobalAveragePool", "x")), 4)
    return net.add("Gemm", net.add("Relu", mean), net.random(4, 3))


def relu_of_a_flattened_map(net: OnnxNet) -> str:
    flat = net.add("Relu", net.norm(net.add("Flatten", "x"), 280))
    return net.add("MatMul", flat, net.random(280, 3))


def transposed_weights(net: OnnxNet) -> str:
    flat = net.add("Flatten", "x")
    return net.add("MatMul", flat, net.add("Transpose", net.random(3, 280), perm=[1, 0]))


def relu6_in_two(net: OnnxNet) -> str:
    return net.add("Min", net.add("Max", net.convolution("x", 4, 5), net.constant(0)), net.constant(6))


def of_nothing(net: OnnxNet) -> str:
    x = net.add("Cast", net.add("Dropout", net.add("Identity", "x")), to=TensorProto.FLOAT)
    return net.add("Clip", net.convolution(x, 4, 5))


KINDS: dict[str, Build] = {
    "conv": convolution(),
    "conv strided": convolution(strides=[2, 3], pads=[1, 0, 2, 1]),
    "conv dilated": convolution(dilations=[2, 3], pads=[2, 3, 2, 3]),
    "conv same upper": convolution(strides=[2, 2], auto_pad="SAME_UPPER"),
    "conv same lower": convolution(strides=[2, 2], auto_pad="SAME_LOWER", kernel=4),
    "conv valid": convolution(auto_pad="VALID"),
    "conv with bias": with_bias,
    "depthwise": convolution(4, group=4, pads=[1, 1, 1, 1]),
    "depthwise by 3": convolution(12, group=4, strides=[2, 1]),
    "pad": padded(0, 0, 2, 1, 0, 0, 0, 2),
    "pad and pads": padded(0, 0, 0, 0, 0, 0, 1, 1, pads=[1, 1, 1, 1], strides=[2, 2]),
    "batch norm": lambda net: net.norm("x", 4),
    "relu": node("Relu"),
    "clip": node("Clip", 0, 6),
    "relu6 in two": relu6_in_two,
    "add by channel": lambda net: net.add("Add", net.random(4, 1, 1), "x"),
    "add with more axes": more_axes,
    "sub from a constant": lambda net: net.add("Sub", net.random(1, 4, 1, 1), "x"),
    "div": node("Div", 3.0),
    "mul by pixel": lambda net: net.convolution(net.add("Mul", "x", net.random(7, 10)), 4, 5),
    "add of itself": lambda net: net.add("Add", "x", "x"),
    "add broadcast": broadcast_sum,
    "average pool": node("AveragePool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
    "average pool ceil": node("AveragePool", kernel_shape=[2, 2], strides=[2, 3], ceil_mode=1),
    "average pool with padding": node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    "average pool of padding": lambda net: net.add(
        "AveragePool", net.add("Pad", "x", net.integers(0, 0, 1, 0, 0, 0, 0, 1)), kernel_shape=[2, 2]
    ),
    "max pool": node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "max pool ceil": node("MaxPool", kernel_shape=[2, 3], strides=[2, 2], pads=[0, 1, 0, 1], ceil_mode=1),
    "max pool same": node("MaxPool", kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
    "global average pool": node("GlobalAveragePool"),
    "global max pool": node("GlobalMaxPool"),
    "mean": node("ReduceMean", axes=[-2, -1], keepdims=0),
    "mean of columns": mean_of_columns,
    "mean of channels": node("ReduceMean", axes=[1], keepdims=1),
    "mean of rows": mean_of_rows,
    "softmax of channels": node("Softmax", axis=1),
    "sigmoid": node("Sigmoid"),
    "gemm of a flattened map": dense_over_a_map(node("Flatten"), transB=1),
    "gemm of a reshaped map": dense_over_a_map(reshaped(-1, 280), alpha=0.5, beta=2.0),
    "gemm of a map with channels last": dense_over_a_map(
        lambda net: net.add("Reshape", net.add("Transpose", "x", perm=[0, 2, 3, 1]), net.integers(1, -1))
    ),
    "gemm of a map turned round": dense_over_a_map(
        lambda net: net.add("Flatten", net.add("Transpose", "x", perm=[0, 3, 2, 1]))
    ),
    "dense by pixel": channels_last_dense,
    "squeezed convolution": squeezed_convolution,
    "norm of means": norm_of_means,
    "relu of a flattened map": relu_of_a_flattened_map,
    "transposed weights": transposed_weights,
    "nothing": of_nothing,
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_node_computes_what_onnx_runtime_does(kind: str, tmp_path: Path) -> None:
    net = OnnxNet(MAP)
    graph = require_equal(net, KINDS[kind](net), MAP, tmp_path)
    assert len({layer.name for layer in graph.layers}) == len(graph.layers)


@pytest.mark.parametrize(("opset", "axis"), [(9, 1), (11, 1), (11, -1), (13, -1), (18, 1)])
def test_operators_of_other_opsets(opset: int, axis: int, tmp_path: Path) -> None:
    """Axes, bounds and paddings are attributes in old files and inputs in new ones."""
    net = OnnxNet(MAP, opset=opset)
    if opset < 11:
        x = net.add("Pad", "x", pads=[0, 0, 1, 0, 0, 0, 0, 1])
        x = net.add("Clip", net.convolution(x, 4, 6, 3), min=0.0, max=6.0)
    else:
        axes = ("", net.integers(2, 3)) if opset >= 18 else ()
        pads = net.integers(1, 0, 0, 1) if opset >= 18 else net.integers(0, 0, 1, 0, 0, 0, 0, 1)
        x = net.relu6(net.convolution(net.add("Pad", "x", pads, *axes), 4, 6, 3))
    if opset >= 18:
        x = net.add("ReduceMean", x, net.integers(2, 3), keepdims=1)
    else:
        x = net.add("ReduceMean", x, axes=[2, 3], keepdims=1)
    if opset >= 13:
        x = net.add("Unsqueeze", net.add("Squeeze", x, net.integers(3)), net.integers(3))
    else:
        x = net.add("Unsqueeze", net.add("Squeeze", x, axes=[3]), axes=[3])
    require_equal(net, net.add("Softmax", net.add("Flatten", x), axis=axis), MAP, tmp_path)


def test_a_softmax_before_opset_13_is_over_all_axes_from_its_own_on(tmp_path: Path) -> None:
    net = OnnxNet(MAP, opset=11)
    require_equal(net, net.add("Softmax", net.add("GlobalAveragePool", "x")), MAP, tmp_path)
    net = OnnxNet(MAP, opset=11)
    path = net.save(tmp_path / "net.onnx", net.add("Softmax", "x"))
    with pytest.raises(UnsupportedError, match=r"Softmax: over axes \[1, 2, 3\] at once"):
        import_onnx(path)


def test_a_network_of_rows(tmp_path: Path) -> None:
    net = OnnxNet((1, 12))
    x = net.add("Relu", net.add("Gemm", "x", net.random(12, 7), net.random(1, 7)))
    require_equal(net, net.add("Gemm", x, net.random(3, 7), transB=1), (1, 12), tmp_path)


def test_names_that_look_like_invented_ones(tmp_path: Path) -> None:
    net = OnnxNet((1, 4, 1, 1))
    pooled = net.add("GlobalAveragePool", "x")
    net.nodes.append(helper.make_node("Relu", ["x"], [f"{pooled}/1x1x4"], name="Relu"))
    x = net.add("Add", net.convolution(pooled, 4, 4), f"{pooled}/1x1x4")
    require_equal(net, net.convolution(x, 4, 3), (1, 4, 1, 1), tmp_path)


def test_weights_of_16_bits(tmp_path: Path) -> None:
    net = OnnxNet((1, 4), dtype=TensorProto.FLOAT16)
    weights = net.chance.normal(size=(4, 3)).astype(np.float16)
    path = net.save(tmp_path / "net.onnx", net.add("MatMul", "x", net.constant(weights, dtype=np.float16)))
    x = np.array([1, 2, 3, 4], np.float32)
    np.testing.assert_array_equal(FloatInterpreter(import_onnx(path)).run(x), x @ weights.astype(np.float32))


@pytest.mark.parametrize("movement", ["Flatten", "Squeeze"])
def test_an_output_has_the_files_shape(movement: str, tmp_path: Path) -> None:
    net = OnnxNet(MAP)
    pooled = net.add("MaxPool", "x", kernel_shape=[7, 10])
    output = net.add("Flatten", pooled) if movement == "Flatten" else net.add("Squeeze", pooled, net.integers(2, 3))
    graph = require_equal(net, output, MAP, tmp_path)
    assert graph.shapes[graph.outputs[0]] == (4,)


def test_several_outputs_and_nodes_that_none_hangs_on(tmp_path: Path) -> None:
    net = OnnxNet(MAP)
    x = net.convolution("x", 4, 5)
    net.add("Relu", x)
    path = net.save(tmp_path / "net.onnx", x, net.add("GlobalAveragePool", x))
    graph = import_onnx(path)
    assert [layer.kind for layer in graph.layers] == ["conv2d", "mean", "reshape"]  # to (1, 1, 5), a map as in the file
    assert len(graph.outputs) == 2


# ------------------------------------------------------------------------------------------ what is refused


def test_all_that_is_not_supported_is_listed_at_once(run: Run) -> None:
    net = OnnxNet((1, 8, 6, 6))
    x = net.convolution("x", 8, 8, 3, group=2)
    a = net.add("Tanh", "x")
    x = net.add("Mul", net.convolution("x", 8, 8), net.add("HardSigmoid", x))
    x = net.add("Resize", x, "", net.constant([1, 1, 2, 2]))
    x = net.add("LeakyRelu", net.add("Add", net.add("Relu", "x"), a))
    b = net.add("Clip", "x", net.constant(-1), net.constant(1))
    net.save(Path("net.onnx"), x, b)
    Path("p").mkdir()
    refused = run("quantize", "net.onnx", "--calibrate", "p", "-o", "model.npz")
    assert refused.code == 3
    assert refused.err.count("\n") == 1
    assert "6 nodes not supported: " in refused.err
    assert "Conv: 2 groups of 8 channels; expected 1, or one a channel (Conv_0); Tanh (Tanh_1);" in refused.err
    for listed in ("HardSigmoid (", "Resize (", "LeakyRelu (", "Clip: from -1 to 1; expected 0 to 6, or 0 and above ("):
        assert listed in refused.err
    assert "GlobalAveragePool, " in refused.err  # among what is supported


REFUSED: dict[str, tuple[Build, str]] = {
    "pool of padding": (
        lambda net: net.add("MaxPool", net.add("Pad", "x", net.integers(0, 0, 1, 1, 0, 0, 1, 1)), kernel_shape=[3, 3]),
        "padding, which only a convolution may",
    ),
    "sigmoid of padding": (
        lambda net: net.convolution(
            net.add("Sigmoid", net.add("Pad", "x", net.integers(0, 0, 1, 1, 0, 0, 1, 1))), 4, 5
        ),
        "padding, which only a convolution may",
    ),
    "reflected": (
        lambda net: net.convolution(net.add("Pad", "x", net.integers(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect"), 4, 5, 3),
        "mode reflect",
    ),
    "cropped": (padded(0, 0, -1, 0, 0, 0, 0, 0), "expected 8 numbers of 0 or more"),
    "turned round": (
        lambda net: net.convolution(net.add("Transpose", "x", perm=[0, 1, 3, 2]), 4, 5),
        "axes are out of order",
    ),
    "flattened output": (node("Flatten"), "a map whose axes were moved or flattened; expected scores"),
    "padding too wide": (padded(0, 0, 3, 0, 0, 0, 0, 0), r"a window of \(3, 3\) fits into its Padding"),
    "product": (lambda net: net.add("Mul", "x", "x"), "of two tensors"),
    "weights computed": (lambda net: net.add("Conv", "x", net.add("Relu", "x")), "not constant"),
    "too large": (padded(0, 0, 5000, 5000, 0, 0, 0, 0), "a tensor of 100340280 elements; expected at most 16777216"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_and_why(kind: str, tmp_path: Path) -> None:
    build, problem = REFUSED[kind]
    net = OnnxNet(MAP)
    path = net.save(tmp_path / "net.onnx", build(net))
    with pytest.raises(UnsupportedError, match=problem):
        import_onnx(path)


@pytest.mark.parametrize(("index", "bad"), [(0, np.nan), (3, np.inf), (7, -np.inf), (-1, np.nan), (-2, np.inf)])
def test_weights_that_are_no_numbers_name_the_tensor(index: int, bad: float, tmp_path: Path) -> None:
    net, output = mobilenet_v1(32, 32)
    tensor = net.constants[index]
    values = numpy_helper.to_array(tensor).copy()
    values.ravel()[-1] = bad
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    path = net.save(tmp_path / "net.onnx", output)
    with pytest.raises(ModelError, match=f'tensor "{tensor.name}" has values that are not finite numbers'):
        import_onnx(path)


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        (("n", 3, "h", "w"), "leaves its height and width open: --resolution R"),
        (("n", "c", 32, 32), "leaves its size open"),
        ((4, 3, 32, 32), "a batch of 4; expected 1"),
        ((1, 3, 4, 32, 32), "expected a batch of 1 and one to three axes"),
    ],
)
def test_inputs_that_are_no_picture(shape: tuple[int | str, ...], problem: str, tmp_path: Path) -> None:
    net = OnnxNet(shape)
    path = net.save(tmp_path / "net.onnx", net.convolution("x", 3, 4))
    with pytest.raises(TinymbnError, match=problem):
        import_onnx(path)


def test_a_resolution_fills_in_what_the_file_leaves_open(tmp_path: Path) -> None:
    net = OnnxNet(("n", 3, "h", "w"))
    path = net.save(tmp_path / "net.onnx", net.convolution("x", 3, 4))
    assert import_onnx(path, 48).input_shape == (48, 48, 3)
    net = OnnxNet(("n", "h", "w", 3))
    x = net.add("Transpose", "x", perm=[0, 3, 1, 2])
    path = net.save(tmp_path / "net.onnx", net.convolution(x, 3, 4))
    assert import_onnx(path, 48).input_shape == (48, 48, 3)


def test_a_resolution_contradicts_no_file(run: Run) -> None:
    net, output = mobilenet_v2(32)
    net.save(Path("net.onnx"), output)
    refused = run("quantize", "net.onnx", "--calibrate", ".", "--resolution", "48")
    assert refused.code == 2
    assert "net.onnx: its input is 32 high and 32 wide; expected no --resolution 48" in refused.err


def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"anything")
    original = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "onnx":
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for read in (import_onnx, load_model):
        with pytest.raises(ToolError, match=r"pip install 'tinymbn\[onnx\]'"):
            read(path)


def external(folder: Path, location: str, values: Array, **entries: int) -> Path:
    """A convolution whose weights are said to lie in another file."""
    net = OnnxNet(MAP)
    path = net.save(folder / "net.onnx", net.add("Conv", "x", net.constant(values, "weights")))
    model = onnx.load(path)
    (tensor,) = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_may_lie_in_a_file_next_to_the_model(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(5, 4, 1, 1)).astype(np.float32)
    (tmp_path / "net.onnx.data").write_bytes(b"1234" + weights.tobytes())
    path = external(tmp_path, "net.onnx.data", weights, offset=4, length=weights.nbytes)
    (layer,) = import_onnx(path).layers
    np.testing.assert_array_equal(layer.weights, weights.transpose(0, 2, 3, 1))  # type: ignore[union-attr]


def test_weights_lie_nowhere_else(tmp_path: Path) -> None:
    weights = np.ones((5, 4, 1, 1), np.float32)
    folder, outside = tmp_path / "model", tmp_path / "secret"
    folder.mkdir()
    outside.write_bytes(weights.tobytes())
    (folder / "link").symlink_to(outside)
    (folder / "short").write_bytes(weights.tobytes()[:-1])
    for location in ("../secret", str(outside), "..", "", ".", "a/b", "..\\secret", "C:secret", "link", "link\0"):
        with pytest.raises(ModelError, match=r'tensor "weights": .*expected a file in the model\'s own folder'):
            import_onnx(external(folder, location, weights))
    with pytest.raises(ModelError, match="no such file"):
        import_onnx(external(folder, "missing", weights))
    for entries in ({}, {"offset": 40}, {"offset": -4}, {"length": 8}):
        with pytest.raises(ModelError, match="expected 80 from"):
            import_onnx(external(folder, "short", weights, **entries))


# ------------------------------------------------------------------------------------------ damage


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A file cut short, with bytes changed, or with a part of it elsewhere."""
    kind = chance.randrange(3)
    if kind == 0:
        return data[: chance.randrange(len(data))]
    changed = bytearray(data)
    if kind == 1:
        for _ in range(chance.choice((1, 1, 3, 30))):
            changed[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    else:
        length, start, end = chance.randrange(1, 60), chance.randrange(len(data)), chance.randrange(len(data))
        changed[end : end + length] = data[start : start + length]
    return bytes(changed)


def every_node(quantized: bool) -> OnnxNet:
    """A small model of most kinds of nodes."""
    net = OnnxNet((1, 9, 8, 3), opset=13)
    x = "x" if quantized else net.add("Div", "x", net.constant(2))  # which the quantiser leaves as it is
    x = net.add("Pad", net.add("Transpose", x, perm=[0, 3, 1, 2]), net.integers(0, 0, 1, 1, 0, 0, 1, 1))
    x = net.relu6(net.norm(net.convolution(x, 3, 4, 3, strides=[2, 2]), 4))
    x = net.add("Add", x, net.add("Relu", net.convolution(x, 4, 4, 3, group=4, auto_pad="SAME_UPPER")))
    x = net.add("MaxPool", x, kernel_shape=[2, 2], ceil_mode=1)
    x = net.add("AveragePool", x, kernel_shape=[2, 2])
    first = net.add("Slice", net.add("Shape", x), net.integers(0), net.integers(1), net.integers(0))
    flat = net.add("Reshape", x, net.add("Concat", first, net.integers(-1), axis=0))
    x = net.add("Gemm", flat, net.random(6, 24), net.random(6), transB=1)
    net.add("Softmax", net.add("MatMul", net.add("Dropout", x), net.random(6, 3)), axis=1)
    return net


@pytest.mark.parametrize("quantized", [False, True])
def test_damaged_files_end_in_one_line_or_in_a_sound_graph(
    quantized: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path, net = tmp_path / "net.onnx", every_node(quantized)
    net.save(path, f"t{len(net.nodes) - 1}")
    assert len(import_onnx(path).layers) > 10
    read: Callable[[Path], FloatGraph | Graph] = import_onnx
    if quantized:
        pictures = np.random.default_rng(0).normal(size=(4, 9, 8, 3)).astype(np.float32)
        path = quantize(path, pictures, activations="QUInt8", weights="QInt8", per_channel=True)
        read = load_model
        assert len(load_model(path).layers) == 10
    data = path.read_bytes()
    said: set[type[TinymbnError]] = set()
    for seed in range(20 * request.config.getoption("--examples")):
        path.write_bytes(damaged(data, random.Random(seed)))
        began = time.process_time()
        try:
            read(path)
        except TinymbnError as error:  # its text is one line, whatever a file has put into it
            said.add(type(error))
        assert time.process_time() - began < 2, seed
    assert said <= {ModelError, UnsupportedError, OptionError}


# ------------------------------------------------------------------------------------------ quantised models


def pictures_for(graph: Graph, count: int) -> tuple[NDArray[np.int8], Array]:
    """Inputs as int8, (N, H, W, C), and what they stand for, (N, C, H, W)."""
    tensor = graph.input_tensor
    real = np.random.default_rng(7).normal(size=(count, *tensor.shape))
    x = np.clip(np.rint(real / tensor.scale) + tensor.zero_point, -128, 127).astype(np.int8)
    values = (x.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)
    return x, values.transpose(0, 3, 1, 2)


def require_each_layer_near(graph: Graph, path: Path) -> None:
    """Hold each layer, on what ONNX Runtime has computed until then, against ONNX Runtime: a step at most, and rarely.

    A requantisation rounds twice in TensorFlow Lite, first to a fraction of one: of eighths, one in 16 differs.
    """
    for picture, real in zip(*pictures_for(graph, 2), strict=True):
        expected = quantized_tensors(path, real)
        found = {graph.input: picture}
        assert sum(layer.output in expected for layer in graph.layers) >= len(graph.layers) - 1
        for layer in graph.layers:
            kept = {name: graph.tensors[name] for name in (*layer.inputs, layer.output)}
            constants = {name: found[name] for name in layer.inputs[1:]}
            alone = Graph("alone", kept, (layer,), layer.inputs[0], (layer.output,), constants)
            made = found[layer.output] = Interpreter(alone).run(found[layer.inputs[0]])
            if layer.output in expected:
                found[layer.output] = expected[layer.output].reshape(made.shape)
            if {*layer.inputs, layer.output} <= {graph.input, *expected}:
                difference = np.abs(made.astype(int) - found[layer.output])
                assert difference.max() <= 1, layer.name
                assert difference.size < 500 or difference.mean() < 0.1, (layer.name, difference.mean())


def require_near(graph: Graph, path: Path, steps: float) -> None:
    """Hold an int8 graph's output against ONNX Runtime's, which is real: within steps, and mostly the same class."""
    x, values = pictures_for(graph, 24)
    output = graph.output_tensors[0]
    made = Interpreter(graph).run(x)
    assert isinstance(made, np.ndarray)
    expected = runtime(path, values)
    difference = (made.astype(np.float64) - output.zero_point) - expected / output.scale
    assert np.abs(difference).max() <= steps + 0.01, np.abs(difference).max()
    assert np.abs(difference).mean() < steps / 4
    assert (made.argmax(axis=-1) == expected.argmax(axis=-1)).mean() > 0.9


VARIANTS = [
    ("QUInt8", "QInt8", True),
    ("QInt8", "QInt8", True),
    ("QUInt8", "QInt8", False),
    ("QUInt8", "QUInt8", False),
]


@pytest.mark.parametrize(("activations", "weights", "per_channel"), VARIANTS)
@pytest.mark.parametrize("build", [lambda: mobilenet_v1(33, 40, head="flat"), lambda: mobilenet_v2(32)])
def test_what_onnx_runtimes_quantiser_makes_is_within_a_step_layer_by_layer(
    build: Callable[[], tuple[OnnxNet, str]], activations: str, weights: str, per_channel: bool, tmp_path: Path
) -> None:
    net, output = build()
    path = net.save(tmp_path / "net.onnx", output)
    (size,) = [[dim.dim_value for dim in net.model(output).graph.input[0].type.tensor_type.shape.dim][1:]]
    calibration = np.random.default_rng(2).normal(size=(12, *size)).astype(np.float32)
    made = quantize(path, calibration, activations=activations, weights=weights, per_channel=per_channel)
    graph = load_model(made)
    assert graph.source.file == "net_qdq.onnx"
    require_each_layer_near(graph, made)
    require_near(graph, made, 5)


class Qdq(OnnxNet):
    """With QuantizeLinear and DequantizeLinear pairs."""

    def pair(self, x: str, scale: float, zero_point: int, dtype: Any = np.int8) -> str:
        operands = self.constant(scale), self.constant(zero_point, dtype=dtype)
        return self.add("DequantizeLinear", self.add("QuantizeLinear", x, *operands), *operands)

    def integer(self, values: Any, scales: Any, axis: int = 0, dtype: Any = np.int8, zero_point: int = 0) -> str:
        zero_points = np.full(np.shape(scales), zero_point)
        operands = self.constant(values, dtype=dtype), self.constant(scales), self.constant(zero_points, dtype=dtype)
        return self.add("DequantizeLinear", *operands, axis=axis)


def integers(net: Qdq, x: str, scale: float, zero_point: int, dtype: Any = np.int8) -> tuple[str, list[str]]:
    """What a QuantizeLinear makes, and the operands that a DequantizeLinear is to have."""
    operands = [net.constant(scale), net.constant(zero_point, dtype=dtype)]
    return net.add("QuantizeLinear", x, *operands), operands


def pool(net: OnnxNet, x: str) -> str:
    return net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])


def column(net: OnnxNet, x: str) -> str:
    return net.add("Unsqueeze", net.add("Squeeze", net.add("Identity", x), net.integers(0)), net.integers(0))


BETWEEN: dict[str, Callable[[Qdq, str], str]] = {
    "nothing": lambda net, x: x,
    "max pool": pool,
    "max pools": lambda net, x: pool(net, pool(net, x)),
    "movement": column,
    "movement and max pool": lambda net, x: pool(net, column(net, x)),
}


@pytest.mark.parametrize(("zero_point", "dtype"), [(100, np.uint8), (-100, np.int8), (0, np.uint8)])
@pytest.mark.parametrize("between", BETWEEN)
def test_integers_between_two_nodes_keep_their_scale(between: str, zero_point: int, dtype: Any, tmp_path: Path) -> None:
    net = Qdq((1, 3, 8, 8))
    steps, operands = integers(net, "x", 0.05, zero_point, dtype)
    path = net.save(tmp_path / "net.onnx", net.add("DequantizeLinear", BETWEEN[between](net, steps), *operands))
    graph = load_model(path)
    offset = 128 if dtype == np.uint8 else 0
    assert {tensor.quant for tensor in graph.tensors.values()} == {Quant(float(np.float32(0.05)), zero_point - offset)}
    x, values = pictures_for(graph, 3)
    made = Interpreter(graph).run(x) if graph.layers else x
    real = (np.asarray(made, np.float64) - (zero_point - offset)) * np.float32(0.05)
    np.testing.assert_allclose(real.transpose(0, 3, 1, 2), runtime(path, values), atol=1e-5)


@pytest.mark.parametrize(
    "read",
    [
        lambda net, x: net.add("Relu", x),
        lambda net, x: pool(net, net.add("Cast", x, to=TensorProto.FLOAT)),
        lambda net, x: net.add("Add", x, x),
        lambda net, x: net.add("Relu", pool(net, column(net, x))),
        lambda net, x: net.add("Pad", x, net.integers(0, 0, 1, 1, 0, 0, 1, 1)),
    ],
)
def test_integers_are_no_real_numbers(read: Callable[[Qdq, str], str], tmp_path: Path) -> None:
    net = Qdq((1, 3, 8, 8), opset=14)
    steps, operands = integers(net, "x", 0.1, -100)
    made = read(net, steps)
    path = net.save(tmp_path / "net.onnx", net.add("DequantizeLinear", made, *operands))
    with pytest.raises(UnsupportedError, match=r'it reads "t\d", integers that only a DequantizeLinear may'):
        load_model(path)


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize(("scale", "zero_point"), [(0.3, None), (0.3, 7), (0.1, 7)])
def test_a_scale_that_is_not_that_of_its_quantisation_is_refused(
    scale: float, zero_point: int | None, between: str, tmp_path: Path
) -> None:
    net = Qdq((1, 3, 8, 8))
    steps = BETWEEN[between](net, net.add("QuantizeLinear", "x", net.constant(0.1)))
    rest = [] if zero_point is None else [net.constant(zero_point, dtype=np.uint8)]
    path = net.save(tmp_path / "net.onnx", net.add("DequantizeLinear", steps, net.constant(scale), *rest))
    with pytest.raises(UnsupportedError, match="a scale or zero point that is not that of its QuantizeLinear"):
        load_model(path)


@pytest.mark.parametrize(("rest", "zero_point"), [({}, -128), ({"output_dtype": 2}, -128), ({"output_dtype": 3}, 0)])
def test_a_zero_point_that_is_left_out_is_that_of_the_type(
    rest: dict[str, int], zero_point: int, tmp_path: Path
) -> None:
    net = Qdq((1, 3, 8, 8), opset=21)
    steps = pool(net, net.add("QuantizeLinear", "x", net.constant(0.1), **rest))
    path = net.save(tmp_path / "net.onnx", net.add("DequantizeLinear", steps, net.constant(0.1)))
    graph = load_model(path)
    assert graph.output_tensors[0].quant == Quant(float(np.float32(0.1)), zero_point)
    require_near_map(graph, path)


def require_near_map(graph: Graph, path: Path) -> None:
    """Hold an int8 graph whose output is a map against ONNX Runtime: within a step."""
    x, values = pictures_for(graph, 3)
    (tensor,) = graph.output_tensors
    real = (np.asarray(Interpreter(graph).run(x), np.float64) - tensor.zero_point) * tensor.scale
    assert np.abs(real.transpose(0, 3, 1, 2) - runtime(path, values)).max() <= 1.01 * tensor.scale


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_an_input_that_is_quantised_already(dtype: Any, tmp_path: Path) -> None:
    kind = TensorProto.INT8 if dtype == np.int8 else TensorProto.UINT8
    net = Qdq((1, 3, 8, 8), dtype=kind)
    x = net.add("DequantizeLinear", column(net, "x"), net.constant(0.05), net.constant(100, dtype=dtype))
    path = net.save(tmp_path / "net.onnx", net.pair(net.add("Relu", x), 0.05, -128))
    graph = load_model(path)
    offset = 128 if dtype == np.uint8 else 0
    assert graph.input_tensor.quant == Quant(float(np.float32(0.05)), 100 - offset)
    steps = np.random.default_rng(5).integers(-128, 128, (3, 8, 8, 3)).astype(np.int8)
    made = np.asarray(Interpreter(graph).run(steps), np.float64)
    expected = runtime(path, (steps.astype(int) + offset).astype(dtype).transpose(0, 3, 1, 2))
    assert np.abs((made + 128) * np.float32(0.05) - expected.transpose(0, 2, 3, 1)).max() < 0.0501


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda net, half: pool(net, "x"), "what no QuantizeLinear makes"),
        (lambda net, half: net.add("Relu", "x"), 'it reads "x", integers that only a DequantizeLinear may'),
        (lambda net, half: (net.add("Cast", "x", to=TensorProto.FLOAT), "x")[1], 'takes input "x" for other numbers'),
        (lambda net, half: (net.add("DequantizeLinear", "x", half), "x")[1], 'takes input "x" for other numbers'),
    ],
)
def test_an_input_of_integers_stands_for_one_kind_of_numbers(
    build: Callable[[Qdq, str], str], problem: str, tmp_path: Path
) -> None:
    net = Qdq((1, 3, 8, 8), opset=14, dtype=TensorProto.INT8)
    steps = build(net, net.constant(0.5))
    real = net.add("DequantizeLinear", steps, net.constant(0.25))
    path = net.save(tmp_path / "net.onnx", net.pair(net.add("Relu", real), 0.25, 0))
    with pytest.raises(UnsupportedError, match=problem):
        load_model(path)


def test_an_output_may_be_integers(tmp_path: Path) -> None:
    net = Qdq((1, 3, 8, 8))
    steps, _ = integers(net, net.add("Relu", net.pair("x", 0.05, 0)), 0.1, -100)
    graph = load_model(net.save(tmp_path / "net.onnx", pool(net, steps)))
    assert [layer.kind for layer in graph.layers] == ["requantize", "max_pool"]
    assert graph.output_tensors[0].quant == Quant(float(np.float32(0.1)), -100)


def test_real_numbers_are_no_integers(tmp_path: Path) -> None:
    net = Qdq((1, 3, 8, 8))
    path = net.save(tmp_path / "net.onnx", net.add("DequantizeLinear", net.pair("x", 0.5, 0), net.constant(0.5)))
    with pytest.raises(ModelError, match="has real numbers; expected integers"):
        load_model(path)


def test_a_float_network_of_bytes(tmp_path: Path) -> None:
    net = OnnxNet(MAP, dtype=TensorProto.UINT8)
    x = net.add("Cast", pool(net, "x"), to=TensorProto.FLOAT)
    path = net.save(tmp_path / "net.onnx", net.convolution(x, 4, 5))
    pictures = np.random.default_rng(3).integers(0, 256, (3, *MAP[1:])).astype(np.uint8)
    found = outputs(import_onnx(path), pictures.astype(np.float32))
    np.testing.assert_allclose(found, runtime(path, pictures), rtol=1e-5, atol=1e-3)


def test_the_files_integers_and_scales_stay_as_they_are(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    net = Qdq((1, 3, 5, 6))
    x = net.pair("x", 0.05, 131, np.uint8)
    weights, scales = chance.integers(-128, 128, (4, 3, 2, 2)), np.array([0.01, 0.02, 0.03, 0.5], np.float32)
    # Beyond the 24 bits of a float32.
    bias = np.array([100_000_001, -100_000_003, 7, 2**30 + 1])
    scale = np.float32(0.05) * scales
    x = net.add("Conv", x, net.integer(weights, scales), net.integer(bias, scale, dtype=np.int32))
    x = net.pair(net.add("Relu", x), 0.25, -100)
    flat = net.pair(net.add("Flatten", x), 0.25, -100)
    columns = chance.integers(0, 256, (80, 7))
    made = net.add("Gemm", flat, net.integer(columns, 0.125, dtype=np.uint8, zero_point=120))
    path = net.save(tmp_path / "net.onnx", net.pair(made, 2.0, 5))
    graph = import_quantized_onnx(path)
    assert graph.input_tensor.quant == Quant(float(np.float32(0.05)), 3)
    assert graph.output_tensors[0].quant == Quant(2.0, 5)
    convolution, _, dense = graph.layers
    assert isinstance(convolution, Conv2D)
    assert isinstance(dense, Dense)
    np.testing.assert_array_equal(convolution.weights.values, weights.transpose(0, 2, 3, 1))
    assert convolution.weights.bias.tolist() == bias.tolist()
    assert convolution.activation.low == -100
    assert dense.weights.zero_point == -8
    by_place = (columns.reshape(4, 4, 5, 7).transpose(3, 1, 2, 0) - 128).reshape(7, 80)  # (C, H, W) as (H, W, C)
    np.testing.assert_array_equal(dense.weights.values, by_place)
    require_near(graph, path, 1)


def test_what_has_no_scale_of_its_own_takes_that_of_its_neighbour(tmp_path: Path) -> None:
    """As tools write it that quantise what convolutions read, and nothing else."""
    net = Qdq((1, 3, 8, 8))
    weights = net.integer(net.chance.integers(-127, 128, (4, 3, 3, 3)), [0.01] * 4)
    x = net.add("Relu", net.add("Conv", net.pair("x", 0.05, 0), weights))
    x = net.pair(net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), 0.02, -128)
    x = net.pair(net.add("AveragePool", x, kernel_shape=[3, 3]), 0.01, -120)  # a scale of its own
    x = net.pair(net.add("GlobalAveragePool", x), 0.01, -120)
    x = net.add("Gemm", net.add("Flatten", x), net.integer(net.chance.integers(-127, 128, (4, 3)), [0.01] * 3, 1))
    path = net.save(tmp_path / "net.onnx", net.add("Softmax", net.pair(x, 0.03, 0)))
    graph = load_model(path)
    kinds = [layer.kind for layer in graph.layers]
    assert kinds == ["conv2d", "max_pool", "average_pool", "requantize", "mean", "dense", "softmax"]
    require_near(graph, path, 2)


@pytest.mark.parametrize("scale", [None, 1 / 256, 0.02])
def test_a_sigmoid_is_a_table_to_the_scale_that_the_file_says(scale: float | None, tmp_path: Path) -> None:
    net = Qdq((1, 3, 8, 8))
    flat = net.add("Flatten", net.add("GlobalAveragePool", net.pair("x", 0.05, 0)))
    made = net.add("Sigmoid", net.pair(flat, 0.005, 3))
    path = net.save(tmp_path / "net.onnx", made if scale is None else net.pair(made, scale, -128))
    graph = load_model(path)
    assert [layer.kind for layer in graph.layers][-1] == "lookup"
    assert graph.output_tensors[0].quant == Quant(float(np.float32(scale or 1 / 256)), -128)
    require_near(graph, path, 2)


def test_a_second_scale_is_a_requantisation(tmp_path: Path) -> None:
    net = Qdq((1, 3, 8, 8))
    x = net.pair("x", 0.05, 0)
    path = net.save(tmp_path / "net.onnx", net.pair(net.add("Add", net.pair(x, 0.1, 10), x), 0.15, -5))
    graph = load_model(path)
    assert [layer.kind for layer in graph.layers] == ["requantize", "add"]
    steps, values = pictures_for(graph, 3)
    made = Interpreter(graph).run(steps).astype(np.float64)
    expected = runtime(path, values).transpose(0, 2, 3, 1) / np.float32(0.15) - 5
    assert np.abs(made - expected).max() < 1.01


def test_integers_that_a_file_leaves_to_be_computed(tmp_path: Path) -> None:
    net = Qdq((1, 3, 8, 8))
    weights = net.chance.normal(size=(4, 3, 3, 3))
    operands = net.constant([0.01, 0.02, 0.03, 0.04]), net.constant([0] * 4, dtype=np.int8)
    steps = net.add("QuantizeLinear", net.constant(weights), *operands, axis=0)
    real = net.add("DequantizeLinear", steps, *operands, axis=0)
    path = net.save(tmp_path / "net.onnx", net.pair(net.add("Conv", net.pair("x", 0.05, 0), real), 0.1, 0))
    (layer,) = load_model(path).layers
    assert isinstance(layer, Conv2D)
    scaled = weights.astype(np.float32) / np.array([0.01, 0.02, 0.03, 0.04], np.float32).reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(layer.weights.values, np.clip(np.rint(scaled), -128, 127).transpose(0, 2, 3, 1))


def test_a_model_of_which_weights_alone_are_integers_is_a_float_one(tmp_path: Path) -> None:
    net = Qdq(MAP)
    weights = net.integer(net.chance.integers(-127, 128, (5, 4, 3, 3)), [0.01] * 5)
    require_equal(net, net.add("Conv", "x", weights), MAP, tmp_path)


def test_all_that_is_not_quantised_is_listed_at_once(tmp_path: Path) -> None:
    net = Qdq((1, 3, 8, 8))
    x = net.convolution("x", 3, 4)
    x = net.add("Add", net.pair(x, 0.05, 0), net.convolution("x", 3, 4))
    path = net.save(tmp_path / "net.onnx", x)
    problem = (
        r'5 tensors .*input "x"; output "t3" of conv2d "Conv_3"; output "t4" of add .*; weights of conv2d "Conv_0"'
    )
    with pytest.raises(UnsupportedError, match=problem):
        load_model(path)


def test_a_float_model_is_to_be_quantised_and_a_quantised_one_is_not(run: Run) -> None:
    net, output = mobilenet_v1(32, 32)
    net.save(Path("net.onnx"), output)
    refused = run("run", "net.onnx", "picture.png")
    assert refused.code == 3
    assert "net.onnx: a float model; tinymbn runs int8" in refused.err
    assert "tinymbn quantize" in refused.err
    qdq = Qdq((1, 3, 8, 8))
    qdq.save(Path("q.onnx"), qdq.pair(qdq.add("Relu", qdq.pair("x", 0.05, 0)), 0.05, -128))
    Path("p").mkdir()
    refused = run("quantize", "q.onnx", "--calibrate", "p", "-o", "model.npz")
    assert refused.code == 3
    assert "quantised already" in refused.err


# ------------------------------------------------------------------------------------------ commands


def write_pictures(folder: Path, count: int, size: int) -> None:
    folder.mkdir()
    chance = np.random.default_rng(0)
    for k in range(count):
        coarse = Image.fromarray(chance.integers(0, 256, (6, 6, 3)).astype(np.uint8))
        coarse.resize((size, size)).save(folder / f"{k}.png")


@pytest.mark.parametrize("board", ["host", "qemu-m7"])
def test_from_float_onnx_to_bytes_verified_on_a_board(board: str, run: Run) -> None:
    """The quantiser's error, on other pictures: the mean one of logits is under a twentieth of their spread."""
    net, output = mobilenet_v2(32)
    path = net.save(Path("net.onnx"), output)
    write_pictures(Path("pictures"), 24, 32)
    options = ("--calibrate", "pictures", "--input-range", "-1,1", "-o", "model.npz", "--json")
    done = run("quantize", path, *options)
    assert done.code == 0, done.err
    assert all(layer["sqnr_db"] > 15 for layer in json.loads(done.out)["layers"])
    graph = load_model("model.npz")
    coarse = np.random.default_rng(9).integers(0, 256, (24, 6, 6, 3)).astype(np.uint8)
    pixels = np.stack([np.asarray(Image.fromarray(picture).resize((32, 32))) for picture in coarse])
    x = (pixels.astype(np.int16) - 128).astype(np.int8)
    expected = runtime(path, (pixels / 127.5 - 1).astype(np.float32).transpose(0, 3, 1, 2))
    made = Interpreter(graph).run(x)
    assert isinstance(made, np.ndarray)
    tensor = graph.output_tensors[0]
    error = np.abs((made.astype(np.float64) - tensor.zero_point) * tensor.scale - expected)
    assert error.mean() < 0.05 * expected.std(), (error.mean(), expected.std())
    assert run("codegen", "--board", board, "-o", "firmware").code == 0
    assert run("build", "firmware").code == 0
    verified = run("verify", "model.npz", "pictures/0.png", "--firmware", "firmware", "--emulate", "-n", 2)
    assert verified.code == 0, verified.out + verified.err
    assert "equal" in verified.out


def test_a_quantised_model_is_imported_run_and_verified(run: Run) -> None:
    net, output = mobilenet_v1(32, 32)
    path = net.save(Path("net.onnx"), output)
    calibration = np.random.default_rng(2).normal(size=(6, 3, 32, 32)).astype(np.float32)
    quantize(path, calibration, activations="QUInt8", weights="QUInt8", per_channel=False)
    write_pictures(Path("pictures"), 1, 32)
    mean_and_std = ("--mean", "127.5,127.5,127.5", "--std", "63,63,63")
    assert run("import", "net_qdq.onnx", "-o", "model.npz", *mean_and_std).code == 0
    a, b = (run("run", name, "pictures/0.png", "--json") for name in ("net_qdq.onnx", "model.npz"))
    assert (a.code, b.code) == (0, 0), a.err
    assert run("info", "net_qdq.onnx").code == 0
    assert run("codegen", "net_qdq.onnx", "--board", "host", "-o", "firmware").code == 0
    assert run("build", "firmware").code == 0
    verified = run("verify", "net_qdq.onnx", "--firmware", "firmware", "--emulate", "-n", 3)
    assert verified.code == 0, verified.out + verified.err
