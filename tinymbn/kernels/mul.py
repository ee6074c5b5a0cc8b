"""MUL.

Source: tensorflow/lite/kernels/internal/reference/integer_ops/mul.h, with mul.cc's Prepare.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import requantize, to_output
from tinymbn.kernels.jit import kernel


@kernel
def mul(
    a: NDArray[np.int8],
    b: NDArray[np.int8],
    multiplier: int,
    shift: int,
    a_zero: int,
    b_zero: int,
    output_zero: int,
    activation: tuple[int, int],
    out: NDArray[np.int8],
) -> None:
    """Multiply ``a (N,)`` and ``b (N,)`` into ``out (N,)``."""
    for i in range(out.size):
        product = (int(a[i]) - a_zero) * (int(b[i]) - b_zero)
        rescaled = requantize(product, multiplier, shift)
        out[i] = to_output(rescaled, output_zero, activation[0], activation[1])
