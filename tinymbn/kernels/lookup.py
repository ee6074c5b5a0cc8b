"""LOGISTIC, HARD_SWISH and other functions of one int8, as tables.

Source: tensorflow/lite/kernels/internal/reference/integer_ops/lut.h; ``fixedpoint`` makes the tables.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def lookup(x: NDArray[np.int8], table: NDArray[np.int8], out: NDArray[np.int8]) -> None:
    """Write ``table[x + 128]`` into ``out``; x and out of any one shape, table (256,)."""
    np.take(table, x.astype(np.int16) + 128, out=out)
