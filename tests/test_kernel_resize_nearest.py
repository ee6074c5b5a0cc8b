from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.strategies import int8s, maps, run_layer
from tinymbn.layers import ResizeNearest


@given(st.data())
def test_resize_nearest_equals_the_oracle(data: st.DataObject) -> None:
    x = data.draw(int8s(data.draw(maps)))
    rows, columns = (data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=9)) for size in x.shape[:2])
    layer = ResizeNearest("layer", ("x",), "y", np.array(rows, np.int32), np.array(columns, np.int32))
    np.testing.assert_array_equal(run_layer(layer, x), oracle.resize_nearest(x, rows, columns))


def test_resize_nearest_by_hand() -> None:
    x = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], np.int8)
    layer = ResizeNearest("layer", ("x",), "y", np.array([1], np.int32), np.array([0, 0, 1], np.int32))
    assert run_layer(layer, x).tolist() == [[[5, 6], [5, 6], [7, 8]]]
