from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.strategies import (
    activations,
    channels,
    int8s,
    limits,
    pads,
    run_layer,
    weight_options,
    weights,
    windows,
    zero_points,
)
from tinymbn.layers import Activation, Conv2D, Padding, Weights, Window


@given(st.data())
def test_conv2d_equals_the_oracle(data: st.DataObject) -> None:
    size, window = data.draw(windows())
    c_in, c_out = data.draw(channels), data.draw(channels)
    w = data.draw(weights((c_out, *window.kernel, c_in), c_out))
    x = data.draw(int8s((*size, c_in)))
    zero, output_zero, activation = data.draw(zero_points), data.draw(zero_points), data.draw(activations())
    layer = Conv2D("layer", ("x",), "y", w, activation, window)
    expected = oracle.conv2d(
        x,
        w.values,
        w.bias.tolist(),
        stride=window.stride,
        dilation=window.dilation,
        pads=pads(window),
        input_zero=zero,
        output_zero=output_zero,
        limits=limits(activation),
        **weight_options(w),
    )
    np.testing.assert_array_equal(run_layer(layer, x, zero=zero, output_zero=output_zero), expected)


def quarter(values: list[int], bias: int, window: Window) -> Conv2D:
    """One kernel whose sum is divided by 4, rounding twice: half, then half again."""
    w = Weights(
        np.array(values, np.int8).reshape(1, *window.kernel, 1),
        np.array([bias], np.int32),
        np.array([2**30], np.int32),
        np.array([-1], np.int8),
    )
    return Conv2D("layer", ("x",), "y", w, Activation(), window)


def test_conv2d_by_hand() -> None:
    x = np.array([[1, 2], [3, 4]], np.int8).reshape(2, 2, 1)
    # 1*10 + 2*20 + 3*30 + 4*40 + 5 = 305; half of it is 152.5 -> 153, half of that 76.5 -> 77; 77 - 3 = 74.
    layer = quarter([10, 20, 30, 40], 5, Window((2, 2)))
    assert run_layer(layer, x, output_zero=-3).tolist() == [[[74]]]


def test_padding_adds_nothing() -> None:
    x = np.array([[11, 12], [13, 14]], np.int8).reshape(2, 2, 1)
    # A row above and a column left are outside: what counts at the corner is (11 - 10) * 40 = 40. Right of it
    # 1*30 + 2*40 = 110, below 1*20 + 3*40 = 140, and last 1*10 + 2*20 + 3*30 + 4*40 = 300; all over 4.
    layer = quarter([10, 20, 30, 40], 0, Window((2, 2), padding=Padding(top=1, left=1)))
    assert run_layer(layer, x, zero=10).reshape(2, 2).tolist() == [[10, 28], [35, 75]]
