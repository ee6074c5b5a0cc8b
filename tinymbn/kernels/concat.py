"""CONCATENATION.

Source: tensorflow/lite/kernels/internal/reference/concatenation.h.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def concat(inputs: Sequence[NDArray[np.int8]], axis: int, out: NDArray[np.int8]) -> None:
    """Write the inputs one after another along ``axis`` of ``out``."""
    np.concatenate(inputs, axis=axis, out=out)
