"""Convolutions of 1 x 1: pixels as TensorFlow Lite has them, multiplied where they lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymbn.graph import Tensor
from tinymbn.layers import AnyLayer, Conv2D, Window
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout
from tinymbn_codegen.mve.requantization import scaling_of
from tinymbn_codegen.mve.row import Row, has_row
from tinymbn_codegen.mve.tile import LANES


def supports(layer: AnyLayer, input: Tensor, output: Tensor) -> bool:
    """Whether there is a kernel for this layer: a convolution of 1 x 1."""
    if not isinstance(layer, Conv2D) or layer.window != Window((1, 1)):
        return False
    return has_row(layer, _weights(layer), input, output)


def scratch_bytes(layer: AnyLayer, input: Tensor, output: Tensor, source: Layout) -> int:
    """RAM of its own: none."""
    return 0


def over_read(layer: AnyLayer, input: Tensor) -> int:
    """Bytes behind its input that it may read."""
    return -input.shape[-1] % LANES


def kernel(
    layer: Conv2D, input: Tensor, output: Tensor, source: Layout, target: Layout, *, fast: bool = False
) -> KernelCode:
    """The function of a layer that reads pixels of ``nhwc`` and makes ``planes`` or ``nhwc``."""
    assert source == "nhwc"
    weights = _weights(layer)
    scaling = scaling_of(layer, weights, input, output)
    row = Row(weights, scaling, input.shape[1], weights.shape[1], output, target)
    return KernelCode(
        template="layers/mve_pointwise.c.j2",
        parameters="const int8_t *row, int8_t *output",
        numbers=row.numbers(),
        details=row.details() | {"windows": False},
        constants=row.constants(),
    )


def _weights(layer: Conv2D) -> NDArray[np.int64]:
    values = layer.weights.values
    return values.reshape(len(values), -1).astype(np.int64) - layer.weights.zero_point
