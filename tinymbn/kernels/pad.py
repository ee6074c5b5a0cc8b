"""PAD and PADV2.

Source: tensorflow/lite/kernels/internal/reference/pad.h.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pad(x: NDArray[np.int8], before: tuple[int, ...], value: int, out: NDArray[np.int8]) -> None:
    """Put ``x`` into ``out`` at ``before``, one offset an axis, and ``value`` around it."""
    out[...] = value
    out[tuple(slice(b, b + size) for b, size in zip(before, x.shape, strict=True))] = x
