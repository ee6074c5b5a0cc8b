"""What Keras writes in several operators and is one layer: dilation, upsampling, global maxima."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.litert import LiteRT
from tests.tflite_writer import TfliteWriter
from tinymbn import Interpreter, UnsupportedError
from tinymbn.importers.tflite.model import from_bytes

PLAIN: dict[str, Any] = {"stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1}


def _dilated(
    kind: str, block: list[int], pads: list[list[int]], crops: list[list[int]], height: int, width: int, seed: int
) -> bytes:
    """SPACE_TO_BATCH_ND, a 3x3 convolution without padding, BATCH_TO_SPACE_ND."""
    rng = np.random.default_rng(seed)
    w = TfliteWriter()
    inner = [(size + sum(pad)) // b for size, pad, b in zip((height, width), pads, block, strict=True)]
    outer = [(size - 2) * b - sum(crop) for size, b, crop in zip(inner, block, crops, strict=True)]
    count = block[0] * block[1]
    quant: dict[str, Any] = {"scale": 0.07, "zero_point": -5}
    x = w.tensor("x", (1, height, width, 4), **quant)
    batched = w.tensor("batched", (count, *inner, 4), **quant)
    convolved = w.tensor("convolved", (count, inner[0] - 2, inner[1] - 2, 4), scale=0.3, zero_point=9)
    y = w.tensor("y", (1, *outer, 4), scale=0.3, zero_point=9)
    shape, dimension = ((4, 3, 3, 4), 0) if kind == "CONV_2D" else ((1, 3, 3, 4), 3)
    weights = w.constant(
        "w", rng.integers(-127, 128, shape, dtype=np.int8), scale=[0.01, 0.02, 0.03, 0.04], dimension=dimension
    )
    bias = w.constant("b", rng.integers(-900, 900, 4, dtype=np.int32), scale=0.0007)
    blocks = w.constant("block", block)
    extra: dict[str, Any] = {"depth_multiplier": 1} if kind == "DEPTHWISE_CONV_2D" else {}
    w.operator("SPACE_TO_BATCH_ND", [x, blocks, w.constant("pads", pads)], batched)
    w.operator(
        kind,
        [batched, weights, bias],
        convolved,
        padding="VALID",
        fused_activation_function="RELU",
        **PLAIN,
        **extra,
    )
    w.operator("BATCH_TO_SPACE_ND", [convolved, blocks, w.constant("crops", crops)], y)
    return w.build(x, y)


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
@pytest.mark.parametrize(
    ("block", "pads", "crops", "height", "width"),
    [
        ([2, 2], [[2, 2], [2, 2]], [[0, 0], [0, 0]], 8, 6),
        ([2, 3], [[2, 3], [3, 4]], [[0, 1], [0, 1]], 7, 5),
        ([1, 4], [[0, 0], [4, 4]], [[0, 0], [0, 0]], 5, 12),
        ([2, 2], [[0, 0], [0, 0]], [[0, 0], [0, 0]], 8, 10),
    ],
)
def test_a_convolution_in_batch_space_is_a_dilated_one(
    kind: str, block: list[int], pads: list[list[int]], crops: list[list[int]], height: int, width: int
) -> None:
    data = _dilated(kind, block, pads, crops, height, width, seed=height)
    graph = from_bytes(data, "model.tflite")
    (layer,) = graph.layers
    assert layer.kind == {"CONV_2D": "conv2d", "DEPTHWISE_CONV_2D": "depthwise"}[kind]
    reference = LiteRT(data)
    x = np.random.default_rng(1).integers(-128, 128, graph.input_tensor.shape, dtype=np.int8)
    expected = reference.run(x[None])[reference.outputs[0]][0]
    np.testing.assert_array_equal(Interpreter(graph).run(x), expected)


def test_more_cropped_than_padded_is_refused() -> None:
    data = _dilated("CONV_2D", [2, 2], [[2, 2], [2, 2]], [[1, 0], [0, 0]], 8, 6, seed=0)
    with pytest.raises(UnsupportedError, match="BATCH_TO_SPACE_ND: around a convolution that is not plain"):
        from_bytes(data, "model.tflite")


def test_batch_space_without_a_convolution_is_refused() -> None:
    w = TfliteWriter()
    x, y = w.tensor("x", (1, 4, 4, 2), scale=0.5), w.tensor("y", (4, 2, 2, 2), scale=0.5)
    z = w.tensor("z", (1, 4, 4, 2), scale=0.5)
    block = w.constant("block", [2, 2])
    w.operator("SPACE_TO_BATCH_ND", [x, block, w.constant("pads", [[0, 0], [0, 0]])], y)
    w.operator("BATCH_TO_SPACE_ND", [y, block, w.constant("crops", [[0, 0], [0, 0]])], z)
    with pytest.raises(UnsupportedError, match=r"BATCH_TO_SPACE_ND: not behind a convolution .* \(z\)"):
        from_bytes(w.build(x, z), "model.tflite")


def test_upsampling_is_a_tile_between_two_reshapes() -> None:
    # No released LiteRT runs TILE on int8; it moves bytes alone.
    w = TfliteWriter()
    x, apart, tiled, y = (
        w.tensor(name, shape, scale=0.5)
        for name, shape in (
            ("x", (1, 3, 4, 2)),
            ("apart", (1, 3, 1, 4, 2)),
            ("tiled", (1, 3, 2, 4, 2)),
            ("y", (1, 6, 4, 2)),
        )
    )
    w.operator("EXPAND_DIMS", [x, w.constant("axis", 2)], apart)
    w.operator("TILE", [apart, w.constant("multiples", [1, 1, 2, 1, 1])], tiled)
    w.operator("RESHAPE", [tiled, w.constant("shape", [1, 6, 4, 2])], y)
    values = np.arange(24, dtype=np.int8).reshape(3, 4, 2)
    result = Interpreter(from_bytes(w.build(x, y), "model.tflite")).run(values)
    np.testing.assert_array_equal(result, values.repeat(2, axis=0))


@pytest.mark.parametrize("keep_dims", [False, True])
def test_a_global_maximum_is_one_window(keep_dims: bool) -> None:
    w = TfliteWriter()
    x = w.tensor("x", (1, 3, 5, 7), scale=0.5, zero_point=4)
    y = w.tensor("y", (1, 1, 1, 7) if keep_dims else (1, 7), scale=0.5, zero_point=4)
    w.operator("REDUCE_MAX", [x, w.constant("axes", [1, 2])], y, keep_dims=keep_dims)
    data = w.build(x, y)
    reference = LiteRT(data)
    values = np.random.default_rng(0).integers(-128, 128, (3, 5, 7), dtype=np.int8)
    expected = reference.run(values[None])[reference.outputs[0]][0]
    np.testing.assert_array_equal(Interpreter(from_bytes(data, "model.tflite")).run(values), expected)
