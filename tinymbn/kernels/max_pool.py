"""MAX_POOL_2D.

Source: tensorflow/lite/kernels/internal/reference/integer_ops/pooling.h, MaxPool.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymbn.kernels.jit import kernel

Pair = tuple[int, int]


@kernel
def max_pool(
    x: NDArray[np.int8],
    size: Pair,
    stride: Pair,
    padding: Pair,
    activation: Pair,
    out: NDArray[np.int8],
) -> None:
    """Take the maximum of windows of ``x (H, W, C)`` into ``out (H', W', C)``; padding is left out."""
    for oy in range(out.shape[0]):
        top = oy * stride[0] - padding[0]
        for ox in range(out.shape[1]):
            left = ox * stride[1] - padding[1]
            for c in range(out.shape[2]):
                largest = -128
                for iy in range(max(top, 0), min(top + size[0], x.shape[0])):
                    for ix in range(max(left, 0), min(left + size[1], x.shape[1])):
                        largest = max(largest, x[iy, ix, c])
                out[oy, ox, c] = min(max(largest, activation[0]), activation[1])
