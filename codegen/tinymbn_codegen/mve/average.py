"""The kernel for Helium that averages over all of a map: MEAN over height and width, AVERAGE_POOL over all.

Four channels are added up at a time; what becomes of their sums is done one by one, as there are few.
"""

from __future__ import annotations

from tinymbn.graph import Tensor
from tinymbn.layers import AnyLayer, AveragePool, Mean
from tinymbn_codegen.dsp import average
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout

_FOUR = 4
_LEAST_CHANNELS = 3  # with fewer, lanes stand empty that plain C does not have


def supports(layer: AnyLayer, input: Tensor, output: Tensor) -> bool:
    """Whether the kernel computes this layer: an average over all of a map (H, W, C), without padding."""
    return average.supports(layer, input, output) and input.shape[2] >= _LEAST_CHANNELS


def scratch_bytes(layer: AnyLayer, input: Tensor, output: Tensor, source: Layout) -> int:
    """RAM of its own: none."""
    return 0


def over_read(layer: AnyLayer, input: Tensor) -> int:
    """Bytes behind its input that it may read."""
    return -input.shape[2] % _FOUR


def kernel(
    layer: AnyLayer, input: Tensor, output: Tensor, source: Layout, target: Layout, *, fast: bool = False
) -> KernelCode:
    """What is needed to write it, for a layer that it supports; both maps are ``nhwc``."""
    assert isinstance(layer, AveragePool | Mean)
    height, width, channels = input.shape
    numbers = {"CHANNELS": channels, "PIXELS": height * width}
    if isinstance(layer, AveragePool):
        offset = 128 if layer.unsigned else 0
        numbers |= {"OFFSET": offset, "LOW": layer.activation.low, "HIGH": layer.activation.high}
    else:
        numbers |= {"MULTIPLIER": layer.multiplier, "SHIFT": layer.shift, "INPUT_ZERO": input.zero_point}
        numbers |= {"OUTPUT_ZERO": output.zero_point, "LOW": -128, "HIGH": 127}
    details = {"pool": isinstance(layer, AveragePool)}
    return KernelCode("layers/mve_mean.c.j2", "const int8_t *input, int8_t *output", numbers, details, ())
