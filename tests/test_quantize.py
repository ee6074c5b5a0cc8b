"""The quantiser: float graph, folding, calibration, conversion, and int8 against float from end to end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tflite_writer import TfliteWriter
from tinymbn import Graph, Interpreter, import_tflite
from tinymbn.errors import ImageError, ModelError
from tinymbn.graph import Quant
from tinymbn.layers import Activation, Add, Conv2D, Dense, Depthwise, Mean, Requantize, Weights
from tinymbn.preprocessing import Preprocessing
from tinymbn.quantize import (
    AnyFloatLayer,
    AveragePool,
    BatchNorm,
    FloatAdd,
    FloatConv2D,
    FloatDense,
    FloatDepthwise,
    FloatGraph,
    FloatInterpreter,
    FloatLogistic,
    FloatMean,
    FloatSoftmax,
    MaxPool,
    Method,
    Range,
    Relu,
    Reshape,
    Window,
    build,
    calibrate,
    convert,
    fold,
    min_max_ranges,
    mobilenet_v1,
    quantize,
    same_padding,
)
from tinymbn.quantize.conversion import quant_of_range, quantize_weights, rescaling, weight_scales
from tinymbn.quantize.float_layers import FloatActivation

Array = NDArray[np.float32]
POINT = Window((1, 1))


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


def counted(*shape: int) -> Array:
    """1, 2, 3, ... in array order."""
    return np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)


def one_layer(layer: AnyFloatLayer, *input_shape: int) -> FloatGraph:
    return FloatGraph("one layer", layer.inputs[0], input_shape, (layer,), (layer.output,))


def run_one(layer: AnyFloatLayer, x: Array) -> Array:
    result = FloatInterpreter(one_layer(layer, *x.shape)).run(x)
    assert isinstance(result, np.ndarray)
    return result


def same(size: int, kernel: int, stride: int = 1, dilation: int = 1) -> Window:
    pairs = (size, size), (kernel, kernel), (stride, stride), (dilation, dilation)
    return Window(*pairs[1:], padding=same_padding(*pairs))


def random_network(seed: int, *, dead: bool = False) -> FloatGraph:
    """A small MobileNetV2: convolution, inverted residuals with batch-norm, average, dense, softmax; on (16, 16, 3)."""
    generator = np.random.default_rng(seed)
    layers: list[AnyFloatLayer] = []
    tensor = "picture"

    def norm(name: str, channels: int) -> BatchNorm:
        gamma, beta = generator.uniform(0.5, 1.5, channels), generator.normal(size=channels) * 0.3
        mean, variance = generator.normal(size=channels) * 0.2, generator.uniform(0.3, 2, channels)
        f = np.float32
        return BatchNorm(
            f"{name}/norm",
            (f"{name}/sums",),
            f"{name}/normal",
            gamma.astype(f),
            beta.astype(f),
            mean.astype(f),
            variance.astype(f),
        )

    def stage(name: str, *shape: int, window: Window, activation: bool = True) -> None:
        nonlocal tensor
        depthwise = len(shape) == 3
        fan_in = shape[0] * shape[1] if depthwise else int(np.prod(shape[1:]))
        weights = (generator.normal(size=shape) * np.sqrt(2 / fan_in)).astype(np.float32)
        channels = shape[-1] if depthwise else shape[0]
        if dead:
            weights[(..., 1) if depthwise else (1,)] = 0
        make = FloatDepthwise if depthwise else FloatConv2D
        bias = (generator.normal(size=channels) * 0.1).astype(np.float32)
        layers.append(make(name, (tensor,), f"{name}/sums", weights, bias, window))
        layers.append(norm(name, channels))
        tensor = f"{name}/normal"
        if activation:
            layers.append(Relu(f"{name}/relu6", (tensor,), f"{name}/out", "relu6"))
            tensor = f"{name}/out"

    stage("first", 8, 3, 3, 3, window=same(16, 3, 2))
    for block in ("a", "b"):
        before = tensor
        stage(f"{block}/expand", 24, 1, 1, 8, window=POINT)
        stage(f"{block}/depthwise", 3, 3, 24, window=same(8, 3))
        stage(f"{block}/project", 8, 1, 1, 24, window=POINT, activation=False)
        layers.append(FloatAdd(f"{block}/add", (before, tensor), f"{block}/sum"))
        tensor = f"{block}/sum"
    layers += [
        MaxPool("pool", (tensor,), "pooled", Window((2, 2), (2, 2))),
        FloatMean("average", ("pooled",), "averaged"),
        FloatDense(
            "dense", ("averaged",), "logits", generator.normal(size=(5, 8)).astype(np.float32), floats(*[0] * 5)
        ),
        FloatSoftmax("softmax", ("logits",), "scores"),
    ]
    return FloatGraph(f"random {seed}", "picture", (16, 16, 3), tuple(layers), ("scores",))


def random_pictures(seed: int, count: int) -> NDArray[np.uint8]:
    """Blocky pictures: unlike noise, their average differs from one to the next."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return small.repeat(4, axis=1).repeat(4, axis=2)


def real(pictures: NDArray[np.uint8]) -> Array:
    return (pictures / 255).astype(np.float32)


def dequantized(graph: Graph, name: str, values: NDArray[np.int8]) -> NDArray[np.float64]:
    tensor = graph.tensors[name]
    return tensor.scale * (values.astype(np.float64) - tensor.zero_point)


# ------------------------------------------------------------------------------------------- float graph


def test_a_convolution_is_the_sum_over_window_and_channels() -> None:
    layer = FloatConv2D("c", ("x",), "y", counted(1, 2, 2, 1), floats(100), Window((2, 2)))
    # 1 2 3      1*1 + 2*2 + 4*3 + 5*4 = 37, and the window's sum of weights, 10, more for each step of 1
    # 4 5 6
    assert run_one(layer, counted(2, 3, 1)).ravel().tolist() == [137, 147]


def test_a_strided_convolution_pads_after_the_input() -> None:
    layer = FloatConv2D("c", ("x",), "y", counted(1, 3, 3, 1), floats(0), same(4, 3, 2))
    result = run_one(layer, np.ones((4, 4, 1), np.float32))
    # Whole kernel 45; without its last column 27; without its last row 21; without both 12.
    assert result.ravel().tolist() == [45, 27, 21, 12]


def test_a_dilated_convolution_skips_inputs() -> None:
    layer = FloatConv2D("c", ("x",), "y", counted(1, 1, 2, 1), floats(0), Window((1, 2), dilation=(1, 2)))
    assert run_one(layer, counted(1, 4, 1)).ravel().tolist() == [1 + 2 * 3, 2 + 2 * 4]


def test_a_depthwise_output_reads_its_own_input_channel() -> None:
    layer = FloatDepthwise("d", ("x",), "y", counted(1, 1, 4), floats(0, 0, 0, 5), POINT)
    assert run_one(layer, floats(10, 100).reshape(1, 1, 2)).ravel().tolist() == [10, 20, 300, 405]


def test_an_average_pool_leaves_the_padding_out() -> None:
    layer = AveragePool("p", ("x",), "y", same(2, 3))
    assert run_one(layer, counted(2, 2, 1)).ravel().tolist() == [2.5] * 4


def test_a_max_pool_leaves_the_padding_out() -> None:
    layer = MaxPool("p", ("x",), "y", same(2, 3))
    assert run_one(layer, -counted(2, 2, 1)).ravel().tolist() == [-1] * 4


def test_the_small_float_layers_compute_what_they_say() -> None:
    x = floats(-1, 2, 7, 4).reshape(2, 1, 2)
    assert run_one(Relu("r", ("x",), "y"), x).ravel().tolist() == [0, 2, 7, 4]
    assert run_one(Relu("r", ("x",), "y", "relu6"), x).ravel().tolist() == [0, 2, 6, 4]
    assert run_one(FloatAdd("a", ("x", "x"), "y"), x).ravel().tolist() == [-2, 4, 14, 8]
    assert run_one(FloatMean("m", ("x",), "y"), x).tolist() == [3, 3]
    assert run_one(FloatMean("m", ("x",), "y", (2,), keep_dims=True), x).tolist() == [[[0.5]], [[5.5]]]
    assert run_one(Reshape("r", ("x",), "y", (4,)), x).tolist() == [-1, 2, 7, 4]
    assert run_one(FloatDense("d", ("x",), "y", counted(1, 4), floats(1)), x.ravel()).tolist() == [41]
    assert run_one(FloatSoftmax("s", ("x",), "y"), np.log(floats(1, 3, 4))).tolist() == pytest.approx(
        [0.125, 0.375, 0.5]
    )
    logistic = run_one(FloatLogistic("l", ("x",), "y"), floats(-1000, -np.log(3), 0, np.log(3), 1000))
    assert logistic.tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert logistic.dtype == np.float32
    norm = BatchNorm("n", ("x",), "y", floats(2), floats(1), floats(3), floats(15), epsilon=1.0)
    assert run_one(norm, floats(11).reshape(1, 1, 1)).item() == pytest.approx(2 * (11 - 3) / 4 + 1)


def test_a_batch_gives_what_its_pictures_give_one_by_one() -> None:
    interpreter = FloatInterpreter(random_network(0))
    pictures = real(random_pictures(0, 3))
    one_by_one = np.stack([np.asarray(interpreter.run(picture)) for picture in pictures])
    np.testing.assert_allclose(np.asarray(interpreter.run(pictures)), one_by_one, rtol=1e-5, atol=1e-6)


def test_the_float_interpreter_yields_every_tensor_and_several_outputs() -> None:
    graph = replace(random_network(0), outputs=("logits", "scores"))
    picture = real(random_pictures(0, 1))[0]
    names = [layer.output for layer, _ in FloatInterpreter(graph).steps(picture)]
    assert names == [name for name in graph.shapes if name != "picture"]
    logits, scores = FloatInterpreter(graph).run(picture)
    assert int(logits.argmax()) == int(scores.argmax())


def test_a_picture_of_another_shape_is_refused() -> None:
    with pytest.raises(ImageError, match="expects"):
        FloatInterpreter(random_network(0)).run(np.zeros((16, 16, 1), np.float32))


def test_an_unsound_float_graph_is_refused() -> None:
    relu = Relu("r", ("x",), "y")
    for layers, outputs, problem in (
        ((Relu("r", ("z",), "y"),), ("y",), "reads"),
        ((relu, Relu("r", ("y",), "z")), ("z",), "one name"),
        ((relu, Relu("s", ("x",), "y")), ("y",), "twice"),
        ((relu,), ("z",), "not a tensor"),
        ((relu,), (), "no outputs"),
        ((MaxPool("p", ("x",), "y", POINT, Activation(0, 5)),), ("y",), "quantised activation"),
    ):
        with pytest.raises(ModelError, match=problem):
            FloatGraph("unsound", "x", (1, 1, 1), layers, outputs)


def test_an_unsound_float_layer_is_refused() -> None:
    for make, problem in (
        (lambda: FloatDense("d", ("x",), "y", counted(2, 3), floats(1)), "1 biases"),
        (lambda: FloatDense("d", ("x",), "y", counted(1, 1) * np.inf, floats(1)), "finite"),
        (lambda: FloatConv2D("c", ("x",), "y", counted(1, 3, 3, 1), floats(1), POINT), "kernel"),
        (lambda: FloatDense("d", ("x",), "y", np.ones((1, 1)), floats(1)), "float64"),  # type: ignore[arg-type]
        (lambda: BatchNorm("n", ("x",), "y", floats(1), floats(1), floats(1), floats(-1)), "negative"),
        (lambda: one_layer(FloatDense("d", ("x",), "y", counted(2, 3), floats(1, 2)), 4), "do not fit"),
        (lambda: Relu("r", ("x",), "y", "none"), "activation"),
    ):
        with pytest.raises(ModelError, match=problem):
            make()


# ----------------------------------------------------------------------------------------------- folding


@pytest.mark.parametrize("seed", range(3))
def test_folding_changes_no_tensor_that_remains(seed: int) -> None:
    graph = random_network(seed, dead=seed == 1)
    folded = fold(graph)
    assert not any(isinstance(layer, BatchNorm | Relu) for layer in folded.layers)
    picture = real(random_pictures(seed, 1))[0]
    before = {layer.output: values for layer, values in FloatInterpreter(graph).steps(picture)}
    for layer, values in FloatInterpreter(folded).steps(picture):
        np.testing.assert_allclose(values, before[layer.output], rtol=1e-4, atol=1e-5)


def test_folding_multiplies_by_powers_of_two_exactly() -> None:
    x = counted(2, 2, 2)
    norm = BatchNorm("n", ("s",), "y", floats(8, 1), floats(1, 2), floats(3, 4), floats(4, 16), epsilon=0.0)
    for first in (
        FloatConv2D("c", ("x",), "s", counted(2, 1, 1, 2), floats(1, 2), POINT),
        FloatDepthwise("c", ("x",), "s", counted(1, 1, 2), floats(1, 2), POINT),
        FloatDense("c", ("x",), "s", counted(2, 2), floats(1, 2)),
    ):
        graph = FloatGraph("g", "x", x.shape, (first, norm), ("y",))
        folded = fold(graph)
        assert len(folded.layers) == 1
        expected, found = (np.asarray(FloatInterpreter(g).run(x)) for g in (graph, folded))
        assert (expected == found).all()


def test_a_batch_norm_that_stands_alone_becomes_a_depthwise_layer() -> None:
    norm = BatchNorm("n", ("x",), "y", floats(8, 1), floats(1, 2), floats(3, 4), floats(4, 16), epsilon=0.0)
    graph = FloatGraph("g", "x", (1, 1, 2), (norm, Relu("r", ("y",), "z")), ("z",))
    (layer,) = fold(graph).layers
    assert isinstance(layer, FloatDepthwise)
    assert (layer.weights.tolist(), layer.bias.tolist()) == ([[[4, 0.25]]], [-11, 1])
    assert (layer.output, layer.activation) == ("z", "relu")
    # Where there is no map, it is one for so long.
    row = FloatGraph("g", "x", (2,), (norm,), ("y",))
    assert [layer.kind for layer in fold(row).layers] == ["reshape", "depthwise", "reshape"]
    made, expected = (FloatInterpreter(network).run(floats(5, 6)) for network in (fold(row), row))
    np.testing.assert_array_equal(made, expected)


def test_a_tensor_that_others_read_keeps_its_layer() -> None:
    dense = FloatDense("d", ("x",), "y", counted(1, 1), floats(0))
    relu, relu6 = Relu("r", ("y",), "z"), Relu("r6", ("z",), "z6", "relu6")
    assert fold(FloatGraph("g", "x", (1,), (dense, relu), ("y", "z"))).layers == (dense, relu)
    add = FloatAdd("a", ("y", "z"), "s")
    assert fold(FloatGraph("g", "x", (1,), (dense, relu, add), ("s",))).layers == (dense, relu, add)
    # A second activation does not replace the first.
    fused, second = fold(FloatGraph("g", "x", (1,), (dense, relu, relu6), ("z6",))).layers
    assert isinstance(fused, FloatDense)
    assert (fused.activation, second) == ("relu", relu6)


# ------------------------------------------------------------------------------------------- calibration


def test_ranges_are_the_extremes_over_all_pictures() -> None:
    graph = one_layer(FloatDense("d", ("x",), "y", floats(2).reshape(1, 1), floats(1)), 1)
    ranges = min_max_ranges(graph, [floats(3), floats(-4), floats(1)])
    assert ranges == {"x": (-4, 3), "y": (-7, 7)}


def test_calibration_reads_pictures_one_at_a_time_and_reports_progress() -> None:
    graph = one_layer(Relu("r", ("x",), "y"), 1)
    done: list[int] = []

    def pictures() -> Iterator[Array]:
        for number in range(3):
            assert len(done) == number  # the one before has been used up
            yield floats(number)

    min_max_ranges(graph, pictures(), done.append)
    assert done == [1, 2, 3]


def test_calibration_without_pictures_is_refused() -> None:
    with pytest.raises(ModelError, match="no calibration pictures"):
        quantize(random_network(0), [])


def test_calibration_refuses_what_it_cannot_use() -> None:
    graph = one_layer(Relu("r", ("x",), "y"), 1)
    with pytest.raises(ImageError, match="picture 2 has shape"):
        min_max_ranges(graph, [floats(1), floats(1, 2)])
    with pytest.raises(ModelError, match="not finite"):
        min_max_ranges(graph, [floats(np.nan)])
    huge = one_layer(FloatDense("d", ("x",), "y", floats(3e38).reshape(1, 1), floats(1)), 1)
    with pytest.raises(ModelError, match='"y" is not finite'):
        min_max_ranges(huge, [floats(10)])


# -------------------------------------------------------------------------------------------- conversion


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [
        (0.0, 2.55, 0.01, -128),
        (-2.55, 0.0, 0.01, 127),
        (-1.27, 1.28, 0.01, -1),
        (-1.0, 1.0, 2 / 255, -1),  # the exact zero point, -0.5, is none
        (1.0, 2.55, 0.01, -128),  # widened to contain 0
        (-2.55, -1.0, 0.01, 127),
        (0.0, 0.0, 1.0, 0),
        (1e-30, 1e-29, 1.0, 0),
    ],
)
def test_a_range_spreads_over_int8_with_real_zero_exact(low: float, high: float, scale: float, zero_point: int) -> None:
    assert quant_of_range(Range(low, high)) == Quant(float(np.float32(scale)), zero_point)


def test_weights_are_quantised_by_channel() -> None:
    layer = FloatDense("d", ("x",), "y", np.array([[1.27, -0.635], [0.0254, 0.0]], np.float32), floats(0.5, -0.1))
    weights = quantize_weights(layer, Quant(0.5, 3), Quant(0.25, 0))
    # Scales 0.01 and 0.0002; -0.635 / 0.01 = -63.5, in float32 just beyond; 0.0254 / 0.0002 = 127.
    assert weights.values.tolist() == [[127, -64], [127, 0]]
    # Bias units 0.5 * 0.01 = 0.005 and 0.0001.
    assert weights.bias.tolist() == [100, -1000]
    # Factors 0.005 / 0.25 = 0.02 = 0.64 * 2**-5 and 0.0001 / 0.25 = 0.0004 = 0.8192 * 2**-11.
    scaling = rescaling(weights, Quant(0.5, 3), Quant(0.25, 0))
    assert scaling.shift.tolist() == [-5, -11]
    assert (scaling.multiplier / 2**31).tolist() == pytest.approx([0.64, 0.8192], rel=1e-6)


def test_no_weight_is_minus_128() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(50, 20)).astype(np.float32) * np.float32(10.0) ** generator.integers(
        -30, 9, (50, 1)
    )
    layer = FloatDense("d", ("x",), "y", values.astype(np.float32), np.zeros(50, np.float32))
    weights = quantize_weights(layer, Quant(0.5, 3), Quant(0.25, 0))
    assert (np.abs(weights.values.astype(int)).max(axis=1) == 127).all()


def test_a_dead_channel_gives_its_bias() -> None:
    layer = FloatConv2D("c", ("x",), "y", np.zeros((3, 1, 1, 1), np.float32), floats(0, 1.5, -0.7), POINT)
    weights = quantize_weights(layer, Quant(0.1, 0), Quant(0.02, 0))
    assert not weights.values.any()
    assert weights.bias.tolist() == [0, 1.5 / 0.02 * 256, round(-0.7 / 0.02 * 256)]  # 256 units an output step
    ranges = {"x": Range(-1, 1), "y": Range(-0.7, 1.5)}
    graph = convert(one_layer(layer, 1, 1, 1), ranges)
    result = Interpreter(graph).run(np.full((1, 1, 1), 77, np.int8))
    step = graph.tensors["y"].scale
    assert dequantized(graph, "y", result).ravel() == pytest.approx([0, 1.5, -0.7], abs=step / 2 * 1.01)


def test_a_bias_too_large_for_int32_widens_the_weight_scale_of_its_channel() -> None:
    layer = FloatDense("d", ("x",), "y", np.array([[1e-9, -1e-9], [1.0, -1.0]], np.float32), floats(-40, 3))
    weights = quantize_weights(layer, Quant(0.01, 0), Quant(0.25, 0))
    assert weights.bias.tolist()[0] == pytest.approx(-(2**30), rel=1e-6)
    assert weights.values.tolist() == [[0, 0], [127, -127]]
    ranges = {"x": Range(-1, 1), "y": Range(-40, 5)}
    graph = convert(one_layer(layer, 2), ranges)
    result = dequantized(graph, "y", Interpreter(graph).run(np.array([127, -128], np.int8)))
    assert result == pytest.approx([-40, 5], abs=graph.tensors["y"].scale)


def test_pools_and_reshape_keep_the_quantisation_and_softmax_has_its_own() -> None:
    layers = (
        AveragePool("a", ("x",), "pooled", Window((2, 2))),
        MaxPool("m", ("pooled",), "highest", Window((2, 2))),
        Reshape("r", ("highest",), "flat", (2,)),
        FloatSoftmax("s", ("flat",), "scores"),
    )
    graph = quantize(FloatGraph("g", "x", (3, 3, 2), layers, ("scores",)), [counted(3, 3, 2) - 4])
    for name in ("pooled", "highest", "flat"):
        assert graph.tensors[name].quant == graph.input_tensor.quant
    assert graph.tensors["scores"].quant == Quant(1 / 256, -128)


@pytest.mark.parametrize(("low", "high"), [(-8, 8), (0, 0.5), (-100, 3), (-1e-9, 1e-9), (0, 1e30), (0, 0)])
def test_a_logistic_makes_the_bytes_that_litert_does(low: float, high: float) -> None:
    from tests.litert import LiteRT

    graph = convert(one_layer(FloatLogistic("l", ("x",), "y"), 256), {"x": Range(low, high), "y": Range(0, 1)})
    x, y = graph.input_tensor, graph.tensors["y"]
    assert y.quant == Quant(1 / 256, -128)
    w = TfliteWriter()
    tensors = [w.tensor(name, (1, 256), scale=t.scale, zero_point=t.zero_point) for name, t in (("x", x), ("y", y))]
    w.operator("LOGISTIC", *tensors)
    values = np.arange(-128, 128).astype(np.int8)
    expected = LiteRT(w.build(*tensors)).run(values[None])[tensors[1]]
    np.testing.assert_array_equal(Interpreter(graph).run(values), expected[0])


def test_a_fused_activation_clamps_and_one_on_its_own_requantises() -> None:
    dense = FloatDense("d", ("x",), "y", floats(2).reshape(1, 1), floats(-10))
    layers = (dense, Relu("r6", ("y",), "z", "relu6"), Relu("r", ("z",), "w"))
    graph = quantize(FloatGraph("g", "x", (1,), layers, ("w",)), [floats(12.75), floats(-12.75)])
    fused, alone = graph.layers
    assert isinstance(fused, Dense)
    assert fused.activation == Activation(-128, 127)  # 0 to 6 is its whole range
    assert isinstance(alone, Requantize)
    result = Interpreter(graph).run(np.array([[-128], [-28], [127]], np.int8))
    assert dequantized(graph, "w", result).ravel() == pytest.approx([0, 0, 6], abs=6 / 255)


def test_an_activation_over_a_wider_range_clamps_inside_int8() -> None:
    dense = FloatDense("d", ("x",), "y", floats(1).reshape(1, 1), floats(0), activation="relu6")
    graph = convert(one_layer(dense, 1), {"x": Range(-10, 10), "y": Range(-12.7, 12.8)})
    (layer,) = graph.layers
    assert isinstance(layer, Dense)
    assert layer.activation == Activation(-1, 59)  # zero point -1, and 6 / 0.1 steps above it


def test_conversion_wants_a_folded_and_calibrated_graph() -> None:
    norm = BatchNorm("n", ("x",), "y", floats(1), floats(1), floats(1), floats(1))
    graph = one_layer(norm, 1, 1, 1)
    with pytest.raises(ModelError, match="fold the graph first"):
        convert(graph, {"x": Range(0, 1), "y": Range(0, 1)})
    with pytest.raises(ModelError, match='"y": no range'):
        convert(graph, {"x": Range(0, 1)})


def test_scales_too_far_apart_are_a_model_error() -> None:
    dense = FloatDense("d", ("x",), "y", floats(3e38).reshape(1, 1), floats(0))
    with pytest.raises(ModelError, match=r'layer "d".*2\*\*30'):
        convert(one_layer(dense, 1), {"x": Range(-1e12, 1e12), "y": Range(0, 1)})


@pytest.mark.parametrize("kind", ["dense", "add", "relu", "mean"])
@pytest.mark.parametrize("highest", [0.0, 1e-20, 1e-12])
def test_an_output_has_no_finer_scale_than_its_layer_can_make(kind: str, highest: float) -> None:
    layers: dict[str, AnyFloatLayer] = {
        "dense": FloatDense("l", ("x",), "y", floats(1000).reshape(1, 1), floats(-1000), activation="relu6"),
        "add": FloatAdd("l", ("x", "x"), "y"),
        "relu": Relu("l", ("x",), "y"),
        "mean": FloatMean("l", ("x",), "y", (0,), keep_dims=True),
    }
    graph = convert(one_layer(layers[kind], 1), {"x": Range(-1000, 0), "y": Range(0, highest)})
    assert graph.tensors["y"].scale >= 1000 / 255 / 2**29
    assert dequantized(graph, "y", Interpreter(graph).run(np.array([127], np.int8))) == pytest.approx(0, abs=1e-3)


def residual_network(shrink: int) -> FloatGraph:
    """Its values are 2**-shrink of what they are for 0; of two branches one is zero, and one cancels another."""
    chance, none = np.random.default_rng(3), np.zeros(8, np.float32)

    def weights(*shape: int) -> Array:
        return chance.normal(size=shape).astype(np.float32)

    first, square = weights(8, 3, 3, 3) * np.float32(2.0 ** -(shrink + 4)), weights(8, 1, 1, 8)
    layers: tuple[AnyFloatLayer, ...] = (
        FloatConv2D("first", ("x",), "a", first, none, same(8, 3), activation="relu"),
        FloatDepthwise("deep", ("a",), "b", weights(3, 3, 8) / np.float32(8), none, same(8, 3), activation="relu6"),
        FloatConv2D("dead", ("a",), "zeros", -np.abs(square), none, POINT, activation="relu"),
        FloatConv2D("deader", ("zeros",), "more zeros", square, none, POINT),
        FloatAdd("add", ("a", "b"), "c"),
        FloatAdd("add zeros", ("more zeros", "c"), "d"),
        FloatConv2D("plus", ("d",), "e", square, none, POINT),
        FloatConv2D("minus", ("d",), "f", np.nextafter(-square, floats(0)), none, POINT),
        FloatAdd("cancel", ("e", "f"), "g"),
        FloatAdd("go on", ("g", "d"), "h"),
        FloatMean("average", ("h",), "i"),
        FloatDense("dense", ("i",), "logits", weights(3, 8), none[:3]),
        FloatSoftmax("softmax", ("logits",), "scores"),
    )
    return FloatGraph("residual", "x", (8, 8, 3), layers, ("logits", "scores"))


@pytest.mark.parametrize("method", ["mse", "minmax"])
@pytest.mark.parametrize("shrink", [20, 40, 60])
def test_a_network_of_tiny_values_is_as_exact_as_one_of_large_ones(shrink: int, method: Method) -> None:
    pictures = np.random.default_rng(4).normal(size=(9, 8, 8, 3)).astype(np.float32)
    large, tiny = (quantize(residual_network(by), pictures, method=method) for by in (0, shrink))
    x = np.clip(np.rint(pictures / tiny.input_tensor.scale) + tiny.input_tensor.zero_point, -128, 127).astype(np.int8)
    for (layer, expected), (_, found) in zip(
        Interpreter(large).steps(x[0]), Interpreter(tiny).steps(x[0]), strict=True
    ):
        if layer.output != "scores":
            assert (found == expected).all(), layer.name
            assert tiny.tensors[layer.output].scale == large.tensors[layer.output].scale / 2**shrink
    logits, scores = Interpreter(tiny).run(x)
    real = np.asarray(FloatInterpreter(residual_network(shrink)).run(pictures)[0], np.float64)
    assert ((dequantized(tiny, "logits", logits) - real) ** 2).sum() < 1e-2 * (real**2).sum()
    assert np.ptp(scores) == 0


def test_an_input_range_around_zero_makes_the_input_pixel_minus_128() -> None:
    network, pictures = random_network(0), real(random_pictures(0, 2))
    graph = quantize(network, pictures, input_range=(0, 1), labels="abcde")
    assert graph.input_tensor.quant == Quant(float(np.float32(1 / 255)), -128)
    assert graph.preprocessing == Preprocessing(origin="file")
    assert graph.labels == tuple("abcde")
    graph = quantize(network, pictures, input_range=(-1, 1))
    assert graph.input_tensor.quant == Quant(float(np.float32(2 / 255)), -1)
    # 0 lies outside: the int8 range is wider than the pixels', so they are scaled.
    graph = quantize(network, pictures, input_range=(1, 2))
    assert graph.input_tensor.quant == Quant(float(np.float32(2 / 255)), -128)
    assert graph.preprocessing == Preprocessing.of_range(1, 2, origin="file")


def test_an_input_without_range_is_calibrated() -> None:
    graph = quantize(random_network(0), real(random_pictures(0, 9)) * 3)
    assert graph.input_tensor.quant == Quant(float(np.float32(3 / 255)), -128)
    assert graph.preprocessing.origin == "guess"


# --------------------------------------------------------------------------------- as TensorFlow Lite has it


def as_tflite(folded: FloatGraph, graph: Graph) -> bytes:
    """The quantised random network as a converter writes it: scales, no multipliers."""
    w = TfliteWriter()
    made = {
        name: w.tensor(name, (1, *tensor.shape), scale=tensor.scale, zero_point=tensor.zero_point)
        for name, tensor in graph.tensors.items()
    }
    for before, after in zip(folded.layers, graph.layers, strict=True):
        inputs = [made[name] for name in after.inputs]
        options: dict[str, object] = {}
        if isinstance(before, FloatConv2D | FloatDepthwise | FloatDense | FloatAdd):
            options["fused_activation_function"] = before.activation.upper()
        if isinstance(before, FloatConv2D | FloatDepthwise | FloatDense):
            assert isinstance(after, Conv2D | Depthwise | Dense)
            source, output = graph.tensors[after.inputs[0]].quant, graph.tensors[after.output].quant
            assert source is not None
            assert output is not None
            scales, values, axis = weight_scales(before, source, output), after.weights.values, 0
            if isinstance(after, Depthwise):
                values, axis = values[np.newaxis], 3
            inputs.append(w.constant(f"{after.name}/weights", values, scale=scales.tolist(), dimension=axis))
            inputs.append(w.constant(f"{after.name}/bias", after.weights.bias))
        match after:
            case Conv2D() | Depthwise():
                kind = "CONV_2D" if isinstance(after, Conv2D) else "DEPTHWISE_CONV_2D"
                options |= {"padding": "SAME", "stride_h": after.window.stride[0], "stride_w": after.window.stride[1]}
            case Dense():
                kind = "FULLY_CONNECTED"
            case Add():
                kind = "ADD"
            case Mean():
                kind = "MEAN"
                inputs.append(w.constant(f"{after.name}/axes", [1, 2]))
            case MaxPool():
                kind = "MAX_POOL_2D"
                options |= {"padding": "VALID", "stride_h": 2, "stride_w": 2, "filter_height": 2, "filter_width": 2}
            case _:
                kind, options = "SOFTMAX", {"beta": 1.0}
        w.operator(kind, inputs, made[after.output], **options)
    return w.build(made[graph.input], [made[name] for name in graph.outputs])


@pytest.mark.parametrize("dead", [False, True])
def test_a_file_with_the_same_scales_is_imported_as_the_same_integers(tmp_path: Path, dead: bool) -> None:
    calibration = calibrate(random_network(0, dead=dead), real(random_pictures(0, 16)), input_range=(0, 1))
    graph = calibration.convert()
    (tmp_path / "same.tflite").write_bytes(as_tflite(calibration.graph, graph))
    imported = import_tflite(tmp_path / "same.tflite")
    assert imported.tensors == graph.tensors
    for ours, theirs in zip(graph.layers, imported.layers, strict=True):
        assert type(ours) is type(theirs)
        if isinstance(ours, Conv2D | Depthwise | Dense):
            assert isinstance(theirs, Conv2D | Depthwise | Dense)
            for part in ("values", "bias", "multiplier", "shift"):
                assert (getattr(ours.weights, part) == getattr(theirs.weights, part)).all(), (ours.name, part)
            assert (ours.activation, ours.inputs, ours.output) == (theirs.activation, theirs.inputs, theirs.output)
        else:
            assert replace(theirs, name=ours.name) == ours


# ------------------------------------------------------------------------------------------- end to end


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dead", [False, True])
def test_int8_is_near_float_in_every_tensor(seed: int, dead: bool) -> None:
    network = random_network(seed, dead=dead)
    calibration = calibrate(network, real(random_pictures(seed, 64)), input_range=(0, 1))
    graph = calibration.convert()
    pictures = random_pictures(seed + 100, 16)
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    for picture in pictures:
        expected = {layer.output: values for layer, values in FloatInterpreter(calibration.graph).steps(real(picture))}
        for layer, values in Interpreter(graph).steps((picture ^ 0x80).view(np.int8)):
            name = layer.output
            signal[name] = signal.get(name, 0) + float((expected[name] ** 2).sum())
            noise[name] = noise.get(name, 0) + float(((dequantized(graph, name, values) - expected[name]) ** 2).sum())
    for name in signal:
        assert 10 * np.log10(signal[name] / noise[name]) > 25, name


CHANNELS = 4
NONE, UNIT = floats(0, 0, 0, 0), floats(1, 1, 1, 1)
POINTWISE = np.random.default_rng(7).normal(size=(CHANNELS, 1, 1, CHANNELS))


def hard_network(
    weights: NDArray[np.float64],
    bias: Array,
    activation: FloatActivation = "relu",
    variance: Array | None = None,
    follow: float = 1.0,
) -> FloatGraph:
    """A pointwise layer that makes t, with a batch-norm or not, and a depthwise one that reads it; on (8, 8, 4)."""
    layers: list[AnyFloatLayer] = [FloatConv2D("c", ("x",), "sums", weights.astype(np.float32), bias, POINT)]
    if variance is not None:
        layers.append(BatchNorm("n", ("sums",), "normal", UNIT, floats(0.5, 0.5, 0.5, 0.5), NONE, variance))
    layers.append(Relu("r", (layers[-1].output,), "t", activation))
    kernel = (np.random.default_rng(8).normal(size=(3, 3, CHANNELS)) * follow).astype(np.float32)
    layers.append(FloatDepthwise("d", ("t",), "y", kernel, floats(1, 0, 0, 0), same(8, 3)))
    return FloatGraph("hard", "x", (8, 8, CHANNELS), tuple(layers), ("y",))


def without(channel: int) -> NDArray[np.float64]:
    weights = POINTWISE.copy()
    weights[channel] = 0
    return weights


HARD = {
    "no weights": hard_network(without(1), floats(0, 0.7, 0, 0)),
    "no weights, nothing passes": hard_network(without(1), floats(0, -0.7, 0, 0)),
    "always zero": hard_network(POINTWISE, floats(0, -1000, 0, 0)),
    "all always zero": hard_network(POINTWISE, UNIT * -1000),
    "variance 0": hard_network(without(1), NONE, "relu6", floats(1, 0, 1, 1)),
    "variance 0, divided": hard_network(POINTWISE, NONE, "relu6", floats(1, 0, 1, 1)),
    "1e-30 beside 1": hard_network(POINTWISE * np.array([1, 1e-30, 1, 1]).reshape(4, 1, 1, 1), NONE),
    "1e30": hard_network(POINTWISE * 1e30, NONE, follow=1e-30),
    "bias": hard_network(POINTWISE * 1e-6, floats(1000, 5, 0, -1000)),
}


@pytest.mark.parametrize("method", ["mse", "minmax", "percentile"])
@pytest.mark.parametrize("name", HARD)
def test_int8_is_near_float_where_channels_are_dead_or_out_of_scale(name: str, method: Method) -> None:
    network = HARD[name]
    pictures = np.random.default_rng(9).normal(size=(40, 8, 8, CHANNELS)).astype(np.float32)
    calibration = calibrate(network, pictures, method=method)
    graph = calibration.convert()
    source = graph.input_tensor
    x = np.clip(np.rint(pictures / source.scale) + source.zero_point, -128, 127).astype(np.int8)
    found = dequantized(graph, "y", np.asarray(Interpreter(graph).run(x)))
    expected = np.asarray(FloatInterpreter(network).run(pictures), np.float64)
    assert ((found - expected) ** 2).sum() <= 10**-2.7 * (expected**2).sum()
    # A channel that is always the same is so in int8, to the nearest step.
    constant = np.ptp(expected, axis=(0, 1, 2)) == 0
    assert (np.ptp(found, axis=(0, 1, 2)) == 0)[constant].all()
    assert (np.abs(found - expected).max(axis=(0, 1, 2)) <= graph.tensors["y"].scale)[constant].all()


@pytest.mark.parametrize(("by", "highest"), [(10, 6.0), (0.1, 0.5716)])
def test_the_range_behind_a_relu6_is_what_was_seen_and_no_more_than_6(by: float, highest: float) -> None:
    pictures = np.random.default_rng(9).normal(size=(40, 8, 8, CHANNELS)).astype(np.float32)
    network = hard_network(POINTWISE * by, NONE, "relu6")
    least: dict[Method, float] = {"minmax": 1, "percentile": 0.8, "mse": 0.8, "kl": 0.6}
    for method, share in least.items():
        low, high = calibrate(network, pictures, method=method).ranges["t"]
        assert low == 0
        assert highest * share <= high <= highest + 0.0001


def test_a_single_value_far_out_is_cut_by_percentile_alone() -> None:
    pictures = np.random.default_rng(9).normal(size=(40, 8, 8, CHANNELS)).astype(np.float32)
    pictures[3, 0, 0, 0] = 1e6
    network = hard_network(np.eye(CHANNELS).reshape(POINTWISE.shape), NONE)
    assert calibrate(network, pictures, method="percentile").ranges["t"].high < 1000
    assert calibrate(network, pictures, method="minmax").ranges["t"].high == 1e6
    # The square of what would be lost is larger than all others together.
    assert calibrate(network, pictures, method="mse").ranges["t"].high > 9e5


def test_the_weights_of_every_kind_keep_their_order() -> None:
    graph = quantize(random_network(5), real(random_pictures(5, 8)), input_range=(0, 1), equalized=False)
    folded = fold(random_network(5))
    compared = 0
    for before, after in zip(folded.layers, graph.layers, strict=True):
        if isinstance(before, FloatConv2D | FloatDepthwise | FloatDense):
            assert isinstance(after, Conv2D | Depthwise | Dense)
            weights: Weights = after.weights
            scales = np.abs(before.weights).max(
                axis=tuple(axis for axis in range(before.weights.ndim) if axis != before.channel_axis), keepdims=True
            )
            assert np.abs(weights.values / 127 * scales - before.weights).max() <= scales.max() / 127 * 0.51
            compared += 1
    assert compared == 8


def test_labels_and_preprocessing_are_the_networks_own_if_nothing_else_is_said() -> None:
    network = replace(build(mobilenet_v1(0.1), 32, 2), labels=("cat", "dog"))
    pictures = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    made = quantize(network, pictures)
    assert made.labels == ("cat", "dog")
    assert made.input_tensor.scale == pytest.approx(2 / 255)
    assert made.input_tensor.zero_point == -1
    assert made.preprocessing.origin == "file"
    assert quantize(network, pictures, labels=()).labels == ()


def test_names_that_folding_invents_are_those_of_no_layer() -> None:
    norm = BatchNorm("n", ("x",), "y", floats(4, 1), floats(1, 1), floats(3, 0), floats(1, 16), 0.0)
    named = FloatGraph("g", "x", (2,), (norm, Relu("y/map", ("y",), "z")), ("z",))
    names = [layer.name for layer in fold(named).layers]
    assert len(set(names)) == len(names)
