from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.strategies import int8s, run_layer, shapes
from tinymbn.layers import Concat


@given(st.data())
def test_concat_equals_the_oracle(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    axis = data.draw(st.integers(0, len(shape) - 1))
    arrays = {"x": data.draw(int8s(shape))}
    for name in data.draw(st.sampled_from(["", "a", "ab", "abc"])):
        length = data.draw(st.integers(1, 5))
        arrays[name] = data.draw(int8s((*shape[:axis], length, *shape[axis + 1 :])))
    order = tuple(data.draw(st.permutations([*arrays, "x"])))
    constants = {name: (values, 0) for name, values in arrays.items() if name != "x"}
    actual = run_layer(Concat("layer", order, "y", axis), arrays["x"], constants=constants)
    np.testing.assert_array_equal(actual, oracle.concat([arrays[name] for name in order], axis))


def test_concat_by_hand() -> None:
    x = np.array([[1, 2], [3, 4]], np.int8)
    constants = {"k": (np.array([[5], [6]], np.int8), 0)}
    layer = Concat("layer", ("k", "x"), "y", 1)
    assert run_layer(layer, x, constants=constants).tolist() == [[5, 1, 2], [6, 3, 4]]
