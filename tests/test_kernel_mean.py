from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.strategies import HALF, int8s, multipliers, run_layer, shapes, shifts, zero_points
from tinymbn.layers import Mean


@given(st.data())
def test_mean_equals_the_oracle(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
    x, keep_dims = data.draw(int8s(shape)), data.draw(st.booleans())
    # With its shift a mean's multiplier may be below 2**30: the count is a divisor of it.
    multiplier, shift = data.draw(multipliers | st.integers(0, 2**30)), data.draw(shifts)
    zero, output_zero = data.draw(zero_points), data.draw(zero_points)
    layer = Mean("layer", ("x",), "y", axes, keep_dims, multiplier, shift)
    expected = oracle.mean(
        x,
        axes=axes,
        keep_dims=keep_dims,
        input_zero=zero,
        output_zero=output_zero,
        multiplier=multiplier,
        shift=shift,
    )
    np.testing.assert_array_equal(run_layer(layer, x, zero=zero, output_zero=output_zero), expected)


def test_mean_by_hand() -> None:
    x = np.array([[[11, 21], [12, 22]]], np.int8)  # (1, 2, 2)
    half = Mean("layer", ("x",), "y", (0, 1), keep_dims=False, multiplier=HALF[0], shift=HALF[1])
    # Above the zero point 10: 1 + 2 = 3, 11 + 12 = 23; their halves are 1.5, 11.5, ties up; 5 is added.
    assert run_layer(half, x, zero=10, output_zero=5).tolist() == [7, 17]
    across = Mean("layer", ("x",), "y", (2,), keep_dims=True, multiplier=HALF[0], shift=HALF[1])
    assert run_layer(across, x, zero=10, output_zero=5).tolist() == [[[11], [12]]]  # (1 + 11)/2, (2 + 12)/2
