"""What runs of a layer with a kernel for Helium, from its shapes alone: assembler by instructions, C by its loops.

The assembler is counted in the text that the kernel's template gets, so ``instructions`` are exact wherever a layer
requantizes as is ``expected`` of it. What C does around it is counted as in ``loops``, for coefficients that are
fitted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinymbn.graph import Tensor
from tinymbn.layers import AnyLayer, AveragePool, Conv2D, Depthwise, Window
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout
from tinymbn_codegen.mve.conv2d import copies_of, inside_of, pixel_bytes_of
from tinymbn_codegen.mve.dense import CHANNELS as DENSE_CHANNELS
from tinymbn_codegen.mve.depthwise import geometry_of
from tinymbn_codegen.mve.depthwise_text import all_channels
from tinymbn_codegen.mve.dilation import closed
from tinymbn_codegen.mve.requantization import expected
from tinymbn_codegen.mve.row import Row, chunks_of, is_resident
from tinymbn_codegen.mve.tile import EVEN, LANES, executed, looped, turns_of
from tinymbn_codegen.mve.weights import terms_of

_FOUR = 4
_LOOP = 2  # instructions at the end of a loop


def pointwise(layer: AnyLayer, input: Tensor, output: Tensor, target: Layout) -> dict[str, int]:
    """A convolution of 1 x 1."""
    assert isinstance(layer, Conv2D)
    row = _row(layer, input.shape[-1], input.shape[-1], output, target)
    return _times(output.shape[0], _tiles(row))


def conv2d(layer: AnyLayer, input: Tensor, output: Tensor, target: Layout) -> dict[str, int]:
    """A convolution of any window: windows are copied, whole rows of them by assembler, those in the padding by C."""
    assert isinstance(layer, Conv2D | Depthwise)
    window, (height, width, channels) = closed(layer.window), input.shape
    (kernel_h, kernel_w), outputs = window.kernel, output.shape[1]
    inputs = kernel_h * kernel_w * channels
    row = _row(layer, inputs, pixel_bytes_of(inputs), output, target)
    copies, vectors = copies_of(window, channels), chunks_of(kernel_w * channels)
    whole = sum(not missing for missing in _missing(window, height, output.shape[0])) if copies else 0
    inside, inside_end = inside_of(window, width, outputs)
    instructions = copied = 0
    for first, last in ((0, outputs),) if is_resident(inputs, row.terms) else _spans(row):
        begin = max(first, min(inside, last))
        count = max(begin, min(inside_end, last)) - begin
        instructions += executed(copies, {"1": count, "2": vectors - 1}) if count else 0
        copied += count
    windows = output.shape[0] * outputs - whole * copied
    found = _times(output.shape[0], _tiles(row))
    return found | {
        "instructions": found["instructions"] + whole * instructions,
        "edge windows": windows,
        "edge pieces": windows * kernel_h,
        "edge bytes": windows * inputs,
    }


def depthwise(layer: AnyLayer, input: Tensor, output: Tensor, target: Layout) -> dict[str, int]:
    """A depthwise convolution: for each row of outputs C prepares what lies in the padding."""
    assert isinstance(layer, Depthwise)
    rows, geometry = output.shape[0], geometry_of(layer, input, output, target)
    lines = all_channels(geometry, expected(output.zero_point, layer.activation))
    full = geometry.sizes.count(geometry.sizes[0])
    missing = sum(_missing(layer.window, input.shape[0], rows))
    return {
        "instructions": rows * executed(lines, {"1": layer.channels, "2": geometry.chunks, "3": full}),
        "kernel rows": rows * geometry.kernel[0],
        "missing rows": missing,
        "missing bytes": missing * geometry.chunks * LANES,
        "left bytes": rows * geometry.pad_left * geometry.column,
    }


def add(code: KernelCode, output: Tensor) -> dict[str, int]:
    """A sum of two maps: what it takes follows from how they are quantised, so its text is known."""
    fours, rest = divmod(output.shape[1] * output.shape[2], _FOUR)
    lines = executed(code.details["lines"], {"1": fours}) if fours else 0
    rests = "rests" if code.details["line"] else "exact rests"
    return {"instructions": output.shape[0] * lines, rests: output.shape[0] * rest}


def mean(layer: AnyLayer, input: Tensor, output: Tensor) -> dict[str, int]:
    """An average over all of a map."""
    height, width, channels = input.shape
    groups = -(-channels // _FOUR)
    averages = "averages" if isinstance(layer, AveragePool) else "outputs"
    return {"calls": 1, "instructions": groups * (2 + 5 * height * width), "groups": groups, averages: channels}


def dense(layer: AnyLayer, input: Tensor, output: Tensor) -> dict[str, int]:
    """A dense layer."""
    rows = input.elements // input.shape[-1]
    groups = rows * -(-output.shape[-1] // DENSE_CHANNELS)
    each = len(EVEN) + chunks_of(input.shape[-1]) * (1 + 2 * len(EVEN) + _LOOP) + 1
    return {"calls": 1, "pixels": rows, "instructions": groups * each, "groups": groups, "outputs": output.elements}


def _row(layer: Conv2D | Depthwise, inputs: int, pixel_bytes: int, output: Tensor, target: Layout) -> Row:
    """Of a layer whatever its weights are, but for how many bytes they take."""
    wide = terms_of(layer.weights.values.astype(np.int64) - layer.weights.zero_point) > 1
    weights = np.full((output.shape[-1], inputs), 128 if wide else 0, np.int64)
    requantization = expected(output.zero_point, layer.activation)
    return Row(weights, requantization, output.shape[1], pixel_bytes, output, target)


def _tiles(row: Row) -> dict[str, int]:
    """One row; a last channel that is alone takes a turn of its own."""
    details: dict[str, Any] = row.details()
    runs, parts = details["runs"], details["parts"]
    pairs = (row.numbers()["PAIRS"], 1)[:parts]
    if details["resident"]:
        counts = {str(i): turns_of(run.count) for i, run in enumerate(runs, start=2)}
        instructions = sum(executed(details["resident"], {"1": turns} | counts) for turns in pairs)
        return {"instructions": instructions, "parts": parts}
    loop = looped(row.chunks)
    each = sum(run.count * executed(run.lines, {"1": turns, "2": loop}) for run in runs for turns in pairs)
    tiles = sum(run.count for run in runs)
    return {"instructions": each, "tiles": tiles, "parts": parts * tiles}


def _spans(row: Row) -> list[tuple[int, int]]:
    """The first output of each tile, and that behind its last."""
    sizes = [run.size for run in row.details()["runs"] for _ in range(run.count)]
    ends = np.cumsum(sizes).tolist()
    return [(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _missing(window: Window, height: int, outputs: int) -> list[int]:
    """How many rows under the windows of each row of outputs lie in the padding."""
    at = np.arange(outputs)[:, None] * window.stride[0] - window.padding.top
    rows = at + np.arange(window.kernel[0]) * window.dilation[0]
    found: list[int] = np.count_nonzero((rows < 0) | (rows >= height), axis=1).tolist()
    return found


def _times(rows: int, counts: dict[str, int]) -> dict[str, int]:
    return {name: rows * count for name, count in counts.items()}
