"""A tensor and constants, added, subtracted, multiplied or divided: a batch-norm that a convolution can take in."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinymbn.errors import UnsupportedError
from tinymbn.importers.weights import Array
from tinymbn.quantize import BatchNorm

Arithmetic = Literal["add", "sub", "mul", "div"]


def factor_and_offset(operation: Arithmetic, constant: ArrayLike, *, first: bool) -> tuple[Array, Array]:
    """What the tensor is multiplied by, and what is added then; both of the constant's shape.

    Args:
        operation: of the two operands.
        constant: one of them.
        first: whether it is the left one.

    Raises:
        UnsupportedError: a division by the tensor, or by 0.
    """
    values: NDArray[Any] = np.asarray(constant, np.float64)
    ones, zeros = np.ones_like(values), np.zeros_like(values)
    if operation == "div" and (first or not values.all()):
        raise UnsupportedError("by a tensor, or by 0")
    with np.errstate(over="ignore"):  # what is not finite is refused by the batch-norm
        match operation:
            case "add":
                factor, offset = ones, values
            case "sub":
                factor, offset = (-ones, values) if first else (ones, -values)
            case "mul":
                factor, offset = values, zeros
            case "div":
                factor, offset = 1 / values, zeros
        return factor.astype(np.float32), offset.astype(np.float32)


def scaled(name: str, source: str, output: str, factor: Array, offset: Array) -> BatchNorm:
    """``factor * source + offset`` of each channel; both (C,)."""
    return BatchNorm(name, (source,), output, factor, offset, np.zeros_like(factor), np.ones_like(factor), 0.0)
