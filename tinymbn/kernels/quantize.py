"""QUANTIZE from float32 and DEQUANTIZE to float32, and their legacy counterparts from and to uint8.

Source: tensorflow/lite/kernels/internal/reference/quantize.h, AffineQuantize, and dequantize.h.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import round_array_half_away


def quantize(x: NDArray[np.float32], scale: float, zero_point: int) -> NDArray[np.int8]:
    """The int8 of real values: ``x / scale`` rounded, ties away from zero, plus the zero point, clamped.

    The division is in float32: in float64, or times 1 / scale, ties come out differently.
    """
    with np.errstate(over="ignore"):
        quotient = x / np.float32(scale)
    # Beyond 512 steps everything is clamped; cut it off there, before infinity or an overflow.
    quotient = np.clip(quotient, np.float32(-512), np.float32(512))
    rounded = round_array_half_away(quotient).astype(np.int32)
    clamped: NDArray[np.int32] = np.clip(rounded + zero_point, -128, 127)
    return clamped.astype(np.int8)


def dequantize(x: NDArray[np.int8], scale: float, zero_point: int) -> NDArray[np.float32]:
    """The real values of int8, ``scale * (x - zero_point)``, as float32."""
    return (np.float64(scale) * (x.astype(np.int32) - zero_point)).astype(np.float32)


def from_uint8(x: NDArray[np.uint8]) -> NDArray[np.int8]:
    """``x - 128``: the same real values where the zero point moves along."""
    return (x ^ np.uint8(0x80)).view(np.int8)


def to_uint8(x: NDArray[np.int8]) -> NDArray[np.uint8]:
    """``x + 128``."""
    return x.view(np.uint8) ^ np.uint8(0x80)
