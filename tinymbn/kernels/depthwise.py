"""DEPTHWISE_CONV_2D.

Source: tensorflow/lite/kernels/internal/reference/integer_ops/depthwise_conv.h, DepthwiseConvPerChannel; for
legacy models, where weights have a zero point, tensorflow/lite/kernels/internal/reference/depthwiseconv_uint8.h.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import requantize, to_output
from tinymbn.kernels.jit import kernel

Pair = tuple[int, int]


@kernel
def depthwise(
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
    """Convolve each channel of ``x (H, W, C_in)`` with ``weights (K_h, K_w, C_out)`` into ``out (H', W', C_out)``.

    Output channel c reads input channel ``c // (C_out / C_in)``. The rest is as in ``conv2d``.
    """
    height, width, c_in = x.shape
    kernel_h, kernel_w, c_out = weights.shape
    per_input = c_out // c_in
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
                        value = np.int32(x[iy, ix, c // per_input] - input_zero)
                        weight = np.int32(weights[ky, kx, c] - weight_zero)
                        accumulator = np.int32(accumulator + np.int32(value * weight))
                rescaled = requantize(int(accumulator), int(multiplier[c]), int(shift[c]))
                out[oy, ox, c] = to_output(rescaled, output_zero, activation[0], activation[1])
