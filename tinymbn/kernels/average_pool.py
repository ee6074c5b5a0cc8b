"""AVERAGE_POOL_2D.

Source: tensorflow/lite/kernels/internal/reference/integer_ops/pooling.h, AveragePool; for legacy models
tensorflow/lite/kernels/internal/reference/pooling.h.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import rounding_average
from tinymbn.kernels.jit import kernel

Pair = tuple[int, int]


@kernel
def average_pool(
    x: NDArray[np.int8],
    size: Pair,
    stride: Pair,
    padding: Pair,
    offset: int,
    activation: Pair,
    out: NDArray[np.int8],
) -> None:
    """Average windows of ``x (H, W, C)`` into ``out (H', W', C)``; padding is left out of sum and count.

    ``offset`` is added to each value before, and taken off after: ties go away from the zero of the sum, so a
    legacy model, whose values are unsigned, needs 128 here, any other 0.
    """
    for oy in range(out.shape[0]):
        top = oy * stride[0] - padding[0]
        for ox in range(out.shape[1]):
            left = ox * stride[1] - padding[1]
            for c in range(out.shape[2]):
                total = 0
                count = 0
                for iy in range(max(top, 0), min(top + size[0], x.shape[0])):
                    for ix in range(max(left, 0), min(left + size[1], x.shape[1])):
                        total += x[iy, ix, c] + offset
                        count += 1
                average = rounding_average(total, count) - offset
                out[oy, ox, c] = min(max(average, activation[0]), activation[1])
