from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.strategies import activations, channels, int8s, limits, pads, run_layer, windows
from tinymbn.layers import Activation, MaxPool, Padding, Window


@given(st.data())
def test_max_pool_equals_the_oracle(data: st.DataObject) -> None:
    size, window = data.draw(windows(dilated=False))
    x = data.draw(int8s((*size, data.draw(channels))))
    activation = data.draw(activations())
    layer = MaxPool("layer", ("x",), "y", window, activation)
    expected = oracle.max_pool(
        x, kernel=window.kernel, stride=window.stride, pads=pads(window), limits=limits(activation)
    )
    np.testing.assert_array_equal(run_layer(layer, x), expected)


def test_padding_is_never_the_maximum() -> None:
    x = np.array([-7, -5, -9], np.int8).reshape(1, 3, 1)
    layer = MaxPool("layer", ("x",), "y", Window((1, 2), (1, 2), padding=Padding(left=1)))
    assert run_layer(layer, x).ravel().tolist() == [-7, -5]
    clamped = MaxPool("layer", ("x",), "y", layer.window, Activation(-6, 127))
    assert run_layer(clamped, x).ravel().tolist() == [-6, -5]
