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
    weights,
    zero_points,
)
from tinymbn.fixedpoint import DENSE_STEPS
from tinymbn.layers import Activation, Dense, Weights


@given(st.data())
def test_dense_equals_the_oracle(data: st.DataObject) -> None:
    c_in, c_out = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 11))
    w = data.draw(weights((c_out, c_in), c_out))
    x = data.draw(int8s((*data.draw(shapes)[1:], c_in)))
    zero, output_zero, activation = data.draw(zero_points), data.draw(zero_points), data.draw(activations())
    steps = None
    if data.draw(st.booleans()):
        generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        steps = generator.integers(1, 10 ** data.draw(st.integers(1, 9)), (c_out, DENSE_STEPS), np.int32)
        steps.sort(axis=1)

    def rescale(c: int, accumulator: int) -> int:
        if steps is None:
            return oracle.requantize_once(accumulator, int(w.multiplier[c]), int(w.shift[c]))
        reached = sum(int(step) <= abs(accumulator) for step in steps[c])
        return reached if accumulator >= 0 else -reached

    expected = oracle.dense(
        x,
        w.values,
        w.bias.tolist(),
        input_zero=zero,
        weight_zero=w.zero_point,
        output_zero=output_zero,
        rescale=rescale,
        limits=limits(activation),
    )
    layer = Dense("layer", ("x",), "y", w, activation, steps)
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


def test_dense_rounds_once_and_ties_go_away_from_zero() -> None:
    w = Weights(np.array([[1]], np.int8), np.zeros(1, np.int32), np.array([2**30], np.int32), np.array([-1], np.int8))
    layer = Dense("layer", ("x",), "y", w, Activation())
    # Quarters: 5/4, 6/4, -6/4; a convolution rounds 5/2 to 3 first, and 3/2 to 2.
    assert [run_layer(layer, np.array([q], np.int8)).item() for q in (5, 6, -6)] == [1, 2, -2]


def test_steps_stand_for_a_factor() -> None:
    w = Weights(np.array([[1]], np.int8), np.zeros(1, np.int32), np.array([0], np.int32), np.array([0], np.int8))
    steps = 10 * np.arange(1, DENSE_STEPS + 1, dtype=np.int32).reshape(1, DENSE_STEPS)  # 10, 20, 30, ...
    layer = Dense("layer", ("x",), "y", w, Activation(), steps)
    assert [run_layer(layer, np.array([q], np.int8)).item() for q in (9, 10, 29, -30)] == [0, 1, 2, -3]


def test_the_least_accumulator_has_a_magnitude() -> None:
    w = Weights(
        np.array([[0]], np.int8),
        np.array([-(2**31)], np.int32),
        np.array([2**30], np.int32),
        np.array([0], np.int8),
    )
    layer = Dense("layer", ("x",), "y", w, Activation())
    assert run_layer(layer, np.array([1], np.int8)).item() == -128
