from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.strategies import (
    HALF,
    activations,
    int8s,
    limits,
    multipliers,
    run_layer,
    shapes,
    shifts,
    zero_points,
)
from tinymbn.layers import Activation, Requantize


@given(st.data())
def test_requantize_equals_the_oracle(data: st.DataObject) -> None:
    x = data.draw(int8s(data.draw(shapes)))
    multiplier, shift = data.draw(multipliers), data.draw(st.integers(-5, 3) | shifts)
    zero, output_zero, activation = data.draw(zero_points), data.draw(zero_points), data.draw(activations())
    layer = Requantize("layer", ("x",), "y", multiplier, shift, activation)
    expected = oracle.rescale(
        x,
        input_zero=zero,
        output_zero=output_zero,
        multiplier=multiplier,
        shift=shift,
        limits=limits(activation),
    )
    np.testing.assert_array_equal(run_layer(layer, x, zero=zero, output_zero=output_zero), expected)


def test_requantize_by_hand() -> None:
    x = np.array([15, 5, 20], np.int8)
    layer = Requantize("layer", ("x",), "y", *HALF, Activation(-1, 127))
    # 5, -5 and 10 above the zero point 10; their halves 2.5, -2.5 and 5: ties go up; plus 1; not below -1.
    assert run_layer(layer, x, zero=10, output_zero=1).tolist() == [4, -1, 6]


def test_a_left_shift_wraps_as_an_int32_does() -> None:
    layer = Requantize("layer", ("x",), "y", 2**30, 30)
    # 2 << 30 is -2**31 in an int32, whose half is -2**30; 3 << 30 is -2**30; 4 << 30 is 0.
    assert run_layer(layer, np.array([1, 2, 3, 4], np.int8)).tolist() == [127, -128, -128, 0]
