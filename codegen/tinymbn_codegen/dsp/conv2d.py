"""Convolutions of any window, from bytes as TensorFlow Lite has them: the first layers of networks above all.

A call puts its input rows into columns of int16, padding included: all rows of a column, all channels of each. So each
pixel's window is one piece, and what follows is that of a pointwise convolution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymbn.graph import Tensor
from tinymbn.layers import AnyLayer, Conv2D, Depthwise
from tinymbn_codegen.dsp.row import Row, runs_of
from tinymbn_codegen.dsp.stream import make_stream, sums_of
from tinymbn_codegen.dsp.tile import Geometry
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout, groups

_STORED_ZERO = 128  # of a value in planes
# With fewer words in reach of a pointer fewer pixels are faster.
_LEAST_REACH = 16


def supports(layer: AnyLayer, input: Tensor, output: Tensor) -> bool:
    """Whether there is a kernel for this layer."""
    if not isinstance(layer, Conv2D | Depthwise):
        return False
    window = layer.window
    dense = all(dilation == 1 or size == 1 for size, dilation in zip(window.kernel, window.dilation, strict=True))
    return dense and (isinstance(layer, Conv2D) or input.shape[2] == 1)


def scratch_bytes(layer: Conv2D | Depthwise, input: Tensor, output: Tensor, source: Layout) -> int:
    """What a call needs beside input and output: the columns."""
    kernel_h, kernel_w = layer.window.kernel
    halfwords = _columns(layer, output) * kernel_h * input.shape[2]
    # A window is read in words.
    halfwords += kernel_h * kernel_w * input.shape[2] % 2
    return -(-halfwords // 2) * 4


def kernel(
    layer: Conv2D | Depthwise, input: Tensor, output: Tensor, source: Layout, target: Layout, *, fast: bool = False
) -> KernelCode:
    """The function of a layer that reads rows of ``nhwc`` and makes one of ``planar`` or ``nhwc``."""
    assert source == "nhwc"
    kernel_h, channels, stride = layer.window.kernel[0], input.shape[2], layer.window.stride[1]
    weights = _windows(layer) - layer.weights.zero_point
    halfwords = weights.shape[1]
    weights = np.pad(weights, ((0, 0), (0, halfwords % 2)))
    stream = make_stream(
        sums_of(
            weights[:, ::2],
            weights[:, 1::2],
            layer.weights,
            inputs=(-128, 127),
            input_zero=input.zero_point,
            zero_point=output.zero_point,
            activation=layer.activation,
            stored_zero=_STORED_ZERO if target == "planar" else 0,
        ),
        fast=False,
    )
    words, pixel_bytes = weights.shape[1] // 2, 2 * stride * kernel_h * channels
    row = Row(stream, output, target, layer.activation)
    details = row.details(
        runs_of(_sizes(output.shape[1], words, pixel_bytes), target),
        lambda size: Geometry(size, words, pixel_bytes, 4, stream.wide),
        lambda size: size * pixel_bytes,
    )
    columns, left = _columns(layer, output), layer.window.padding.left
    inside = min(input.shape[1], columns - left)
    numbers = {"KERNEL_H": kernel_h, "C_IN": channels, "INPUT_ZERO": input.zero_point}
    numbers |= {"COLUMNS": columns, "PAD_LEFT": left, "INSIDE": inside, "PAD_RIGHT": columns - left - inside}
    numbers |= {"COLUMN": kernel_h * channels, "WORDS": words, "NEXT_PIXEL": pixel_bytes}
    return KernelCode(
        template="layers/dsp_conv2d.c.j2",
        parameters=f"const int8_t *const rows[{kernel_h}], int8_t *scratch, int8_t *output",
        numbers=numbers | row.numbers(),
        details=details | {"left": left > 0, "right": columns > left + inside},
        constants=(("stream", stream.values, "(C_OUT_PAIRS, STREAM_WORDS)"),),
    )


def _columns(layer: Conv2D | Depthwise, output: Tensor) -> int:
    """Columns that some window covers, padding included."""
    return (output.shape[1] - 1) * layer.window.stride[1] + layer.window.kernel[1]


def _windows(layer: Conv2D | Depthwise) -> NDArray[np.int64]:
    """The weights as a window lies: (C_out, KERNEL_W * KERNEL_H * C_in)."""
    values = layer.weights.values.astype(np.int64)
    if isinstance(layer, Depthwise):
        values = values.transpose(2, 0, 1)[..., None]
    return values.transpose(0, 2, 1, 3).reshape(len(values), -1)


def _sizes(width: int, words: int, pixel_bytes: int) -> tuple[int, ...]:
    """Of the tiles of a row: as in pairs, unless pixels are too far apart."""
    most = next(
        size
        for size in (4, 3, 2, 1)
        if size == 1 or Geometry(size, words, pixel_bytes, 4, wide=False).reach >= min(words, _LEAST_REACH)
    )
    if most >= max(groups(width)):
        return groups(width)
    rest = (width % most,) if width % most else ()
    return (most,) * (width // most) + rest
