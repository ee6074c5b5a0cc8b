"""ADD.

Source: tensorflow/lite/kernels/internal/reference/integer_ops/add.h, with add.cc's Prepare.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import ADD_LEFT_SHIFT, requantize, to_output
from tinymbn.kernels.jit import kernel

Pair = tuple[int, int]


@kernel
def add(
    a: NDArray[np.int8],
    b: NDArray[np.int8],
    a_scaling: Pair,
    b_scaling: Pair,
    output_scaling: Pair,
    a_zero: int,
    b_zero: int,
    output_zero: int,
    activation: Pair,
    out: NDArray[np.int8],
) -> None:
    """Add ``a (N,)`` and ``b (N,)`` into ``out (N,)``; a scaling is (multiplier, shift)."""
    for i in range(out.size):
        a_scaled = requantize((a[i] - a_zero) << ADD_LEFT_SHIFT, a_scaling[0], a_scaling[1])
        b_scaled = requantize((b[i] - b_zero) << ADD_LEFT_SHIFT, b_scaling[0], b_scaling[1])
        total = requantize(a_scaled + b_scaled, output_scaling[0], output_scaling[1])
        out[i] = to_output(total, output_zero, activation[0], activation[1])
