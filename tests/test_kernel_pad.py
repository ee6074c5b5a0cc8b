from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.strategies import int8s, run_layer, shapes, zero_points
from tinymbn.layers import Pad


@given(st.data())
def test_pad_equals_the_oracle(data: st.DataObject) -> None:
    shape, value = data.draw(shapes), data.draw(zero_points)
    pads = tuple(data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3))) for _ in shape)
    x = data.draw(int8s(shape))
    np.testing.assert_array_equal(run_layer(Pad("layer", ("x",), "y", pads, value), x), oracle.pad(x, pads, value))


def test_pad_by_hand() -> None:
    x = np.array([[1, 2], [3, 4]], np.int8)
    layer = Pad("layer", ("x",), "y", ((1, 0), (0, 2)), -7)
    assert run_layer(layer, x).tolist() == [[-7, -7, -7, -7], [1, 2, -7, -7], [3, 4, -7, -7]]
