from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.strategies import int8s, run_layer, shapes
from tinymbn.layers import Transpose


@given(st.data())
def test_transpose_equals_the_oracle(data: st.DataObject) -> None:
    x = data.draw(int8s(data.draw(shapes)))
    permutation = tuple(data.draw(st.permutations(range(x.ndim))))
    layer = Transpose("layer", ("x",), "y", permutation)
    np.testing.assert_array_equal(run_layer(layer, x), oracle.transpose(x, permutation))


def test_transpose_by_hand() -> None:
    x = np.array([[[1, 2, 3], [4, 5, 6]]], np.int8)  # (1, 2, 3)
    layer = Transpose("layer", ("x",), "y", (2, 0, 1))
    assert run_layer(layer, x).tolist() == [[[1, 4]], [[2, 5]], [[3, 6]]]
