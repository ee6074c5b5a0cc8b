"""Dense layers for Helium: eight channels at a time, whose sums are rounded once and one by one, as the reference's."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tinymbn.graph import Tensor
from tinymbn.layers import AnyLayer, Dense
from tinymbn_codegen.kernel_code import KernelCode, as_int32
from tinymbn_codegen.layouts import Layout
from tinymbn_codegen.mve.row import chunks_of
from tinymbn_codegen.mve.tile import EVEN, LANES
from tinymbn_codegen.mve.weights import terms_of

CHANNELS = len(EVEN)
_LEAST_INPUTS = 4  # with fewer, sixteen lanes are slower than plain C


def supports(layer: AnyLayer, input: Tensor, output: Tensor) -> bool:
    """Whether the kernel computes this layer: it rounds once, and its weights are int8 without zero point."""
    if not isinstance(layer, Dense) or layer.steps is not None or input.shape[-1] < _LEAST_INPUTS:
        return False
    return terms_of(_weights(layer)) == 1


def scratch_bytes(layer: AnyLayer, input: Tensor, output: Tensor, source: Layout) -> int:
    """RAM of its own: none."""
    return 0


def over_read(layer: AnyLayer, input: Tensor) -> int:
    """Bytes behind its input that it may read."""
    return -input.shape[-1] % LANES


def kernel(
    layer: AnyLayer, input: Tensor, output: Tensor, source: Layout, target: Layout, *, fast: bool = False
) -> KernelCode:
    """What is needed to write it, for a layer that it supports."""
    assert isinstance(layer, Dense)
    own, weights = layer.weights, _weights(layer)
    channels, inputs = weights.shape
    groups, chunks = -(-channels // CHANNELS), chunks_of(inputs)
    padded = np.zeros((groups * CHANNELS, chunks * LANES), np.int8)
    padded[:channels, :inputs] = weights
    stream = padded.reshape(groups, CHANNELS, chunks, LANES).transpose(0, 2, 1, 3)
    bias = own.bias.astype(np.int64) - input.zero_point * weights.sum(axis=1)
    numbers = {
        "ROWS": math.prod(input.shape[:-1]),
        "C_IN": inputs,
        "C_OUT": channels,
        "CHUNKS": chunks,
        "OUTPUT_ZERO": output.zero_point,
        "LOW": layer.activation.low,
        "HIGH": layer.activation.high,
    }
    return KernelCode(
        "layers/mve_dense.c.j2",
        "const int8_t *input, int8_t *output",
        numbers,
        {"even": EVEN},
        (
            ("stream", np.ascontiguousarray(stream), "(C_OUT / 8, CHUNKS, 8, 16): weights of 16 inputs of 8 channels"),
            ("bias", as_int32(bias), "(C_OUT)"),
            ("multiplier", own.multiplier.astype(np.int32), "(C_OUT)"),
            ("shift", own.shift.astype(np.int8), "(C_OUT)"),
        ),
    )


def _weights(layer: Dense) -> NDArray[np.int64]:
    values = layer.weights.values
    return values.reshape(len(values), -1).astype(np.int64) - layer.weights.zero_point
