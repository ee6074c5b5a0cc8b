"""SOFTMAX over the last axis.

Source: tensorflow/lite/kernels/internal/reference/softmax.h; the output's scale is 1/256, its zero point -128.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import (
    SOFTMAX_SUM_INTEGER_BITS,
    exp_on_negative,
    high_multiply,
    reciprocal,
    requantize,
    shift_right,
)
from tinymbn.kernels.jit import kernel


@kernel
def softmax(x: NDArray[np.int8], multiplier: int, shift: int, diff_min: int, out: NDArray[np.int8]) -> None:
    """Turn each row of ``x (N, C)`` into probabilities, ``out (N, C)``."""
    for n in range(x.shape[0]):
        largest = -128
        for c in range(x.shape[1]):
            largest = max(largest, x[n, c])
        total = 0  # Q12.19
        for c in range(x.shape[1]):
            difference = int(x[n, c]) - largest
            if difference >= diff_min:
                scaled = requantize(difference, multiplier, shift)
                total += shift_right(exp_on_negative(scaled), SOFTMAX_SUM_INTEGER_BITS)
        # total = 2**bits_over_unit * (1 + fraction), so that 1 / total = reciprocal(fraction) >> bits_over_unit.
        bits = 0
        while total >> bits != 0:
            bits += 1
        bits_over_unit = bits - (31 - SOFTMAX_SUM_INTEGER_BITS) - 1
        fraction = (total << (32 - bits)) - 2147483648
        inverse = reciprocal(fraction)
        for c in range(x.shape[1]):
            difference = int(x[n, c]) - largest
            probability = 0
            if difference >= diff_min:
                exponential = exp_on_negative(requantize(difference, multiplier, shift))
                probability = shift_right(high_multiply(inverse, exponential), bits_over_unit + 31 - 8)
            out[n, c] = min(max(probability - 128, -128), 127)
