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
    run_layer,
    shifts,
    zero_points,
)
from tinymbn.layers import Mul


@given(st.data())
def test_mul_equals_the_oracle(data: st.DataObject) -> None:
    shape, other = data.draw(operand_shapes())
    x, constant = data.draw(int8s(shape)), data.draw(int8s(other))
    multiplier, shift = data.draw(multipliers), data.draw(shifts)
    zeros, activation = data.draw(st.tuples(*[zero_points] * 3)), data.draw(activations())
    layer = Mul("layer", ("x", "k"), "y", multiplier, shift, activation)
    expected = oracle.mul(x, constant, zeros=zeros, multiplier=multiplier, shift=shift, limits=limits(activation))
    constants = {"k": (constant, zeros[1])}
    actual = run_layer(layer, x, zero=zeros[0], output_zero=zeros[2], constants=constants)
    np.testing.assert_array_equal(actual, expected)


def test_mul_by_hand() -> None:
    layer = Mul("layer", ("x", "k"), "y", *HALF)
    x = np.array([[4, 5], [6, -2]], np.int8)
    constants = {"k": (np.array([7, 9], np.int8), 2)}
    # (3, 4), (5, -3) times (5, 7) is (15, 28), (25, -21); half of it, ties up, (8, 14), (13, -10); plus 20.
    actual = run_layer(layer, x, zero=1, output_zero=20, constants=constants)
    assert actual.tolist() == [[28, 34], [33, 10]]


def test_squaring_reads_one_tensor_twice() -> None:
    layer = Mul("layer", ("x", "x"), "y", *HALF)
    assert run_layer(layer, np.array([2, -4, 6], np.int8)).tolist() == [2, 8, 18]
