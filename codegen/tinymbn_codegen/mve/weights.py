"""Weights as bytes: one each, or where a zero point leaves more than a byte, two whose sum they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LEAST, _GREATEST = -128, 127


def terms_of(weights: NDArray[np.int64]) -> int:
    """How many bytes each weight takes: 1 or 2."""
    return 1 if _between(weights, _LEAST, _GREATEST) else 2


def fit(weights: NDArray[np.int64]) -> bool:
    """Whether two bytes are enough."""
    return _between(weights, 2 * _LEAST, 2 * _GREATEST)


def split(weights: NDArray[np.int64], terms: int) -> NDArray[np.int8]:
    """The bytes of each weight, with the terms as the first axis."""
    first = np.clip(weights, _LEAST, _GREATEST)
    return np.stack([first, weights - first][:terms]).astype(np.int8)


def _between(weights: NDArray[np.int64], least: int, greatest: int) -> bool:
    return bool((weights >= least).all() and (weights <= greatest).all())
