"""The depthwise 3x3 kernel for the DSP extension: what it takes, its constants, and what its template is told."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.graph import Tensor
from tinymbn.layers import AnyLayer, Depthwise
from tinymbn_codegen.dsp.depthwise_block import Geometry
from tinymbn_codegen.dsp.depthwise_row import row_details
from tinymbn_codegen.dsp.depthwise_text import Short
from tinymbn_codegen.dsp.requantization import accumulator_range, largest_left, short_scaling
from tinymbn_codegen.dsp.short_form import Reference, ShortScaling
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout, pairs_of, plane_bytes, row_bytes

_TEMPLATE = "layers/dsp_depthwise.c.j2"
_PARAMETERS = "const int8_t *slots, const int8_t *const rows[3], int8_t *output"
_INPUT_ZERO = -128  # so that planes have 0 where the map has its zero point, and in the padding


def supports(layer: AnyLayer, input: Tensor, output: Tensor) -> bool:
    """Whether the kernel computes this layer: 3x3, stride 1 or 2, as many outputs as inputs, inputs from zero up."""
    if not isinstance(layer, Depthwise):
        return False
    window = layer.window
    return (
        window.kernel == (3, 3)
        and window.stride in ((1, 1), (2, 2))
        and window.dilation == (1, 1)
        and window.padding.left <= 1
        and layer.channels == input.shape[2]
        and input.zero_point == _INPUT_ZERO
    )


def scratch_bytes(layer: AnyLayer, input: Tensor, output: Tensor, source: Layout) -> int:
    """RAM of its own: none."""
    return 0


def kernel(
    layer: AnyLayer, input: Tensor, output: Tensor, source: Layout, target: Layout, *, fast: bool = False
) -> KernelCode:
    """What is needed to write it, for a layer that it supports.

    Args:
        layer: a depthwise layer.
        input: whose rows are planar.
        output: what it makes.
        source: planar.
        target: any layout.
        fast: makes no difference.
    """
    assert isinstance(layer, Depthwise)
    assert source == "planar"
    slot_bytes = row_bytes("planar", input.shape)
    window = layer.window
    geometry = Geometry(input.shape[1], output.shape[1], window.stride[1], window.padding.left, slot_bytes)
    weights = (layer.weights.values.astype(np.int64) - layer.weights.zero_point).reshape(9, -1).T
    scaling = _scaling(layer, weights, output.zero_point)
    numbers = {
        "SLOT_BYTES": slot_bytes,
        "PLANE_BYTES": plane_bytes(input.shape[1]),
        "CHANNELS": layer.channels,
        "PART": pairs_of(layer.channels) if target == "pairs" else layer.channels,
    }
    if scaling is None:
        numbers |= {"OUTPUT_ZERO": output.zero_point, "LOW": layer.activation.low, "HIGH": layer.activation.high}
    short = None if scaling is None else Short(scaling.shift, not scaling.plain)
    names = _names(scaling)
    constants = _constants(layer, weights, scaling, target)
    numbers["WORDS"] = constants.shape[1]
    axes = f"(CHANNELS, WORDS): {', '.join(names)}, weights 0 and 1, 1 and 2 of each row"
    return KernelCode(
        template=_TEMPLATE,
        parameters=_PARAMETERS,
        numbers=numbers,
        details=row_details(geometry, output.shape, target, short, names),
        constants=(("constants", constants, axes),),
    )


def _scaling(layer: Depthwise, weights: NDArray[np.int64], zero_point: int) -> ShortScaling | None:
    """The short requantisation, if it is proven."""
    own = layer.weights
    least, greatest = accumulator_range(weights, own.bias, 0, 255)
    reference = Reference(own.multiplier, own.shift, zero_point, layer.activation, least, greatest)
    return short_scaling(reference, 0, most_left=largest_left(weights), allow_delta=True, allow_displacement=True)


def _names(scaling: ShortScaling | None) -> tuple[str, ...]:
    """Of a channel's constants before its weights."""
    if scaling is None:
        return "bias", "multiplier", "shift"
    return ("bias", "multiplier", "addend") + (() if scaling.plain else ("displacement",))


def _constants(
    layer: Depthwise, weights: NDArray[np.int64], scaling: ShortScaling | None, target: Layout
) -> NDArray[np.int32]:
    """What each channel is computed with, int32 (C, WORDS)."""
    own = layer.weights
    bias = own.bias.astype(np.int64)
    if scaling is None:
        columns: list[NDArray[Any]] = [bias, own.multiplier, own.shift]
    else:
        left = scaling.left.astype(np.int64)
        weights = weights << left[:, None]
        bias = (bias << left) + scaling.delta
        columns = [bias, scaling.multiplier, scaling.signed_addend if target == "nhwc" else scaling.addend]
        if not scaling.plain:
            columns.append(scaling.displacement)
    halves = weights.reshape(-1, 3, 3) & 0xFFFF
    pairs = halves[:, :, :2] | halves[:, :, 1:] << 16
    made = np.concatenate([np.stack(columns, axis=1).astype(np.int64), pairs.reshape(len(bias), 6)], axis=1)
    return np.ascontiguousarray(made.astype(np.uint32).view(np.int32))
