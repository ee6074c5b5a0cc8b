"""Random arrays and layer arguments for the kernel tests, and the graph of one layer that runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.interpreter import Interpreter
from tinymbn.layers import Activation, AnyLayer, Padding, Weights, Window

Int8s = NDArray[np.int8]

ONE = (2**30, 1)  # multiplier and shift of the factor 1
HALF = (2**30, 0)

zero_points = st.integers(-128, 127) | st.sampled_from([-128, 0, 127])
channels = st.integers(1, 5) | st.sampled_from([7, 11])
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
maps = st.tuples(st.integers(1, 7), st.integers(1, 7), channels)  # (H, W, C)

multipliers = st.integers(2**30, 2**31 - 1) | st.sampled_from([0, 2**30, 2**31 - 1])
# The first are those of real layers, whose outputs use the int8 range; the others overflow or vanish.
shifts = st.integers(-12, -4) | st.integers(-31, 30)
right_shifts = st.integers(-12, 0) | st.integers(-31, 0)


def int8s(shape: Sequence[int]) -> st.SearchStrategy[Int8s]:
    """Noise, or noise between two values, such as the extremes."""

    def fill(seed: int, low: int, high: int, noise: bool) -> Int8s:
        generator = np.random.default_rng(seed)
        if noise:
            return generator.integers(-128, 128, shape, dtype=np.int8)
        return generator.choice(np.array([low, high], np.int8), shape)

    return st.builds(fill, st.integers(0, 2**32 - 1), zero_points, zero_points, st.booleans())


@st.composite
def activations(draw: st.DrawFn) -> Activation:
    """Mostly the whole range, else a narrower one."""
    if draw(st.booleans()):
        return Activation()
    low, high = sorted(draw(st.tuples(zero_points, zero_points)))
    return Activation(low, high)


@st.composite
def windows(draw: st.DrawFn, *, dilated: bool = True) -> tuple[tuple[int, int], Window]:
    """Height and width of an input, and a window that fits it; padding is different on each side."""
    square = st.sampled_from([(1, 1), (2, 2), (3, 3), (5, 5), (1, 7), (7, 1), (2, 3)])
    kernel = draw(square | st.tuples(st.integers(1, 4), st.integers(1, 4)))
    steps = st.tuples(st.integers(1, 3), st.integers(1, 3))
    stride, dilation = draw(steps), draw(steps) if dilated else (1, 1)
    extent = Window(kernel, stride, dilation).extent
    pads = [draw(st.integers(0, min(size - 1, 3))) for size in extent for _ in ("before", "after")]
    padding = Padding(*pads)
    least = [max(1, extent[0] - pads[0] - pads[1]), max(1, extent[1] - pads[2] - pads[3])]
    height, width = (size + draw(st.integers(0, 5)) for size in least)
    return (height, width), Window(kernel, stride, dilation, padding)


@st.composite
def weights(draw: st.DrawFn, shape: Sequence[int], count: int) -> Weights:
    """Weights of ``count`` output channels; each channel has a scaling of its own, zero points included."""
    small, any_int32 = st.integers(-5000, 5000), st.integers(-(2**31), 2**31 - 1)

    def each(values: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(values, min_size=count, max_size=count))

    return Weights(
        values=draw(int8s(shape)),
        bias=np.array(each(draw(st.sampled_from([small, any_int32]))), np.int32),
        multiplier=np.array(each(multipliers), np.int32),
        shift=np.array(each(shifts), np.int8),
        zero_point=draw(st.just(0) | zero_points),
    )


@st.composite
def operand_shapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A map and what broadcasts with it (equal, a scalar, one row, column or pixel); either may be first."""
    height, width, channels = draw(maps)
    other = draw(
        st.sampled_from(
            [
                (height, width, channels),
                (1,),
                (1, width, channels),
                (height, 1, channels),
                (1, 1, channels),
                (channels,),
                (height, width, 1),
            ]
        )
    )
    pair = ((height, width, channels), other)
    return pair if draw(st.booleans()) else pair[::-1]


def weight_options(weights: Weights) -> dict[str, Any]:
    """What ``oracle`` calls the same."""
    return {
        "weight_zero": weights.zero_point,
        "multiplier": weights.multiplier.tolist(),
        "shift": weights.shift.tolist(),
    }


def pads(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    p = window.padding
    return (p.top, p.bottom), (p.left, p.right)


def limits(activation: Activation) -> tuple[int, int]:
    return activation.low, activation.high


def run_layer(
    layer: AnyLayer,
    x: NDArray[Any],
    *,
    zero: int = 0,
    output_zero: int = 0,
    constants: Mapping[str, tuple[Int8s, int]] | None = None,
) -> Int8s:
    """The output "y" of a layer that reads "x", of this zero point, and constants (values, zero point)."""
    operands = {"x": (x, zero), **(constants or {})}
    tensors = {
        name: Tensor(name, values.shape, Quant(1.0, zero_point)) for name, (values, zero_point) in operands.items()
    }
    shape = layer.output_shape(*(tensors[name].shape for name in layer.inputs))
    graph = Graph(
        name="one layer",
        tensors={**tensors, "y": Tensor("y", shape, Quant(1.0, output_zero))},
        layers=(layer,),
        input="x",
        outputs=("y",),
        constants={name: values for name, (values, _) in (constants or {}).items()},
    )
    output: Int8s = Interpreter(graph).run(x)
    return output
