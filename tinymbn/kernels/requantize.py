"""QUANTIZE from int8 to int8, and RELU, RELU6 and RELU_N1_TO_1 on their own.

Source: tensorflow/lite/kernels/internal/reference/requantize.h; tensorflow/lite/kernels/activations.cc,
QuantizedReluX.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymbn import fixedpoint
from tinymbn.kernels.jit import kernel


@kernel
def requantize(
    x: NDArray[np.int8],
    multiplier: int,
    shift: int,
    input_zero: int,
    output_zero: int,
    activation: tuple[int, int],
    out: NDArray[np.int8],
) -> None:
    """Rescale ``x (N,)`` into ``out (N,)``."""
    for i in range(out.size):
        rescaled = fixedpoint.requantize(int(x[i]) - input_zero, multiplier, shift)
        out[i] = fixedpoint.to_output(rescaled, output_zero, activation[0], activation[1])
