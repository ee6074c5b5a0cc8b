from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.strategies import activations, channels, int8s, limits, pads, run_layer, windows
from tinymbn.layers import AveragePool, Padding, Window


@given(st.data())
def test_average_pool_equals_the_oracle(data: st.DataObject) -> None:
    size, window = data.draw(windows(dilated=False))
    x = data.draw(int8s((*size, data.draw(channels))))
    activation, unsigned = data.draw(activations()), data.draw(st.booleans())
    layer = AveragePool("layer", ("x",), "y", window, activation, unsigned)
    expected = oracle.average_pool(
        x,
        kernel=window.kernel,
        stride=window.stride,
        pads=pads(window),
        limits=limits(activation),
        unsigned=unsigned,
    )
    np.testing.assert_array_equal(run_layer(layer, x), expected)


@pytest.mark.parametrize(("unsigned", "expected"), [(False, [-2, 2]), (True, [-1, 2])])
def test_ties_go_away_from_the_zero_of_the_type(unsigned: bool, expected: list[int]) -> None:
    x = np.array([-1, -2, 1, 2], np.int8).reshape(1, 4, 1)
    # -1.5 and 1.5; in a uint8 model the first is 126.5, whose tie goes up.
    layer = AveragePool("layer", ("x",), "y", Window((1, 2), (1, 2)), unsigned=unsigned)
    assert run_layer(layer, x).ravel().tolist() == expected


def test_padding_is_not_counted() -> None:
    x = np.array([10, 20, 40], np.int8).reshape(1, 3, 1)
    layer = AveragePool("layer", ("x",), "y", Window((1, 3), padding=Padding(left=1, right=1)))
    assert run_layer(layer, x).ravel().tolist() == [15, 23, 30]  # 30/2, 70/3, 60/2
