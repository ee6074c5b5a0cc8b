from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests import oracle
from tests.strategies import int8s, shapes, zero_points
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.interpreter import Interpreter
from tinymbn.layers import Dequantize, Quantize

scales = st.floats(2**-20, 2**10, width=32)


def through(layer: Quantize | Dequantize, read: Tensor, made: Tensor, x: NDArray[Any]) -> NDArray[Any]:
    graph = Graph("edge", {"x": read, "y": made}, (layer,), "x", ("y",))
    output: NDArray[Any] = Interpreter(graph).run(x)
    return output


QUANTIZE, DEQUANTIZE = Quantize("layer", ("x",), "y"), Dequantize("layer", ("x",), "y")


def quantize(x: NDArray[np.float32], scale: float, zero_point: int) -> NDArray[Any]:
    made = Tensor("y", x.shape, Quant(scale, zero_point))
    return through(QUANTIZE, Tensor("x", x.shape, None, "float32"), made, x)


@given(st.data())
def test_quantize_equals_the_oracle(data: st.DataObject) -> None:
    scale, zero_point = data.draw(scales), data.draw(zero_points)
    # Steps and half steps, where the rounding decides, and numbers of any size.
    steps = st.integers(-600, 600).map(lambda n: float(np.float32(n / 2) * np.float32(scale)))
    reals = st.floats(-300 * scale, 300 * scale) | steps | st.floats(-1e30, 1e30)
    x = np.array(data.draw(st.lists(reals, min_size=1, max_size=30)), np.float32)
    np.testing.assert_array_equal(quantize(x, scale, zero_point), oracle.quantize(x, scale, zero_point))


@given(st.data())
def test_dequantize_equals_the_oracle(data: st.DataObject) -> None:
    scale, zero_point = data.draw(scales), data.draw(zero_points)
    x = data.draw(int8s(data.draw(shapes)))
    read, made = Tensor("x", x.shape, Quant(scale, zero_point)), Tensor("y", x.shape, None, "float32")
    actual = through(DEQUANTIZE, read, made, x)
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, oracle.dequantize(x, scale, zero_point))


def test_quantize_by_hand() -> None:
    x = np.array([0.25, -0.25, 0.2, 1.0, 100.0, -100.0], np.float32)
    # 0.5, -0.5, 0.4, 2, 200 and -200 steps; ties go away from zero; 3 is zero.
    assert quantize(x, 0.5, 3).tolist() == [4, 2, 3, 5, 127, -128]


def test_the_quotient_is_a_float32() -> None:
    # 0.15 / 0.1 as float32 is 1.5, a tie; the exact quotient of the two float32 numbers is just above.
    step, half = np.float32(0.1), np.float32(0.1) * np.float32(1.5)
    assert quantize(np.array([half, -half], np.float32), float(step), 0).tolist() == [2, -2]


def test_uint8_and_int8_are_128_apart() -> None:
    inside, outside = Quant(0.5, 3), Quant(0.5, 131)
    q, u = Tensor("x", (4,), inside), Tensor("y", (4,), outside, "uint8")
    x = np.array([-128, -1, 0, 127], np.int8)
    assert through(DEQUANTIZE, q, u, x).tolist() == [0, 127, 128, 255]
    u, q = Tensor("x", (4,), outside, "uint8"), Tensor("y", (4,), inside)
    assert through(QUANTIZE, u, q, np.array([0, 127, 128, 255], np.uint8)).tolist() == x.tolist()
