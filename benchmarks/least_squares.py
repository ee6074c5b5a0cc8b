"""Least squares with coefficients that are not negative."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_TOLERANCE = 1e-10


def nonnegative_least_squares(matrix: Array, target: Array) -> Array:
    """The x >= 0 for which matrix @ x is closest to the target.

    Source: Lawson and Hanson, Solving Least Squares Problems, 1974, algorithm NNLS.
    """
    columns = matrix.shape[1]
    x = np.zeros(columns)
    passive = np.zeros(columns, bool)
    limit = _TOLERANCE * float(np.abs(matrix.T @ target).max(initial=1.0))
    for _ in range(10 * columns):
        gradient = matrix.T @ (target - matrix @ x)
        gradient[passive] = -np.inf
        if passive.all() or gradient.max() <= limit:
            break
        passive[int(gradient.argmax())] = True
        while True:
            found = np.zeros(columns)
            found[passive] = np.linalg.lstsq(matrix[:, passive], target, rcond=None)[0]
            if (found[passive] > 0).all():
                x = found
                break
            shrinking = passive & (found <= 0)
            step = float((x[shrinking] / (x[shrinking] - found[shrinking])).min())
            x += step * (found - x)
            passive &= x > _TOLERANCE * float(x.max(initial=1.0))
            x[~passive] = 0.0
    return x


def fit_relative(matrix: Array, target: Array) -> Array:
    """The x >= 0 whose relative errors, matrix @ x to the target, are the smallest in the sum of their squares."""
    scaled = matrix / target[:, None]
    sizes = np.maximum(np.linalg.norm(scaled, axis=0), np.finfo(float).tiny)
    found: Array = nonnegative_least_squares(scaled / sizes, np.ones(len(target))) / sizes
    return found
