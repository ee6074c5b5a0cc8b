from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.strategies import (
    ONE,
    activations,
    int8s,
    limits,
    run_layer,
    shapes,
    weight_options,
    weights,
    zero_points,
)
from tinymbn.layers import Activation, Dense, Weights


@given(st.data())
def test_dense_equals_the_oracle(data: st.DataObject) -> None:
    c_in, c_out = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 11))
    w = data.draw(weights((c_out, c_in), c_out))
    x = data.draw(int8s((*data.draw(shapes)[1:], c_in)))
    zero, output_zero, activation = data.draw(zero_points), data.draw(zero_points), data.draw(activations())
    layer = Dense("layer", ("x",), "y", w, activation)
    expected = oracle.dense(
        x,
        w.values,
        w.bias.tolist(),
        input_zero=zero,
        output_zero=output_zero,
        limits=limits(activation),
        **weight_options(w),
    )
    np.testing.assert_array_equal(run_layer(layer, x, zero=zero, output_zero=output_zero), expected)


def test_dense_by_hand() -> None:
    w = Weights(
        np.array([[4, 5, 6], [7, 8, 9]], np.int8),
        np.array([1, -1], np.int32),
        np.full(2, ONE[0], np.int32),
        np.full(2, ONE[1], np.int8),
        zero_point=2,
    )
    layer = Dense("layer", ("x",), "y", w, Activation(-128, 30))
    # The input is (0, 1, 2) above its zero point, the weights (2, 3, 4) and (5, 6, 7):
    # 3 + 8 + 1 = 12, and 6 + 14 - 1 = 19; 10 is zero at the output, 30 is the clamp: 29 is below it.
    assert run_layer(layer, np.array([1, 2, 3], np.int8), zero=1, output_zero=10).tolist() == [22, 29]
    assert run_layer(layer, np.array([1, 2, 3], np.int8), zero=1, output_zero=12).tolist() == [24, 30]
