"""How often the loops of each kernel turn, from the shapes of a layer alone: what its instructions are counted by.

The numbers of a layer follow its template, ``firmware_templates/layers/<kernel>.c.j2``. The estimate multiplies each
with a coefficient that was fitted to measured counts, see ``estimate``. Values of weights never matter. Kernels for
Helium are mostly assembler that the generator writes: its instructions are counted, see ``mve.counts``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from tinymbn.graph import Tensor
from tinymbn.layers import Add, AnyLayer, Concat, Conv2D, Dense, Depthwise, Mean, Mul, Pad, Requantize
from tinymbn.layers.windowed import Windowed
from tinymbn_codegen.layouts import Layout, groups, pairs_of
from tinymbn_codegen.mve import counts as mve
from tinymbn_codegen.plan import Place, Step

CoreClass = Literal["armv6m", "armv7m", "dsp", "helium"]
"""Cores that run the same instructions."""

Turns = dict[str, int]

_UNROLLED = 4  # turns from which loops stay loops
_WORD_SIZES = (1, 2, 4)  # bytes
_SIDE_BY_SIDE = 4  # output channels of a scalar kernel's inner loop
_PACKED_WORDS = 8  # words of a pixel beyond which the weights of two channels share a word
_CODE_BLOCKS = 3  # of a scalar depthwise row: its two ends, and what lies between
_REACH = 4091  # bytes from a pointer to a word that a load reaches, and four more
_LEAST_REACH = 16  # words of each pixel of a tile; where fewer are reached, tiles are smaller
_SLOTS = 3  # rows under a depthwise window of the DSP kernel
_CLASSES: Mapping[str, CoreClass] = {
    "cortex-m0": "armv6m",
    "cortex-m0plus": "armv6m",
    "cortex-m3": "armv7m",
    "cortex-m4": "dsp",
    "cortex-m7": "dsp",
    "cortex-m33": "dsp",
    "cortex-m55": "helium",
    "cortex-m85": "helium",
}


def core_class(core: str) -> CoreClass | None:
    """Which cores a core is counted with; None for one that is none of Arm's."""
    return _CLASSES.get(core)


def turns(step: Step, core: CoreClass) -> Turns:
    """How often everything happens that a layer is made of; nothing where its bytes are in their place already."""
    if step.kernel is None:
        return {}
    found = COUNTED[step.kernel.name](step, core)
    if step.kernel.rows:
        found |= _rows(step)
    return {name: count for name, count in found.items() if count}


def _rows(step: Step) -> Turns:
    """What the schedule does for each call of a row kernel: pointers to the rows under its window."""
    layer = step.layer
    pointers = step.output.rows * (layer.window.kernel[0] if isinstance(layer, Windowed) else 0)
    return {"calls": step.output.rows, "rings" if step.inputs[0].streams else "rows": pointers}


def _valid(size: int, outputs: int, kernel: int, stride: int, dilation: int, before: int) -> int:
    """Pairs of an output and a tap along one axis where the tap does not lie in the padding."""
    at = np.arange(outputs)[:, None] * stride - before + np.arange(kernel) * dilation
    return int(np.count_nonzero((at >= 0) & (at < size)))


class _Windowed:
    """The sizes of a layer with a window."""

    def __init__(self, step: Step) -> None:
        assert isinstance(step.layer, Windowed)
        self.window = w = step.layer.window
        self.height, self.width, self.c_in = step.inputs[0].tensor.shape
        self.out_h, self.out_w, self.c_out = step.output.tensor.shape
        self.taps = math.prod(w.kernel)
        self.pixels = self.out_h * self.out_w
        self.outputs = self.pixels * self.c_out
        self.valid_rows = _valid(self.height, self.out_h, w.kernel[0], w.stride[0], w.dilation[0], w.padding.top)
        self.valid_columns = _valid(self.width, self.out_w, w.kernel[1], w.stride[1], w.dilation[1], w.padding.left)
        self.valid = self.valid_rows * self.valid_columns  # taps of all pixels

    def by_width(self, counts: Turns) -> Turns:
        """The same under names with the width of the window: compilers unroll loops of few turns."""
        width = self.window.kernel[1]
        text = f"{width} wide" if width < _UNROLLED else "wide"
        if self.valid_columns == self.out_w * width:
            text += " inside"  # of the map: nothing is left of the comparisons with its edges
        return {f"{name}, {text}": count for name, count in counts.items()}


def _weight_zero(step: Step) -> bool:
    assert isinstance(step.layer, Conv2D | Depthwise | Dense)
    return step.layer.weights.zero_point != 0


def _conv2d(step: Step, core: CoreClass) -> Turns:
    s = _Windowed(step)
    taps, loops = s.c_out * s.valid, s.c_in > 1
    found = {
        "outputs": s.outputs,
        "tested taps": s.outputs * s.taps,
        "taps": taps * loops,
        "single taps": taps * (not loops),  # a loop of one turn is none
    }
    macs = taps * s.c_in * loops
    return s.by_width(found) | {"pixels": s.pixels, "macs": macs, "offset macs": macs * _weight_zero(step)}


def _depthwise(step: Step, core: CoreClass) -> Turns:
    s = _Windowed(step)
    macs = s.c_out * s.valid
    found = {"outputs": s.outputs, "tested taps": s.outputs * s.taps, "macs": macs}
    return s.by_width(found) | {"pixels": s.pixels, "offset macs": macs * _weight_zero(step)}


def _pool(step: Step, core: CoreClass) -> Turns:
    s = _Windowed(step)
    found = {"outputs": s.outputs, "tested taps": s.outputs * s.taps, "taps": s.c_out * s.valid}
    return s.by_width(found) | {"pixels": s.pixels}


def _dense(step: Step, core: CoreClass) -> Turns:
    rows, c_in, outputs = _dense_sizes(step)
    macs = outputs * c_in
    return {"calls": 1, "pixels": rows, "outputs": outputs, "macs": macs, "offset macs": macs * _weight_zero(step)}


def _dense_sizes(step: Step) -> tuple[int, int, int]:
    shape = step.inputs[0].tensor.shape
    return math.prod(shape[:-1]), shape[-1], step.output.tensor.elements


def _mean(step: Step, core: CoreClass) -> Turns:
    assert isinstance(step.layer, Mean)
    read, outputs = step.inputs[0].tensor, step.output.tensor.elements
    inner = read.shape[step.layer.axes[-1]]
    if step.layer.axes == tuple(range(step.layer.axes[0], step.layer.axes[-1] + 1)):
        inner = read.elements // outputs  # neighbours are one loop
    return {"calls": 1, "outputs": outputs, "loops": read.elements // inner, "inputs": read.elements}


def _elements(step: Step, core: CoreClass) -> Turns:
    return {"calls": 1, "outputs": step.output.tensor.elements} | _shifted(step)


def _nested(step: Step, core: CoreClass) -> Turns:
    """Four loops, one in another."""
    made = step.output.tensor
    loops = made.elements // made.shape[-1]
    return {"calls": 1, "loops": loops, "outputs": made.elements} | _shifted(step)


def _shifted(step: Step) -> Turns:
    """Where the factors are the same everywhere, compilers leave out shifts by nothing."""
    shifts: tuple[int, ...]
    match step.layer:
        case Add() as add:
            shifts = (add.a_shift, add.b_shift)
        case Mul() | Requantize() as other:
            shifts = (other.shift,)
        case _:
            return {}
    return {"shifted outputs": step.output.tensor.elements * sum(shift < 0 for shift in shifts)}


def _pad(step: Step, core: CoreClass) -> Turns:
    assert isinstance(step.layer, Pad)
    return _nested(step, core) | {"inputs": step.inputs[0].tensor.elements}


def _softmax(step: Step, core: CoreClass) -> Turns:
    made = step.output.tensor
    return {"calls": 1, "loops": made.elements // made.shape[-1], "outputs": made.elements}


def _concat(step: Step, core: CoreClass) -> Turns:
    assert isinstance(step.layer, Concat)
    pieces = math.prod(step.output.tensor.shape[: step.layer.axis])
    found = {"calls": 1}
    for place in step.inputs:
        size = place.tensor.elements // pieces
        # Compilers load and store the smallest pieces without a call.
        for name, count in (("small pieces", 1),) if size in _WORD_SIZES else _copied(size):
            found[name] = found.get(name, 0) + pieces * count
    return found


def _reshape(step: Step, core: CoreClass) -> Turns:
    return {"calls": 1} | dict(_copied(step.output.tensor.elements))


def _copied(size: int) -> tuple[tuple[str, int], ...]:
    return ("pieces", 1), ("words", size // 4), ("bytes", size % 4)


def _scalar_pointwise(step: Step, core: CoreClass) -> Turns:
    s = _Windowed(step)
    paired = 0 if step.options.kernels == "armv6m" else s.width // 2 * 2 * s.out_h
    return {"pixels": s.pixels} | _blocks(step, paired, s.pixels - paired, s.c_in, s.c_out)


def _scalar_conv2d(step: Step, core: CoreClass) -> Turns:
    s = _Windowed(step)
    stride, left, extent = s.window.stride[1], s.window.padding.left, s.window.extent[1]
    inside = min(-(-left // stride), s.out_w)
    inside_end = max(inside, min((s.width + left - extent) // stride + 1, s.out_w))
    together = 1 if step.options.kernels == "armv6m" or inside_end - inside < 2 else 2
    whole = (inside_end - inside) // together * together
    piece = s.window.kernel[1] if s.window.dilation[1] == 1 else 1
    pieces = s.taps // piece
    edge = s.out_w - whole
    taken = s.c_in * s.taps
    fours = s.c_out // _SIDE_BY_SIDE
    found = _blocks(step, whole * s.out_h if together == 2 else 0, 0, taken, s.c_out)
    single = whole * s.out_h if together == 1 else 0
    return found | {
        "pixels": s.pixels,
        "pieces": s.out_h * (whole // together * pieces + edge * s.taps),
        "block pieces": s.out_h * fours * (whole // together) * pieces,
        "edge pieces": s.out_h * fours * edge * s.taps,
        "edge macs": s.out_h * fours * edge * taken * _SIDE_BY_SIDE,
        "singles": single * fours,
        "single macs": single * fours * _SIDE_BY_SIDE * taken,
        "rests": s.pixels * (s.c_out % _SIDE_BY_SIDE),
        "rest macs": s.pixels * (s.c_out % _SIDE_BY_SIDE) * taken,
        "outputs": s.outputs,
        "summed": s.pixels * taken * (step.options.kernels == "armv6m" or _weight_zero(step)),
    }


def _scalar_depthwise(step: Step, core: CoreClass) -> Turns:
    s = _Windowed(step)
    together = 1 if step.options.kernels == "armv6m" or s.out_w == 1 else 2
    blocks = -(-s.out_w // together)
    rows = s.valid_rows * blocks * s.c_out
    many = s.window.kernel[0] > _SLOTS  # rows of the window in a loop
    return s.by_width({"blocks": s.out_h * blocks * s.c_out}) | {
        "code blocks": s.out_h * min(blocks, _CODE_BLOCKS),
        "outputs": s.out_h * blocks * together * s.c_out,
        "kernel rows": s.out_h * s.window.kernel[0] * blocks * s.c_out,
        "loop rows": rows * many,
        "weights": rows * s.window.kernel[1],
        "offset weights": rows * s.window.kernel[1] * _weight_zero(step),
        "macs": s.valid_rows * s.valid_columns * s.c_out,
    }


def _scalar_dense(step: Step, core: CoreClass) -> Turns:
    rows, c_in, outputs = _dense_sizes(step)
    found = _blocks(step, 0, rows, c_in, outputs // rows)
    assert isinstance(step.layer, Dense)
    stepped = outputs if step.layer.steps is not None else 0
    return {"calls": 1, "pixels": rows, "stepped outputs": stepped} | found


def _blocks(step: Step, paired: int, alone: int, c_in: int, c_out: int) -> Turns:
    """The sums of scalar kernels: four channels of two pixels, of one, and channels that are left over."""
    fours, rest = divmod(c_out, _SIDE_BY_SIDE)
    pixels = paired + alone
    return {
        "pairs": paired // 2 * fours,
        "pair macs": paired * fours * _SIDE_BY_SIDE * c_in,
        "singles": alone * fours,
        "single macs": alone * fours * _SIDE_BY_SIDE * c_in,
        "rests": pixels * rest,
        "rest macs": pixels * rest * c_in,
        "outputs": pixels * c_out,
        "summed": pixels * c_in * ((step.options.kernels == "armv6m" and fours > 0) or _weight_zero(step)),
    }


def _dsp_pointwise(step: Step, core: CoreClass) -> Turns:
    s = _Windowed(step)
    converted = 0 if step.inputs[0].layout == "pairs" else s.height * s.width * s.c_in
    tiles = _tiles(groups(s.out_w), pairs_of(s.c_in), s.out_h, s.c_out, step.output)
    return tiles | {"widened": converted, "widened pixels": converted // s.c_in}


def _dsp_conv2d(step: Step, core: CoreClass) -> Turns:
    s = _Windowed(step)
    kernel_h, kernel_w = s.window.kernel
    stride = s.window.stride[1]
    words = -(-s.taps * s.c_in // 2)
    pieces = s.out_h * kernel_h * ((s.out_w - 1) * stride + kernel_w)
    sizes = _tile_sizes(s.out_w, words, 2 * stride * kernel_h * s.c_in)
    tiles = _tiles(sizes, words, s.out_h, s.c_out, step.output)
    return tiles | {"widened rows": s.out_h * kernel_h, "widened": pieces * s.c_in, "widened pixels": pieces}


def _tile_sizes(width: int, words: int, pixel_bytes: int) -> tuple[int, ...]:
    """As in pairs, unless pixels lie so far apart that a pointer reaches few of their words."""
    reaches = (size for size in (4, 3, 2) if (_REACH - (size - 1) * pixel_bytes) // 4 >= min(words, _LEAST_REACH))
    most = next(reaches, 1)
    if most >= max(groups(width)):
        return groups(width)
    return (most,) * (width // most) + ((width % most,) if width % most else ())


def _tiles(sizes: tuple[int, ...], words: int, calls: int, c_out: int, made: Place) -> Turns:
    """Tiles of up to four pixels and two channels: a word of each pixel takes a load and two multiplications."""
    channel_pairs = pairs_of(c_out)
    counts = Counter(sizes)
    multiply = sum(count * (3 * size + 2) for size, count in counts.items())
    outputs = calls * sum(sizes) * 2 * channel_pairs
    return {
        "groups": calls * len(sizes),
        "tiles": calls * len(sizes) * channel_pairs,
        "words": calls * channel_pairs * words * multiply,
        "outputs": outputs,
        "packed outputs": outputs * (words > _PACKED_WORDS),
        "nhwc outputs": outputs * (made.layout == "nhwc"),
    }


def _dsp_depthwise(step: Step, core: CoreClass) -> Turns:
    s = _Windowed(step)
    channels = s.out_h * s.c_out
    edges = sum(
        1
        for y in range(s.out_h)
        if y * s.window.stride[0] < s.window.padding.top
        or y * s.window.stride[0] - s.window.padding.top + s.window.extent[0] > s.height
    )
    return {
        "channels": channels,
        "edge channels": edges * s.c_out,
        "blocks": channels * -(-s.out_w // 4),
        "words": channels * _SLOTS * -(-s.width // 4),
        "macs": channels * _SLOTS * s.valid_columns,
        "outputs": s.outputs,
        "pairs outputs": s.outputs * (step.output.layout == "pairs"),
    }


def _dsp_add(step: Step, core: CoreClass) -> Turns:
    height, width, channels = step.output.tensor.shape
    return {"planes": height * channels, "words": height * channels * -(-width // 4)}


def _dsp_mean(step: Step, core: CoreClass) -> Turns:
    height, width, channels = step.inputs[0].tensor.shape
    return {"calls": 1, "outputs": channels, "loops": height * channels, "words": height * channels * -(-width // 4)}


def _mve_layer(count: Callable[[AnyLayer, Tensor, Tensor, Layout], Turns]) -> Callable[[Step, CoreClass], Turns]:
    """A kernel whose text depends on how its output lies."""
    return lambda step, core: count(step.layer, step.inputs[0].tensor, step.output.tensor, step.output.layout)


def _mve_add(step: Step, core: CoreClass) -> Turns:
    assert step.code is not None
    return mve.add(step.code, step.output.tensor)


def _mve_mean(step: Step, core: CoreClass) -> Turns:
    return mve.mean(step.layer, step.inputs[0].tensor, step.output.tensor)


def _mve_dense(step: Step, core: CoreClass) -> Turns:
    return mve.dense(step.layer, step.inputs[0].tensor, step.output.tensor)


COUNTED: Mapping[str, Callable[[Step, CoreClass], Turns]] = {
    "conv2d": _conv2d,
    "depthwise": _depthwise,
    "dense": _dense,
    "dense_steps": _dense,
    "average_pool": _pool,
    "max_pool": _pool,
    "mean": _mean,
    "add": _elements,
    "add_broadcast": _nested,
    "mul": _elements,
    "mul_broadcast": _nested,
    "requantize": _elements,
    "lookup": _elements,
    "softmax": _softmax,
    "pad": _pad,
    "concat": _concat,
    "reshape": _reshape,
    "transpose": _nested,
    "resize_nearest": _nested,
    "scalar_pointwise": _scalar_pointwise,
    "scalar_conv2d": _scalar_conv2d,
    "scalar_depthwise": _scalar_depthwise,
    "scalar_dense": _scalar_dense,
    "dsp_pointwise": _dsp_pointwise,
    "dsp_depthwise": _dsp_depthwise,
    "dsp_conv2d": _dsp_conv2d,
    "dsp_add": _dsp_add,
    "dsp_mean": _dsp_mean,
    "mve_pointwise": _mve_layer(mve.pointwise),
    "mve_depthwise": _mve_layer(mve.depthwise),
    "mve_conv2d": _mve_layer(mve.conv2d),
    "mve_add": _mve_add,
    "mve_mean": _mve_mean,
    "mve_dense": _mve_dense,
}
