"""Weights as files of other tools have them: their values checked, their axes put as tinymbn's layers have them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError

Array = NDArray[np.float32]


def finite(values: NDArray[Any], name: str) -> Array:
    """The values as float32.

    Raises:
        ModelError: one of them is no finite number; the text names the tensor.
    """
    with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite then
        real = np.asarray(values, np.float32)
    if not np.isfinite(real).all():
        raise ModelError(f'tensor "{name}" has values that are not finite numbers')
    return real


def conv2d_weights(values: NDArray[Any]) -> NDArray[Any]:
    """A convolution's weights (C_out, C_in, K_h, K_w) as (C_out, K_h, K_w, C_in)."""
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1))


def depthwise_weights(values: NDArray[Any]) -> NDArray[Any]:
    """A depthwise convolution's weights (C_out, 1, K_h, K_w) as (K_h, K_w, C_out)."""
    return np.ascontiguousarray(values[:, 0].transpose(1, 2, 0))
