from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.strategies import (
    ONE,
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
from tinymbn.layers import Activation, Depthwise, Weights, Window


@given(st.data())
def test_depthwise_equals_the_oracle(data: st.DataObject) -> None:
    size, window = data.draw(windows())
    c_in = data.draw(channels)
    c_out = c_in * data.draw(st.sampled_from([1, 1, 2, 3]))
    w = data.draw(weights((*window.kernel, c_out), c_out))
    x = data.draw(int8s((*size, c_in)))
    zero, output_zero, activation = data.draw(zero_points), data.draw(zero_points), data.draw(activations())
    layer = Depthwise("layer", ("x",), "y", w, activation, window)
    expected = oracle.depthwise(
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


def test_depthwise_of_multiplier_2_by_hand() -> None:
    x = np.array([[[1, 2], [3, 4]]], np.int8)  # one row, two columns, two channels
    w = Weights(
        np.array([[[1, 2, 3, 4], [5, 6, 7, 8]]], np.int8),
        np.zeros(4, np.int32),
        np.full(4, ONE[0], np.int32),
        np.full(4, ONE[1], np.int8),
    )
    layer = Depthwise("layer", ("x",), "y", w, Activation(), Window((1, 2)))
    # Outputs 0 and 1 read channel 0: 1*1 + 3*5, 1*2 + 3*6; outputs 2 and 3 channel 1: 2*3 + 4*7, 2*4 + 4*8.
    assert run_layer(layer, x).tolist() == [[[16, 20, 34, 40]]]
