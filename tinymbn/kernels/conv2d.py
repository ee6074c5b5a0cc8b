"""CONV_2D.

Source: tensorflow/lite/kernels/internal/reference/integer_ops/conv.h, ConvPerChannel; for legacy models,
where weights have a zero point, tensorflow/lite/kernels/internal/reference/conv.h.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import requantize, to_output
from tinymbn.kernels.jit import kernel

Pair = tuple[int, int]


@kernel
def conv2d(
    x: NDArray[np.int8],
    weights: NDArray[np.int8],
    bias: NDArray[np.int32],
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int8],
    stride: Pair,
    dilation: Pair,
    padding: Pair,
    input_zero: int,
    weight_zero: int,
    output_zero: int,
    activation: Pair,
    out: NDArray[np.int8],
) -> None:
    """Convolve ``x (H, W, C_in)`` with ``weights (C_out, K_h, K_w, C_in)`` into ``out (H', W', C_out)``.

    ``stride``, ``dilation`` and ``padding`` (before) are (vertical, horizontal); what lies outside ``x`` counts
    as the zero point, that is, adds nothing. The accumulator is an int32 and wraps as one.
    """
    height, width, c_in = x.shape
    c_out, kernel_h, kernel_w, _ = weights.shape
    for oy in range(out.shape[0]):
        for ox in range(out.shape[1]):
            for c in range(c_out):
                accumulator = bias[c]
                for ky in range(kernel_h):
                    iy = oy * stride[0] - padding[0] + ky * dilation[0]
                    if iy < 0 or iy >= height:
                        continue
                    for kx in range(kernel_w):
                        ix = ox * stride[1] - padding[1] + kx * dilation[1]
                        if ix < 0 or ix >= width:
                            continue
                        for i in range(c_in):
                            # Casts, because Numba would otherwise compute in 64 bits.
                            value = np.int32(x[iy, ix, i] - input_zero)
                            weight = np.int32(weights[c, ky, kx, i] - weight_zero)
                            accumulator = np.int32(accumulator + np.int32(value * weight))
                rescaled = requantize(int(accumulator), int(multiplier[c]), int(shift[c]))
                out[oy, ox, c] = to_output(rescaled, output_zero, activation[0], activation[1])
