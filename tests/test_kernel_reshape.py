from __future__ import annotations

import numpy as np

from tests.strategies import run_layer
from tinymbn.layers import Reshape


def test_reshape_keeps_the_bytes_in_order() -> None:
    x = np.arange(12, dtype=np.int8).reshape(2, 3, 2)
    flat = run_layer(Reshape("layer", ("x",), "y", (12,)), x)
    assert flat.tolist() == list(range(12))
    assert run_layer(Reshape("layer", ("x",), "y", (4, 3)), x)[1].tolist() == [3, 4, 5]
