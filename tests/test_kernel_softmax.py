from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.strategies import int8s, run_layer, shapes
from tinymbn.layers import Softmax


@given(st.data())
def test_softmax_equals_the_oracle(data: st.DataObject) -> None:
    shape = (*data.draw(shapes)[1:], data.draw(st.integers(1, 40) | st.sampled_from([1001])))
    x = data.draw(int8s(shape))
    multiplier, shift, least = oracle.softmax_parameters(data.draw(st.floats(1e-4, 4.0)), 1.0)
    layer = Softmax("layer", ("x",), "y", multiplier, shift, least)
    expected = oracle.softmax(x, multiplier=multiplier, shift=shift, diff_min=least)
    np.testing.assert_array_equal(run_layer(layer, x, output_zero=-128), expected)


def test_softmax_by_hand() -> None:
    # Each step is a factor e, Q5.26: 2**26 is 2**30 / 2**31 * 2**27. Differences below -31 count as nothing.
    layer = Softmax("layer", ("x",), "y", 2**30, 27, -15)
    alike = np.array([[9, 9], [-5, -5]], np.int8)
    assert run_layer(layer, alike, output_zero=-128).tolist() == [[0, 0], [0, 0]]  # 128/256 each
    apart = np.array([3, 2, -100], np.int8)
    # 1 / (1 + 1/e) = 0.7311 = 187.2/256, and 68.8/256; the third is out of reach.
    assert run_layer(layer, apart, output_zero=-128).tolist() == [187 - 128, 69 - 128, -128]
    alone = np.array([77], np.int8)
    assert run_layer(layer, alone, output_zero=-128).tolist() == [127]  # 256/256 does not fit
