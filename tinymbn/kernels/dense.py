"""FULLY_CONNECTED: unlike convolutions it rounds once.

Source: tensorflow/lite/kernels/internal/reference/integer_ops/fully_connected.h; for legacy models
tensorflow/lite/kernels/internal/reference/fully_connected.h; both in the form that LiteRT has, see
``fixedpoint.dense_scaling``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import requantize_once, step_count
from tinymbn.kernels.jit import kernel


@kernel
def dense(
    x: NDArray[np.int8],
    weights: NDArray[np.int8],
    bias: NDArray[np.int32],
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int8],
    steps: NDArray[np.int32],
    input_zero: int,
    weight_zero: int,
    output_zero: int,
    activation: tuple[int, int],
    out: NDArray[np.int8],
) -> None:
    """Multiply each row of ``x (N, C_in)`` with ``weights (C_out, C_in)`` into ``out (N, C_out)``.

    ``steps`` is (C_out, DENSE_STEPS) where it stands for multiplier and shift, else (0, DENSE_STEPS).
    """
    for n in range(x.shape[0]):
        for c in range(weights.shape[0]):
            accumulator = bias[c]
            for i in range(weights.shape[1]):
                value = np.int32(x[n, i] - input_zero)
                weight = np.int32(weights[c, i] - weight_zero)
                accumulator = np.int32(accumulator + np.int32(value * weight))
            if len(steps) > 0:
                rescaled = step_count(int(accumulator), steps[c])
            else:
                rescaled = requantize_once(int(accumulator), int(multiplier[c]), int(shift[c]))
            out[n, c] = min(max(rescaled + output_zero, activation[0]), activation[1])
