"""Convolutions of 1 x 1, from pairs of channels to planes, or to bytes as TensorFlow Lite has them.

The input is multiplied as it lies in pairs; rows in another layout are put into pairs first.
"""

from __future__ import annotations

import numpy as np

from tinymbn.graph import Tensor
from tinymbn.layers import AnyLayer, Conv2D, Window
from tinymbn_codegen.dsp.row import Row, runs_of
from tinymbn_codegen.dsp.stream import make_stream, sums_of
from tinymbn_codegen.dsp.tile import Geometry
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout, groups, pairs_of, plane_bytes, row_bytes

_STORED_ZERO = 128  # of a value in pairs and planes


def supports(layer: AnyLayer, input: Tensor, output: Tensor) -> bool:
    """Whether there is a kernel for this layer."""
    return isinstance(layer, Conv2D) and layer.window == Window((1, 1))


def scratch_bytes(layer: AnyLayer, input: Tensor, output: Tensor, source: Layout) -> int:
    """What a call needs beside input and output: the input row in pairs, where it comes otherwise."""
    return 0 if source == "pairs" else row_bytes("pairs", input.shape)


def kernel(
    layer: Conv2D, input: Tensor, output: Tensor, source: Layout, target: Layout, *, fast: bool = False
) -> KernelCode:
    """The function of a layer that reads rows in one layout and makes them in another, ``planar`` or ``nhwc``.

    ``fast``: even where its weights take twice the flash for it.
    """
    _, width, channels = input.shape
    pairs, sizes = pairs_of(channels), groups(width)
    weights = layer.weights.values.reshape(-1, channels).astype(np.int64) - layer.weights.zero_point
    stream = make_stream(
        sums_of(
            weights[:, :pairs],
            # There is no channel above the last one of an odd number.
            np.pad(weights[:, pairs:], ((0, 0), (0, 2 * pairs - channels))),
            layer.weights,
            inputs=(0, 255),
            input_zero=input.zero_point + _STORED_ZERO,
            zero_point=output.zero_point,
            activation=layer.activation,
            stored_zero=_STORED_ZERO if target == "planar" else 0,
        ),
        fast=fast,
    )
    row = Row(stream, output, target, layer.activation)
    details = row.details(
        runs_of(sizes, target),
        lambda size: Geometry(size, pairs, 4, 4 * size, stream.wide),
        lambda size: 4 * size * pairs,
    )
    parameters = "const int8_t *row, " + ("" if source == "pairs" else "int8_t *scratch, ") + "int8_t *output"
    numbers = {"WIDTH": width, "C_IN": channels, "WORDS": pairs, "NEXT_PIXEL": 4}
    if source != "pairs":
        numbers |= {"FOURS_END": 4 * sizes.count(4), "REST": sizes[-1]}
    if source == "planar":
        numbers["IN_PLANE"] = plane_bytes(width)
    return KernelCode(
        template="layers/dsp_pointwise.c.j2",
        parameters=parameters,
        numbers=numbers | row.numbers(),
        details=details | {"source": source, "fours": sizes[0] == 4, "rest": sizes[-1] != 4},
        constants=(("stream", stream.values, "(C_OUT_PAIRS, STREAM_WORDS)"),),
    )
