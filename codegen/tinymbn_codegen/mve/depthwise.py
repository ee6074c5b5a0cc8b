"""The depthwise kernel for Helium: what it takes, its constants, and what its template is told."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymbn.graph import Tensor
from tinymbn.layers import AnyLayer, Depthwise
from tinymbn_codegen.kernel_code import KernelCode, as_int32
from tinymbn_codegen.layouts import Layout
from tinymbn_codegen.mve.depthwise_text import Geometry, all_channels
from tinymbn_codegen.mve.dilation import closed, spread
from tinymbn_codegen.mve.requantization import can_be_scaled, scaling_of
from tinymbn_codegen.mve.row import FORMS
from tinymbn_codegen.mve.tile import LANES
from tinymbn_codegen.mve.weights import fit, split, terms_of

_MOST_ROWS = 16  # of a window: what is scattered goes to places of a byte
_MOST_BYTES = 128  # of a window
_MOST_LEFT = 31  # columns of padding, which loads reach back for
_MOST_PLACE = 0xFFFF


def supports(layer: AnyLayer, input: Tensor, output: Tensor) -> bool:
    """Whether the kernel computes this layer: as many outputs as inputs."""
    if not isinstance(layer, Depthwise):
        return False
    window = layer.window
    height, width = closed(window).kernel
    if (
        layer.channels != input.shape[2]
        or height > _MOST_ROWS
        or height * width > _MOST_BYTES
        or window.padding.left * height > _MOST_LEFT
        or 8 * layer.channels > _MOST_PLACE
    ):
        return False
    weights = _weights(layer)
    return fit(weights) and can_be_scaled(layer, weights.reshape(len(weights), -1), input, output)


def scratch_bytes(layer: AnyLayer, input: Tensor, output: Tensor, source: Layout) -> int:
    """What a call needs beside input and output: columns, and a row of the input's zero point."""
    assert isinstance(layer, Depthwise)
    geometry = geometry_of(layer, input, output, "nhwc")
    return -(-geometry.column_bytes // 4) * 4 + LANES * geometry.chunks


def over_read(layer: AnyLayer, input: Tensor) -> int:
    """Bytes behind its input that it may read."""
    return -input.shape[1] % LANES


def kernel(
    layer: AnyLayer, input: Tensor, output: Tensor, source: Layout, target: Layout, *, fast: bool = False
) -> KernelCode:
    """The function of a layer that reads rows of ``planes`` and makes ``planes`` or ``nhwc``."""
    assert isinstance(layer, Depthwise)
    assert source == "planes"
    geometry = geometry_of(layer, input, output, target)
    weights = _weights(layer)
    scaling = scaling_of(layer, weights.reshape(len(weights), -1), input, output)
    columns = np.zeros((layer.channels, geometry.kernel[1], geometry.column), np.int64)
    columns[:, :, : geometry.kernel[0]] = weights.transpose(0, 2, 1)
    record = np.zeros((geometry.terms, layer.channels, geometry.term_bytes), np.int8)
    bytes_of = split(columns, geometry.terms).reshape(geometry.terms, layer.channels, -1)
    record[:, :, geometry.before : geometry.before + columns[0].size] = bytes_of
    words = np.ascontiguousarray(record.transpose(1, 0, 2)).reshape(layer.channels, -1).view("<i4")
    stream = np.concatenate([as_int32(scaling.parameters), words.astype(np.int32)], axis=1)
    sizes = geometry.sizes
    places = [np.array(geometry.lanes(size), np.uint16) for size in dict.fromkeys(sizes)]
    if not geometry.by_vst4:
        places.append((np.arange(LANES) * geometry.column).astype(np.uint8).view(np.uint16))
    numbers = {
        "KERNEL_H": geometry.kernel[0],
        "KERNEL_W": geometry.kernel[1],
        "STRIDE_W": geometry.stride,
        "PAD_LEFT": geometry.pad_left,
        "WIDTH": geometry.width,
        "OUTPUTS": geometry.outputs,
        "CHANNELS": layer.channels,
        "COLUMN": geometry.column,
        "CHUNKS": geometry.chunks,
        "BEFORE": 4 * scaling.words + geometry.before,
        "TERMS": geometry.terms,
        "TERM_BYTES": geometry.term_bytes,
        "WORDS": stream.shape[1],
        "NEXT_PIXEL": geometry.next_pixel,
        "NEXT_CHANNEL": geometry.next_channel,
        "ZEROS": -(-geometry.column_bytes // 4) * 4,
        "INPUT_ZERO": input.zero_point,
        "OUTPUT_ZERO": output.zero_point,
        "LOW": layer.activation.low,
        "HIGH": layer.activation.high,
        "FORM": FORMS[scaling.form],
        "FULL": sizes.count(sizes[0]) * sizes[0] * geometry.stride * geometry.column,
    }
    rows = range(geometry.kernel[0])
    results: list[str] = []
    operands = ['[rows] "r"(sources)']
    if geometry.by_vst4:
        results = [f'[row{k}] "+r"(row{k})' for k in rows]
        results += ['[steps01] "+m"(steps01)', '[step2_end] "+m"(step2_end)']
        operands = []
    return KernelCode(
        template="layers/mve_depthwise.c.j2",
        parameters=f"const int8_t *const rows[{geometry.kernel[0]}], int8_t *scratch, int8_t *output",
        numbers=numbers,
        details={
            "lines": all_channels(geometry, scaling),
            "by_vst4": geometry.by_vst4,
            "rows": rows,
            "results": (
                *results,
                *('[stream] "+r"(constants)', '[output] "+r"(out)', '[columns] "+r"(columns)'),
                # As if they were written: a constant would have an address that takes a register.
                *('[lanes] "+m"(places)', '[limit] "+m"(limit)'),
                *(() if geometry.by_vst4 else ('[end] "+m"(end)',)),
            ),
            "operands": operands,
        },
        constants=(
            ("stream", np.ascontiguousarray(stream), "(CHANNELS, WORDS): parameters, weights by columns"),
            ("lanes", np.stack(places).view(np.int16), "(n, 8): where the bytes of a tile go"),
        ),
    )


def _weights(layer: Depthwise) -> NDArray[np.int64]:
    """Without their zero point, (C, height, width), of the closed window."""
    values = layer.weights.values.astype(np.int64).transpose(2, 0, 1) - layer.weights.zero_point
    return spread(values, 2, layer.window)


def geometry_of(layer: Depthwise, input: Tensor, output: Tensor, target: Layout) -> Geometry:
    """Of a layer, whatever its weights are."""
    planes = target == "planes"
    window, outputs = closed(layer.window), output.shape[1]
    return Geometry(
        kernel=window.kernel,
        stride=window.stride[1],
        width=input.shape[1],
        outputs=outputs,
        pad_left=window.padding.left,
        next_pixel=1 if planes else layer.channels,
        next_channel=outputs if planes else 1,
        input_zero=input.zero_point,
        terms=terms_of(_weights(layer)),
    )
