"""TRANSPOSE.

Source: tensorflow/lite/kernels/internal/reference/transpose.h.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def transpose(x: NDArray[np.int8], permutation: tuple[int, ...], out: NDArray[np.int8]) -> None:
    """Write ``x`` into ``out``, whose axis i is axis ``permutation[i]`` of x."""
    out[...] = x.transpose(permutation)
