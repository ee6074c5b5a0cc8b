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
    operand_shapes,
    right_shifts,
    run_layer,
    zero_points,
)
from tinymbn.layers import Activation, Add


@given(st.data())
def test_add_equals_the_oracle(data: st.DataObject) -> None:
    shape, other = data.draw(operand_shapes())
    x, constant = data.draw(int8s(shape)), data.draw(int8s(other))
    scalings = [(data.draw(multipliers), data.draw(right_shifts)) for _ in range(2)]
    scalings.append((data.draw(multipliers), data.draw(st.integers(-21, -15) | right_shifts)))
    a, b, out = scalings
    zeros, activation = data.draw(st.tuples(*[zero_points] * 3)), data.draw(activations())
    layer = Add("layer", ("x", "k"), "y", *a, *b, *out, activation)
    expected = oracle.add(
        x,
        constant,
        zeros=zeros,
        multipliers=(a[0], b[0], out[0]),
        shifts=(a[1], b[1], out[1]),
        limits=limits(activation),
    )
    constants = {"k": (constant, zeros[1])}
    actual = run_layer(layer, x, zero=zeros[0], output_zero=zeros[2], constants=constants)
    np.testing.assert_array_equal(actual, expected)


def test_add_by_hand() -> None:
    # Operands and output of one scale: each operand is halved, and the sum goes back over 2**19.
    layer = Add("layer", ("x", "k"), "y", *HALF, *HALF, 2**30, -18, Activation(-128, 16))
    constants = {"k": (np.array([5], np.int8), 2)}
    x = np.array([3, -4, 9], np.int8)
    # (3 - 1) + (5 - 2) + 10 = 15, then -5 + 3 + 10 = 8, then 8 + 3 + 10 = 21, which the clamp makes 16.
    assert run_layer(layer, x, zero=1, output_zero=10, constants=constants).tolist() == [15, 8, 16]
