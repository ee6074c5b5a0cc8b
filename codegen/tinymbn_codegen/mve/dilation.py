"""Windows whose columns have neighbours between them, as larger windows whose weights are zero there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tinymbn.layers import Window


def closed(window: Window) -> Window:
    """The window with every column that it covers; rows are where they were."""
    return replace(window, kernel=(window.kernel[0], window.extent[1]), dilation=(window.dilation[0], 1))


def spread(weights: NDArray[np.int64], axis: int, window: Window) -> NDArray[np.int64]:
    """The weights of the closed window; ``axis`` is that of columns."""
    shape = list(weights.shape)
    shape[axis] = window.extent[1]
    made = np.zeros(shape, np.int64)
    places = [slice(None)] * weights.ndim
    places[axis] = slice(None, None, window.dilation[1])
    made[tuple(places)] = weights
    return made
