"""RESIZE_NEAREST_NEIGHBOR.

Source: tensorflow/lite/kernels/internal/reference/resize_nearest_neighbor.h; the importer decides the indices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def resize_nearest(
    x: NDArray[np.int8], rows: NDArray[np.int32], columns: NDArray[np.int32], out: NDArray[np.int8]
) -> None:
    """Write ``x[rows[y], columns[x]]`` of ``x (H, W, C)`` into ``out (len(rows), len(columns), C)``."""
    out[...] = x[rows[:, None], columns[None, :]]
