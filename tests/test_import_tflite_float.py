"""Float .tflite files as float graphs: random ones against LiteRT, every output; what is refused, and how."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.command_line import Run
from tests.litert import LiteRT
from tests.mutations import damage_bytes
from tests.shared import SHARED, needs_shared
from tests.test_quantize_command import write_pictures
from tests.tflite_writer import TfliteWriter
from tinymbn import load_model
from tinymbn.errors import FloatModelError, ModelError, TinymbnError, UnsupportedError
from tinymbn.importers.tflite.float_model import OPERATORS, float_from_bytes
from tinymbn.load import load_float
from tinymbn.quantize import FloatInterpreter, fold

Shape = tuple[int, ...]
PLAIN: dict[str, Any] = {"stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1}
ACTIVATIONS = st.sampled_from(["NONE", "RELU", "RELU6"])


class RandomFloat:
    """A float file that grows operator by operator, each reading what the last one made."""

    def __init__(self, draw: st.DrawFn, shape: Shape) -> None:
        self.draw = draw
        self.writer = TfliteWriter()
        self.random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.input = self.index = self.writer.tensor("input", shape, "float32")
        self.shape = self.first = shape
        self.made: list[tuple[int, Shape]] = [(self.index, shape)]

    def constant(self, *shape: int, scale: float = 1.0) -> int:
        """Normal values; at times in float16, as a converter leaves them."""
        values = self.random.normal(0, scale, shape)
        name = f"constant{len(self.writer.tensors)}"
        if self.draw(st.integers(0, 4)):
            return self.writer.constant(name, values.astype(np.float32))
        half = self.writer.constant(f"{name}/half", values.astype(np.float16))
        index = self.writer.tensor(name, shape, "float32")
        self.writer.operator("DEQUANTIZE", half, index)
        return index

    def operator(self, kind: str, shape: Shape, *operands: int, first: bool = True, **options: Any) -> None:
        """An operator on the last tensor and ``operands``."""
        index = self.writer.tensor(f"{kind.lower()}{len(self.writer.tensors)}", shape, "float32")
        self.writer.operator(kind, [self.index, *operands] if first else list(operands), index, **options)
        self.index, self.shape = index, shape
        self.made.append((index, shape))


def _window(m: RandomFloat, *, dilated: bool) -> tuple[Shape, Shape, dict[str, Any]]:
    _, height, width, _ = m.shape
    kernel = m.draw(st.sampled_from([(1, 1), (3, 3), (2, 3), (5, 1)]))
    stride = m.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = m.draw(st.tuples(st.integers(1, 2), st.integers(1, 2))) if dilated and stride == (1, 1) else (1, 1)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    fits = extent[0] <= height and extent[1] <= width
    valid = fits and m.draw(st.booleans())
    size = tuple(
        -(-(size - (reach - 1 if valid else 0)) // step)
        for size, reach, step in zip((height, width), extent, stride, strict=True)
    )
    options = {"padding": "VALID" if valid else "SAME", "stride_h": stride[0], "stride_w": stride[1]}
    if dilated:
        options |= {"dilation_h_factor": dilation[0], "dilation_w_factor": dilation[1]}
    return kernel, size, options | {"fused_activation_function": m.draw(ACTIVATIONS)}


def convolution(m: RandomFloat) -> None:
    if m.draw(st.booleans()):
        pad(m)
    kernel, size, options = _window(m, dilated=True)
    channels = m.draw(st.integers(1, 5))
    weights = m.constant(channels, *kernel, m.shape[3])
    m.operator("CONV_2D", (1, *size, channels), weights, m.constant(channels), **options)


def depthwise(m: RandomFloat) -> None:
    if m.draw(st.booleans()):
        pad(m)
    kernel, size, options = _window(m, dilated=True)
    multiplier = m.draw(st.integers(1, 2))
    channels = m.shape[3] * multiplier
    operands = [m.constant(1, *kernel, channels), m.constant(channels)]
    m.operator("DEPTHWISE_CONV_2D", (1, *size, channels), *operands, depth_multiplier=multiplier, **options)


def pad(m: RandomFloat) -> None:
    """Zeros around a map, and a convolution, which alone may read them."""
    top, bottom, left, right = (m.draw(st.integers(0, 1)) for _ in range(4))
    _, height, width, channels = m.shape
    shape = (1, height + top + bottom, width + left + right, channels)
    m.operator("PAD", shape, m.writer.constant(f"pads{len(m.made)}", [[0, 0], [top, bottom], [left, right], [0, 0]]))
    m.made.pop()
    less = 2 if min(shape[1:3]) > 2 and m.draw(st.booleans()) else 0
    kernel, bias = m.constant(channels, 3, 3, channels), m.constant(channels)
    options = PLAIN | {"padding": "VALID" if less else "SAME"}
    m.operator("CONV_2D", (1, shape[1] - less, shape[2] - less, channels), kernel, bias, **options)


def dense(m: RandomFloat) -> None:
    keep = m.draw(st.booleans())
    c_in, units = m.shape[-1] if keep else math.prod(m.shape), m.draw(st.integers(1, 6))
    shape = (*m.shape[:-1], units) if keep else (1, units)
    operands = [m.constant(units, c_in), m.draw(st.sampled_from([-1, m.constant(units)]))]
    m.operator("FULLY_CONNECTED", shape, *operands, keep_num_dims=keep, fused_activation_function=m.draw(ACTIVATIONS))


def pool(m: RandomFloat) -> None:
    kernel, size, options = _window(m, dilated=False)
    kind = m.draw(st.sampled_from(["AVERAGE_POOL_2D", "MAX_POOL_2D"]))
    m.operator(kind, (1, *size, m.shape[3]), filter_height=kernel[0], filter_width=kernel[1], **options)


def mean(m: RandomFloat) -> None:
    keep = m.draw(st.booleans())
    axes = m.draw(st.sampled_from([[1, 2], [2, 1], [-3, -2], [3], [1, 2, 3]]))
    gone = {axis % 4 for axis in axes}
    shape = tuple(1 if axis in gone else size for axis, size in enumerate(m.shape) if keep or axis not in gone)
    m.operator("MEAN", shape, m.writer.constant(f"axes{len(m.made)}", axes), keep_dims=keep)


def add(m: RandomFloat) -> None:
    alike = [index for index, shape in m.made if shape == m.shape]
    m.operator("ADD", m.shape, m.draw(st.sampled_from(alike)), fused_activation_function=m.draw(ACTIVATIONS))


def scale(m: RandomFloat) -> None:
    kind = m.draw(st.sampled_from(["ADD", "SUB", "MUL", "DIV"]))
    shape = m.draw(st.sampled_from([(), (1,), (m.shape[-1],), (1, 1, 1, m.shape[-1])]))
    constant, before = m.constant(*shape), m.index
    options = {"fused_activation_function": m.draw(ACTIVATIONS)}
    operands = [before, constant] if kind == "DIV" or m.draw(st.booleans()) else [constant, before]
    m.operator(kind, m.shape, *operands, first=False, **options)


def relu(m: RandomFloat) -> None:
    m.operator(m.draw(st.sampled_from(["RELU", "RELU6"])), m.shape)


def reshape(m: RandomFloat) -> None:
    shape = m.draw(st.sampled_from([(1, math.prod(m.shape)), (1, 1, 1, math.prod(m.shape)), m.shape]))
    wanted = m.writer.constant(f"shape{len(m.made)}", [1, *(-1 if size > 1 else 1 for size in shape[1:])])
    if shape == m.shape:
        wanted = m.writer.constant(f"same{len(m.made)}", list(shape))
    m.operator("RESHAPE", shape, wanted)


def softmax(m: RandomFloat) -> None:
    m.operator("SOFTMAX", m.shape, beta=1.0)


def logistic(m: RandomFloat) -> None:
    m.operator("LOGISTIC", m.shape)


MAKERS: dict[str, Callable[[RandomFloat], None]] = {
    made.__name__: made
    for made in (convolution, depthwise, pad, pool, dense, mean, add, scale, relu, reshape, softmax, logistic)
}


@st.composite
def models_with(draw: st.DrawFn, kind: str) -> tuple[bytes, NDArray[np.float32]]:
    """A file of one to three operators, this one among them, and an input."""
    sizes = st.integers(2, 8)
    m = RandomFloat(draw, (1, draw(sizes), draw(sizes), draw(st.integers(1, 4))))
    on_maps = [name for name in MAKERS if name not in ("dense", "mean", "reshape", "softmax")]
    for name in draw(st.lists(st.sampled_from(on_maps), max_size=2)):
        MAKERS[name](m)
    MAKERS[kind](m)
    return m.writer.build(m.input, m.index), m.random.normal(0, 2, m.first).astype(np.float32)


@pytest.mark.parametrize("kind", MAKERS)
@given(data=st.data())
def test_operators_compute_what_litert_does(kind: str, data: st.DataObject) -> None:
    model, x = data.draw(models_with(kind))
    reference = LiteRT(model)
    expected = reference.run(x)[reference.outputs[0]]
    graph = float_from_bytes(model, "model.tflite")
    found = FloatInterpreter(graph).run(x[0])
    assert np.shape(found) == (expected.shape[1:] or (1,))
    tolerance = 1e-5 * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected[0], rtol=1e-5, atol=tolerance)


def test_a_batch_norm_in_two_operators_is_folded_into_the_convolution() -> None:
    w = TfliteWriter()
    chance = np.random.default_rng(0)
    x, a, b, y = (w.tensor(name, (1, 4, 4, 3), "float32") for name in ("x", "a", "b", "y"))
    kernel, factor, offset = (
        w.constant(name, chance.normal(size=size).astype(np.float32))
        for name, size in (("k", (3, 1, 1, 3)), ("f", 3), ("o", 3))
    )
    w.operator("CONV_2D", [x, kernel], a, padding="SAME", **PLAIN)
    w.operator("MUL", [a, factor], b)
    w.operator("ADD", [b, offset], y, fused_activation_function="RELU6")
    (layer,) = fold(float_from_bytes(w.build(x, y), "model.tflite")).layers
    assert (layer.kind, layer.output) == ("conv2d", "y")


def test_what_is_done_to_pixels_tells_what_they_are() -> None:
    w = TfliteWriter()
    x, y = w.tensor("x", (1, 4, 4, 3), "float32"), w.tensor("y", (1, 4, 4, 3), "float32")
    w.operator("DIV", [x, w.constant("most", np.array(255, np.float32))], y)
    graph = float_from_bytes(w.build(x, y), "model.tflite")
    assert (graph.preprocessing.mean, graph.preprocessing.std, graph.preprocessing.origin) == ((0,), (1,), "guess")


def test_what_is_computed_from_shapes_is_folded() -> None:
    w = TfliteWriter()
    x, y = w.tensor("x", (1, 2, 3, 4), "float32", signature=(-1, 2, 3, 4)), w.tensor("y", (1, 24), "float32")
    shape, size, wanted = (w.tensor(name, s, "int32") for name, s in (("shape", (4,)), ("size", ()), ("wanted", (2,))))
    w.operator("SHAPE", x, shape)
    slices = [w.constant(name, [value]) for name, value in (("begin", 0), ("end", 1), ("step", 1))]
    w.operator("STRIDED_SLICE", [shape, *slices], size, shrink_axis_mask=1)
    w.operator("PACK", [size, w.constant("rest", -1)], wanted, values_count=2)
    w.operator("RESHAPE", [x, wanted], y)
    graph = float_from_bytes(w.build(x, y), "model.tflite")
    assert [layer.kind for layer in graph.layers] == ["reshape"]
    assert graph.shapes["y"] == (24,)


@needs_shared
def test_a_real_model_computes_what_its_keras_file_does() -> None:
    pytest.importorskip("h5py")
    graph, other = (load_float(SHARED / "models" / name) for name in ("vww_96_float.tflite", "vww_96.h5"))
    assert graph.macs == other.macs
    x = np.random.default_rng(0).uniform(0, 1, (2, 96, 96, 3)).astype(np.float32)
    found = FloatInterpreter(graph).run(x)
    np.testing.assert_allclose(found, FloatInterpreter(other).run(x), atol=1e-6)
    reference = LiteRT((SHARED / "models" / "vww_96_float.tflite").read_bytes())
    for picture, values in zip(x, found, strict=True):
        np.testing.assert_allclose(values, reference.run(picture[None])[reference.outputs[0]][0], atol=1e-5)


# --------------------------------------------------------------------------------------------- what is refused


def _convolution(weights: NDArray[Any], *, shape: Shape = (1, 4, 4, 2), **options: Any) -> bytes:
    w = TfliteWriter()
    x, y = w.tensor("x", shape, "float32"), w.tensor("y", (1, 4, 4, 3), "float32")
    scale: dict[str, Any] = {"scale": 0.5} if weights.dtype == np.int8 else {}
    w.operator("CONV_2D", [x, w.constant("w", weights, **scale)], y, **{"padding": "SAME", **PLAIN, **options})
    return w.build(x, y)


def _chain(kinds: Sequence[str], dtype: str = "float32", **options: Any) -> bytes:
    w = TfliteWriter()
    tensors = [w.tensor(f"t{k}", (1, 4, 4, 2), dtype, **options) for k in range(len(kinds) + 1)]
    for kind, a, b in zip(kinds, tensors, tensors[1:], strict=False):
        w.operator(kind, a, b)
    return w.build(tensors[0], tensors[-1])


def _padded() -> bytes:
    w = TfliteWriter()
    x, y, z = (w.tensor(name, (1, 4 + 2 * k, 4, 2), "float32") for name, k in (("x", 0), ("y", 1), ("z", 1)))
    w.operator("PAD", [x, w.constant("p", [[0, 0], [1, 1], [0, 0], [0, 0]])], y)
    w.operator("RELU", y, z)
    return w.build(x, z)


def _scaled(kind: str, *shape: int) -> bytes:
    w = TfliteWriter()
    x, y = w.tensor("x", (1, 4, 4, 2), "float32"), w.tensor("y", (1, 4, 4, 2), "float32")
    w.operator(kind, [x, w.constant("c", np.zeros(shape, np.float32))], y)
    return w.build(x, y)


SOUND = np.ones((3, 1, 1, 2), np.float32)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (_chain(["SIN", "RELU", "ELU", "SIN"]), "3 operators not supported: SIN (t1, t4); ELU (t3). Supported: ADD, "),
        (_chain(["RELU"], "int8", scale=0.5), "already int8, so there is nothing to quantise: tinymbn import MODEL"),
        (_chain(["RELU"], "int32"), 'input "t0" is int32; expected float32'),
        (_convolution(SOUND.astype(np.int8)), "CONV_2D: int8 weights (y)"),
        (_convolution(SOUND, fused_activation_function="RELU_N1_TO_1"), "CONV_2D: fused activation relu_n1_to_1 (y)"),
        (_convolution(SOUND, shape=(1, 4, 4, 4)), "CONV_2D: grouped convolution"),
        (_convolution(SOUND, shape=(2, 4, 4, 2)), 'input "x" has a batch of 2; expected 1'),
        (_padded(), 'RELU: "y" is padding, which only a convolution may read (z)'),
        (_scaled("MUL", 4, 4, 2), "MUL: a constant of shape (4, 4, 2); expected a number, or one a channel"),
        (_scaled("DIV", 2), "DIV: by a tensor, or by 0 (y)"),
    ],
)
def test_what_is_not_supported_is_said(data: bytes, text: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        float_from_bytes(data, "model.tflite")
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x1c\0\0\0TFL3" + b"\xff" * 64, "damaged flatbuffer"),
        (_convolution(SOUND * np.float32(np.nan)), 'tensor "w" has values that are not finite numbers'),
        (_convolution(SOUND[0]), "expected four axes"),
        (_convolution(SOUND, stride_h=0), "must be 1 or more"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, text: str) -> None:
    with pytest.raises(ModelError) as caught:
        float_from_bytes(data, "model.tflite")
    assert text in str(caught.value)
    assert not isinstance(caught.value, UnsupportedError)


def test_the_command_quantises_a_file(run: Run) -> None:
    w = TfliteWriter()
    chance = np.random.default_rng(0)
    x, a, b, y = (
        w.tensor(name, shape, "float32")
        for name, shape in (("x", (1, 16, 16, 3)), ("a", (1, 8, 8, 4)), ("b", (1, 4)), ("y", (1, 4)))
    )
    kernel = w.constant("k", chance.normal(size=(4, 3, 3, 3)).astype(np.float32))
    options = PLAIN | {"stride_h": 2, "stride_w": 2, "fused_activation_function": "RELU6"}
    w.operator("CONV_2D", [x, kernel], a, padding="SAME", **options)
    w.operator("MEAN", [a, w.constant("axes", [1, 2])], b)
    w.operator("SOFTMAX", b, y, beta=1.0)
    Path("float.tflite").write_bytes(w.build(x, y))
    write_pictures(Path("p"))
    done = run("quantize", "float.tflite", "--calibrate", "p", "--input-range", "-1,1", "-o", "model.npz")
    assert done.code == 0, done.err
    assert [layer.kind for layer in load_model("model.npz").layers] == ["conv2d", "mean", "softmax"]
    refused = run("run", "float.tflite", "p/0.png")
    assert refused.code == 3
    assert "quantise it first: tinymbn quantize MODEL --calibrate PICTURES" in refused.err


def test_damaged_files_are_refused_or_sound(pytestconfig: pytest.Config) -> None:
    w = TfliteWriter()
    m = [w.tensor(name, (1, 4, 4, 3), "float32") for name in ("x", "a", "b", "c")]
    kernel = w.constant("k", np.random.default_rng(0).normal(size=(3, 3, 3, 3)).astype(np.float32))
    w.operator("CONV_2D", [m[0], kernel], m[1], padding="SAME", **PLAIN)
    w.operator("MUL", [m[1], w.constant("f", np.array([1, 2, 3], np.float32))], m[2])
    w.operator("ADD", [m[2], m[1]], m[3], fused_activation_function="RELU")
    flat = w.tensor("flat", (1, 48), "float32")
    w.operator("RESHAPE", [m[3], w.constant("shape", [1, 48])], flat)
    sound, refused = w.build(m[0], flat), 0
    for seed in range(20 * pytestconfig.getoption("--examples")):
        try:
            float_from_bytes(damage_bytes(sound, random.Random(seed)), "model.tflite")
        except TinymbnError:
            refused += 1
    assert refused > 0


def test_every_operator_is_tried() -> None:
    tried = {"DEQUANTIZE", "CONV_2D", "DEPTHWISE_CONV_2D", "PAD", "FULLY_CONNECTED", "AVERAGE_POOL_2D", "MAX_POOL_2D"}
    tried |= {"MEAN", "ADD", "SUB", "MUL", "DIV", "RELU", "RELU6", "RESHAPE", "SOFTMAX", "LOGISTIC"}
    assert set(OPERATORS) - tried == {"EXPAND_DIMS", "PADV2", "SQUEEZE"}  # as their int8 kin, and by the same functions


def test_a_float_model_that_asks_for_its_shape_is_one(tmp_path: Path) -> None:
    """What Keras writes of Flatten: integers, but no int8."""
    w = TfliteWriter()
    x, y = w.tensor("x", (1, 2, 3, 4), "float32"), w.tensor("y", (1, 24), "float32")
    shapes = {"sizes": (4,), "batch": (), "to": (2,)}
    sizes, batch, target = (w.tensor(name, shape, "int32") for name, shape in shapes.items())
    w.operator("SHAPE", x, sizes, out_type="INT32")
    ends = [w.constant(name, [value]) for name, value in (("begin", 0), ("end", 1), ("step", 1))]
    w.operator("STRIDED_SLICE", [sizes, *ends], batch, shrink_axis_mask=1)
    w.operator("PACK", [batch, w.constant("length", np.int32(24))], target, values_count=2, axis=0)
    w.operator("RESHAPE", [x, target], y)
    path = tmp_path / "m.tflite"
    path.write_bytes(w.build(x, y))
    with pytest.raises(FloatModelError):
        load_model(path)
    assert load_float(path).shapes["y"] == (24,)
