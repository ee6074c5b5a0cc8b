"""Random convolutions for the kernels of the DSP extension, the calls that run them, and what the oracle expects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests import oracle
from tests.dsp_harness import Call, Place, program, run
from tests.strategies import limits, pads, weight_options
from tinymbn.fixedpoint import multiplier_and_shift
from tinymbn.graph import Quant, Tensor
from tinymbn.layers import Activation, Conv2D, Depthwise, Shape, Weights, Window
from tinymbn_codegen import layouts
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout

Int8s = NDArray[np.int8]

_BATCH = 20  # kernels in one program

SORTS = ("relu", "relu6", "linear", "clamped", "legacy", "full", "dead", "large", "left", "wild")
"""What the numbers of a layer are like: see ``convolution``."""


@dataclass(frozen=True, eq=False)
class Case:
    """A layer, its tensors, and how their rows lie."""

    layer: Conv2D | Depthwise
    input: Tensor
    output: Tensor
    source: Layout
    target: Layout
    sort: str

    def __str__(self) -> str:
        w, weights = self.layer.window, self.layer.weights
        shapes = f"{self.source} {self.input.shape} -> {self.target} {self.output.shape}"
        return f"{self.sort} {self.layer.kind} {w}, {shapes}, weight zero {weights.zero_point}"


def convolution(
    chance: np.random.Generator,
    window: Window,
    shape: Shape,
    channels: int,
    *,
    sort: str = "relu",
    source: Layout = "nhwc",
    target: Layout = "planar",
    kind: type[Conv2D | Depthwise] = Conv2D,
) -> Case:
    """A layer with numbers of some sort.

    ``relu`` and ``relu6`` use the output's range and end at its zero point; ``linear`` has outputs below zero;
    ``clamped`` a narrow activation; ``legacy`` weights with a zero point; ``full`` weights of -128 among others;
    ``dead`` channels without weights, but biases of 2**30; ``large`` sums beyond 24 bits, if there are inputs enough;
    ``left`` shifts to the left; ``wild`` any multipliers, shifts and biases.
    """
    form = (*window.kernel, channels) if kind is Depthwise else (channels, *window.kernel, shape[2])
    values = chance.integers(-127, 128, form, dtype=np.int8)
    if sort in ("full", "legacy", "wild"):
        values = chance.integers(-128, 128, form, dtype=np.int8)
    if sort == "full" and chance.random() < 0.5:
        values = chance.choice(np.array([-128, -1, 127], np.int8), form)
    if sort == "large":
        values = np.full(form, 127, np.int8)
    added_up = values.size // channels
    # A sum has about this standard deviation; it makes about 50 steps of the output.
    scale = 50 / (75 * 75 * added_up**0.5)
    pairs = [multiplier_and_shift(scale * float(chance.uniform(0.3, 3))) for _ in range(channels)]
    bias = chance.integers(-8000, 8000, channels)
    multiplier, shift = (np.array(numbers) for numbers in zip(*pairs, strict=True))
    if sort == "wild":
        bias = chance.integers(-(2**31), 2**31, channels)
        edges = np.array([0, 2**30, 2**31 - 1])
        multiplier = np.where(chance.random(channels) < 0.3, chance.choice(edges, channels), multiplier)
        shift = np.where(chance.random(channels) < 0.5, chance.integers(-31, 31, channels), shift)
    if sort == "left":
        values = chance.integers(-2, 3, form, dtype=np.int8)
        shift = chance.integers(0, 20, channels)
    if sort == "dead":
        dead = chance.random(channels) < 0.5
        axis = 2 if kind is Depthwise else 0
        np.moveaxis(values, axis, 0)[dead] = 0
        bias = np.where(dead, chance.choice(np.array([-(2**30), 2**30]), channels), bias)
        shift = np.where(dead, -31, shift)
    weights = Weights(
        values=values,
        bias=bias.astype(np.int32),
        multiplier=multiplier.astype(np.int32),
        shift=shift.astype(np.int8),
        zero_point=int(chance.integers(-128, 128)) if sort == "legacy" else 0,
    )
    activation, output_zero = Activation(), -128
    if sort in ("linear", "clamped", "left", "wild"):
        output_zero = int(chance.integers(-128, 128))
    if sort == "clamped":
        activation = Activation(*sorted(map(int, chance.integers(-128, 128, 2))))
    if sort == "relu6":
        activation = Activation(-128, int(chance.integers(60, 128)))
    input_zero = -128 if sort == "large" else int(chance.integers(-128, 128))
    name = {"name": "layer", "inputs": ("x",), "output": "y"}
    layer = kind(**name, window=window, weights=weights, activation=activation)  # type: ignore[arg-type]
    made = Tensor("y", layer.output_shape(shape), Quant(1.0, output_zero))
    return Case(layer, Tensor("x", shape, Quant(1.0, input_zero)), made, source, target, sort)


def some_inputs(chance: np.random.Generator, shape: Shape) -> list[Int8s]:
    """Noise, and extremes."""
    return [
        chance.integers(-128, 128, shape, dtype=np.int8),
        chance.choice(np.array([-128, 127], np.int8), shape),
    ]


def expected(case: Case, x: Int8s) -> Int8s:
    """What the oracle makes of a map."""
    layer = case.layer
    options: dict[str, Any] = {
        "stride": layer.window.stride,
        "dilation": layer.window.dilation,
        "pads": pads(layer.window),
        "input_zero": case.input.zero_point,
        "output_zero": case.output.zero_point,
        "limits": limits(layer.activation),
        **weight_options(layer.weights),
    }
    compute = oracle.depthwise if isinstance(layer, Depthwise) else oracle.conv2d
    return compute(x, layer.weights.values, layer.weights.bias.tolist(), **options)


def calls(kernel: int, case: Case, x: Int8s, scratch_bytes: int | None, *, rows_apart: bool) -> list[Call]:
    """The calls that make all rows of a map's output; the output is always the last buffer.

    Args:
        kernel: its index in the program.
        case: what it computes.
        x: the input map.
        scratch_bytes: None: it has no such parameter.
        rows_apart: its first parameter is an array of rows, with NULL for those in the padding; otherwise it is a row.
    """
    window, height = case.layer.window, case.input.shape[0]
    rows = layouts.encode(case.source, x)
    found = []
    for y in range(case.output.shape[0]):
        buffers: list[bytes] = []
        inputs: list[Place | None] = []
        first = y * window.stride[0] - window.padding.top
        for row in range(first, first + window.kernel[0]):
            inputs.append(_place(buffers, rows[row].tobytes(), case.source, y) if 0 <= row < height else None)
        arguments: list[Place | tuple[Place | None, ...]] = [tuple(inputs)]
        if not rows_apart:
            assert inputs[0] is not None
            arguments = [inputs[0]]
        if scratch_bytes is not None:
            arguments.append(_place(buffers, _garbage(scratch_bytes), "planar", y))
        garbage = _garbage(layouts.row_bytes(case.target, case.output.shape))
        arguments.append(_place(buffers, garbage, case.target, y))
        found.append(Call(kernel, tuple(buffers), tuple(arguments)))
    return found


def _place(buffers: list[bytes], content: bytes, layout: Layout, y: int) -> Place:
    """A new buffer; rows of bytes begin anywhere, others at words."""
    offset = y % 4 if layout == "nhwc" else 0
    buffers.append(_garbage(offset) + content)
    return len(buffers) - 1, offset


def _garbage(size: int) -> bytes:
    return b"\x5a" * size


def expect_rows(case: Case, x: Int8s, made: Sequence[Call], after: Sequence[tuple[bytes, ...]]) -> None:
    """Assert that calls made the oracle's rows, zeros where planes end beyond them, and wrote nothing else."""
    want = expected(case, x)
    size = layouts.row_bytes(case.target, case.output.shape)
    for y, (call, buffers) in enumerate(zip(made, after, strict=True)):
        inputs = len(call.buffers) - 1 - (len(call.arguments) > 2)
        assert buffers[:inputs] == call.buffers[:inputs], f"{case}: row {y}: the input has changed"
        assert buffers[-1][:-size] == call.buffers[-1][:-size], f"{case}: row {y}: a byte before the row was written"
        row = np.frombuffer(buffers[-1][-size:], np.uint8)[None]
        got = layouts.decode(case.target, row, (1, *case.output.shape[1:]))[0]
        wrong = np.argwhere(got != want[y])
        at = tuple(wrong[0]) if len(wrong) else ()
        assert not at, f"{case}: row {y}: {len(wrong)} wrong bytes, at {at} {got[at]} for {want[y][at]}"
        if case.target == "planar":
            channels = case.output.shape[2] * layouts.plane_bytes(case.output.shape[1])
            exact = layouts.encode("planar", want[y : y + 1])[0][:channels]
            assert (row[0][:channels] == exact).all(), f"{case}: row {y}: planes do not end with zeros"


def expect_oracle(
    cases: Sequence[Case],
    kernel_of: Callable[[Case], KernelCode],
    scratch_bytes: Callable[[Case], int],
    folder: Path,
    *command: str,
) -> None:
    """Compile the kernels of all cases, run each on two maps, and assert that they make the oracle's rows."""
    chance = np.random.default_rng(0)
    for start in range(0, len(cases), _BATCH):
        batch = cases[start : start + _BATCH]
        kernels = [kernel_of(case) for case in batch]
        made = program(kernels, folder / str(start), *command)
        expectations: list[tuple[Case, Int8s, list[Call]]] = []
        for i, (case, kernel) in enumerate(zip(batch, kernels, strict=True)):
            scratch = scratch_bytes(case) if "scratch" in kernel.parameters else None
            for x in some_inputs(chance, case.input.shape):
                own = calls(i, case, x, scratch, rows_apart="rows" in kernel.parameters)
                expectations.append((case, x, own))
        after = iter(run(made, [call for _, _, own in expectations for call in own]))
        for case, x, own in expectations:
            expect_rows(case, x, own, [next(after) for _ in own])
