"""Convolutions of any window, from bytes as TensorFlow Lite has them: the first layers of networks above all.

Windows are copied so that each lies in one piece, row by row of it; what follows is that of a convolution of 1 x 1.
Where weights stay in their vectors all windows of a row of outputs are copied at once, elsewhere those of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tinymbn.graph import Tensor
from tinymbn.layers import AnyLayer, Conv2D, Depthwise, Window
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout
from tinymbn_codegen.mve.dilation import closed, spread
from tinymbn_codegen.mve.requantization import scaling_of
from tinymbn_codegen.mve.row import Row, chunks_of, has_row, is_resident
from tinymbn_codegen.mve.tile import LANES, add, sizes_of
from tinymbn_codegen.mve.weights import terms_of

_MOST_MOVE = 127  # of a pointer, with a load or store
_MOST_ROWS = 7  # whose pointers have registers
_UNROLLED = 5  # vectors of a piece


def supports(layer: AnyLayer, input: Tensor, output: Tensor) -> bool:
    """Whether there is a kernel for this layer."""
    if not isinstance(layer, Conv2D | Depthwise):
        return False
    if isinstance(layer, Depthwise) and input.shape[2] != 1:
        return False
    return has_row(layer, _weights(layer), input, output)


def scratch_bytes(layer: AnyLayer, input: Tensor, output: Tensor, source: Layout) -> int:
    """What a call needs beside input and output: windows, and what is copied and loaded behind the last."""
    assert isinstance(layer, Conv2D | Depthwise)
    weights, width = _weights(layer), output.shape[1]
    inputs, terms = weights.shape[1], terms_of(weights)
    together = width if is_resident(inputs, terms) else max(sizes_of(width, chunks_of(inputs), terms))
    return together * pixel_bytes_of(inputs) + LANES


def over_read(layer: AnyLayer, input: Tensor) -> int:
    """Bytes behind its input that it may read."""
    assert isinstance(layer, Conv2D | Depthwise)
    return -(layer.window.extent[1] * input.shape[2]) % LANES


def kernel(
    layer: Conv2D | Depthwise, input: Tensor, output: Tensor, source: Layout, target: Layout, *, fast: bool = False
) -> KernelCode:
    """The function of a layer that reads rows of ``nhwc`` and makes ``planes`` or ``nhwc``."""
    assert source == "nhwc"
    weights, window = _weights(layer), closed(layer.window)
    scaling = scaling_of(layer, weights, input, output)
    (kernel_h, kernel_w), (_, width, channels) = window.kernel, input.shape
    inputs = weights.shape[1]
    row = Row(weights, scaling, output.shape[1], pixel_bytes_of(inputs), output, target)
    piece, step = kernel_w * channels, window.stride[1] * channels
    begin, end = inside_of(window, width, output.shape[1])
    numbers = {
        "KERNEL_H": kernel_h,
        "PIECE": piece,
        "STEP": step,
        "LEFT": window.padding.left * channels,
        "ROW_BYTES": width * channels,
        "INPUT_ZERO": input.zero_point,
        "INSIDE": begin,
        "INSIDE_END": end,
    }
    stays = is_resident(inputs, row.terms)
    if not stays:
        numbers["TOGETHER"] = max(sizes_of(output.shape[1], row.chunks, row.terms))
    rows = range(kernel_h)
    return KernelCode(
        template="layers/mve_conv2d.c.j2",
        parameters=f"const int8_t *const rows[{kernel_h}], int8_t *scratch, int8_t *output",
        numbers=numbers | row.numbers(),
        details=row.details()
        | {
            "copies": copies_of(window, channels),
            "results": (*(f'[row{k}] "+r"(row{k})' for k in rows), '[to] "+r"(to)', '[count] "+r"(count)'),
            "rows": rows,
            "windows": not stays,
        },
        constants=row.constants(),
    )


def inside_of(window: Window, width: int, outputs: int) -> tuple[int, int]:
    """The outputs of a row, first and behind the last, whose windows have no padding at their sides."""
    left, stride = window.padding.left, window.stride[1]
    begin = min(-(-left // stride), outputs)
    return begin, max(begin, min((width + left - window.kernel[1]) // stride + 1, outputs))


def copies_of(window: Window, channels: int) -> tuple[str, ...]:
    """The instructions that copy windows one after the other; none where there are too many rows.

    Operands: row0, ..., to, count.
    """
    if window.kernel[0] > _MOST_ROWS:
        return ()
    piece = window.kernel[1] * channels
    pixel_bytes = pixel_bytes_of(window.kernel[0] * piece)
    return tuple(_copies(window.kernel[0], piece, window.stride[1] * channels, pixel_bytes))


def _copies(kernel_h: int, piece: int, step: int, pixel_bytes: int) -> Iterator[str]:
    """Sixteen bytes at a time.

    What is copied beyond a piece is overwritten by the next one.
    """
    vectors = -(-piece // LANES)
    many = vectors > _UNROLLED
    yield "1:"
    for k in range(kernel_h):
        row, place = f"%[row{k}]", "%[to]"
        if many:
            yield f"mov r12, #{vectors - 1}"
            yield "2:"
        for _ in range(1 if many else vectors - 1):
            yield f"vldrb.8 q0, [{row}], #{LANES}"
            yield f"vstrb.8 q0, [{place}], #{LANES}"
        if many:
            yield "subs r12, r12, #1"
            yield "bne 2b"
        moved = LANES * (vectors - 1)
        next_piece = piece if k + 1 < kernel_h else pixel_bytes - (kernel_h - 1) * piece
        yield from _last(f"vldrb.8 q0, [{row}]", row, step - moved)
        yield from _last(f"vstrb.8 q0, [{place}]", place, next_piece - moved)
    yield "subs %[count], %[count], #1"
    yield "bne 1b"


def _last(access: str, pointer: str, move: int) -> Iterator[str]:
    """A load or store, after which the pointer is moved."""
    if move and abs(move) <= _MOST_MOVE:
        yield f"{access}, #{move}"
    else:
        yield access
        yield from add(pointer, move, "r12")


def pixel_bytes_of(inputs: int) -> int:
    """From one window to the next: at words."""
    return -(-inputs // 4) * 4


def _weights(layer: Conv2D | Depthwise) -> NDArray[np.int64]:
    """Without their zero point, as a closed window lies, (C_out, KERNEL_H * KERNEL_W * C_in)."""
    values = layer.weights.values.astype(np.int64) - layer.weights.zero_point
    if isinstance(layer, Depthwise):
        values = values.transpose(2, 0, 1)
    return spread(values, 2, layer.window).reshape(len(values), -1)
