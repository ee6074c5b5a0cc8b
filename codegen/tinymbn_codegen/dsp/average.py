"""The kernel for the DSP extension that averages whole planes: MEAN over height and width, AVERAGE_POOL over all.

``usada8`` adds the four bytes of a word to a sum. What lies beyond a row's end is zero and adds nothing.
"""

from __future__ import annotations

from tinymbn.graph import Tensor
from tinymbn.layers import AnyLayer, AveragePool, Mean, Padding
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout, plane_bytes, row_bytes

_TEMPLATE = "layers/dsp_mean.c.j2"
_PARAMETERS = "const int8_t *input, int8_t *output"
_STORED_ZERO = 128  # how stored bytes are above values
_WORD_BYTES = 4
_MOST_PIXELS = 1 << 22  # twice their sum is an int32
_FEW_WORDS = 16  # of a plane: they are added one by one; more in a loop
_LARGEST_RIGHT = 22  # by which 255 can be shifted to the left within an int32


def supports(layer: AnyLayer, input: Tensor, output: Tensor) -> bool:
    """Whether the kernel computes this layer: an average over all of a map (H, W, C), without padding."""
    if len(input.shape) != 3 or input.shape[0] * input.shape[1] >= _MOST_PIXELS:
        return False
    if isinstance(layer, Mean):
        return layer.axes == (0, 1)
    return (
        isinstance(layer, AveragePool) and layer.window.kernel == input.shape[:2] and layer.window.padding == Padding()
    )


def scratch_bytes(layer: AnyLayer, input: Tensor, output: Tensor, source: Layout) -> int:
    """RAM of its own: none."""
    return 0


def kernel(
    layer: AnyLayer, input: Tensor, output: Tensor, source: Layout, target: Layout, *, fast: bool = False
) -> KernelCode:
    """What is needed to write it, for a layer that it supports.

    Args:
        layer: the average.
        input: whose rows are planar, one after the other.
        output: what it makes.
        source: planar.
        target: nhwc.
        fast: makes no difference.
    """
    assert isinstance(layer, AveragePool | Mean)
    assert (source, target) == ("planar", "nhwc")
    height, width, channels = input.shape
    row, plane = row_bytes("planar", input.shape), plane_bytes(width)
    offsets = [y * row + i for y in range(height) for i in range(0, plane, _WORD_BYTES)]
    few = len(offsets) <= _FEW_WORDS
    numbers = {"CHANNELS": channels, "PLANE_BYTES": plane}
    if not few:
        numbers |= {"HEIGHT": height, "ROW_BYTES": row}
    numbers |= _pool_numbers(layer, height * width) if isinstance(layer, AveragePool) else {}
    numbers |= _mean_numbers(layer, height * width, input, output) if isinstance(layer, Mean) else {}
    details = {
        "kind": layer.kind,
        "saturates": "ADDEND" in numbers,
        "offsets": offsets if few else (),
    }
    return KernelCode(_TEMPLATE, _PARAMETERS, numbers, details, ())


def _pool_numbers(layer: AveragePool, count: int) -> dict[str, int]:
    offset = _STORED_ZERO if layer.unsigned else 0
    numbers = {"COUNT": count, "START": count * (offset - _STORED_ZERO), "OFFSET": offset}
    return numbers | {"LOW": layer.activation.low, "HIGH": layer.activation.high}


def _mean_numbers(layer: Mean, count: int, input: Tensor, output: Tensor) -> dict[str, int]:
    numbers = {"START": -count * (_STORED_ZERO + input.zero_point), "MULTIPLIER": layer.multiplier}
    right = -layer.shift
    if 1 <= right <= _LARGEST_RIGHT:
        # Half a step, and the zero point.
        return numbers | {"RIGHT": right, "ADDEND": (output.zero_point << right) + (1 << (right - 1))}
    return numbers | {"SHIFT": layer.shift, "OUTPUT_ZERO": output.zero_point, "LOW": -128, "HIGH": 127}
