from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.strategies import int8s, run_layer, shapes
from tinymbn.layers import Lookup


@given(st.data())
def test_lookup_equals_the_oracle(data: st.DataObject) -> None:
    x, table = data.draw(int8s(data.draw(shapes))), data.draw(int8s((256,)))
    layer = Lookup("layer", ("x",), "y", "logistic", table)
    np.testing.assert_array_equal(run_layer(layer, x), oracle.lookup(x, table.tolist()))


def test_lookup_by_hand() -> None:
    backwards = np.arange(127, -129, -1, dtype=np.int8)
    layer = Lookup("layer", ("x",), "y", "hard_swish", backwards)
    x = np.array([[-128, -1], [0, 127]], np.int8)
    assert run_layer(layer, x).tolist() == [[127, 0], [-1, -128]]
