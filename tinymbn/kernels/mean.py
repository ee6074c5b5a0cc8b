"""MEAN.

Source: tensorflow/lite/kernels/internal/reference/reduce.h, QuantizedMeanOrSum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import requantize, to_output, wrap_int32
from tinymbn.kernels.jit import kernel


@kernel
def mean(
    x: NDArray[np.int8],
    multiplier: int,
    shift: int,
    input_zero: int,
    output_zero: int,
    out: NDArray[np.int8],
) -> None:
    """Average ``x (kept, reduced)`` over its second axis into ``out (kept,)``; the multiplier divides."""
    for k in range(x.shape[0]):
        total = 0
        for r in range(x.shape[1]):
            total += x[k, r]
        centred = wrap_int32(total - input_zero * x.shape[1])
        out[k] = to_output(requantize(centred, multiplier, shift), output_zero, -128, 127)
