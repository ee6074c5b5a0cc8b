"""Random graphs of layers: any kind, shape and scaling, residuals, several readers and outputs, constants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.strategies import (
    activations,
    int8s,
    multipliers,
    right_shifts,
    shifts,
    weights,
    zero_points,
)
from tinymbn.fixedpoint import DENSE_STEPS
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.layers import (
    Add,
    AnyLayer,
    AveragePool,
    Concat,
    Conv2D,
    Dense,
    Depthwise,
    Lookup,
    MaxPool,
    Mean,
    Mul,
    Pad,
    Padding,
    Requantize,
    Reshape,
    ResizeNearest,
    Shape,
    Softmax,
    Transpose,
    Window,
)

MOST_ELEMENTS = 3000  # of one tensor

_channels = st.integers(1, 6) | st.sampled_from([8, 11])


class GrowingGraph:
    """A graph that grows layer by layer; each reads what was made before, mostly the last."""

    def __init__(self, draw: st.DrawFn, shape: Shape) -> None:
        self.draw = draw
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, NDArray[np.int8]] = {}
        self.layers: list[AnyLayer] = []
        self.made = ["x"]
        self._declare("x", shape)

    def _declare(self, name: str, shape: Shape, quant: Quant | None = None) -> None:
        self.tensors[name] = Tensor(name, shape, quant or Quant(0.5, self.draw(zero_points)))

    def shape(self, name: str) -> Shape:
        return self.tensors[name].shape

    def constant(self, shape: Shape) -> str:
        """A new constant of this shape."""
        name = f"constant {len(self.constants)}"
        self._declare(name, shape)
        self.constants[name] = self.draw(int8s(shape))
        return name

    def any_tensor(self) -> str:
        """What the next layer reads: the last tensor in two of three cases, at times a constant."""
        which = self.draw(st.integers(0, 11))
        if which == 11:
            return self.constant(self.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)))
        return self.made[-1] if which < 8 else self.draw(st.sampled_from(self.made))

    def any_map(self) -> str:
        """The same of rank 3; a RESHAPE makes one where there is none."""
        name = self.any_tensor()
        shape = self.shape(name)
        if len(shape) != 3:
            elements = math.prod(shape)
            divisors = [n for n in range(1, 12) if elements % n == 0]
            channels = self.draw(st.sampled_from(divisors))
            rows = self.draw(st.sampled_from([n for n in divisors if elements // channels % n == 0]))
            name = self.add(Reshape, name, shape=(rows, elements // channels // rows, channels))
        return name

    def add(self, kind: Callable[..., AnyLayer], *inputs: str, quant: Quant | None = None, **arguments: Any) -> str:
        """The output of a new layer."""
        name = f"{kind.__name__} {len(self.layers)}"
        layer = kind(name=name, inputs=inputs, output=f"y{len(self.layers)}", **arguments)
        self._declare(layer.output, layer.output_shape(*map(self.shape, inputs)), quant)
        self.layers.append(layer)
        self.made.append(layer.output)
        return layer.output

    def elements(self, name: str) -> int:
        return self.tensors[name].elements

    def end(self) -> Graph:
        """The graph: its outputs are the last tensor, and at times others, the input and constants included."""
        outputs = [self.made[-1]]
        if self.draw(st.integers(0, 2)) == 0:
            outputs += self.draw(st.lists(st.sampled_from([*self.made, *self.constants]), max_size=3, unique=True))
            outputs = self.draw(st.permutations(list(dict.fromkeys(outputs))))
        return Graph("random", self.tensors, tuple(self.layers), "x", tuple(outputs), self.constants)


def _window(g: GrowingGraph, shape: Shape, *, dilated: bool) -> Window:
    """A window that fits the map, its padding different on each side."""
    draw = g.draw

    def one_axis(size: int) -> tuple[int, int, int, int, int]:
        kernel = draw(st.sampled_from([1, 1, 2, 3, 3, 5]))
        dilation = draw(st.sampled_from([1, 1, 1, 2, 3])) if dilated else 1
        while (kernel - 1) * dilation + 1 > size + 2 * ((kernel - 1) * dilation):
            kernel -= 1
        extent = (kernel - 1) * dilation + 1
        before, after = (draw(st.integers(0, min(extent - 1, 3))) for _ in range(2))
        missing = max(0, extent - size - before - after)
        before = min(extent - 1, before + missing)
        after = max(after, extent - size - before)
        return kernel, draw(st.integers(1, 3)), dilation, before, after

    y, x = one_axis(shape[0]), one_axis(shape[1])
    return Window((y[0], x[0]), (y[1], x[1]), (y[2], x[2]), Padding(y[3], y[4], x[3], x[4]))


def conv2d(g: GrowingGraph) -> None:
    name = g.any_map()
    c_in, c_out = g.shape(name)[2], g.draw(_channels)
    window = _window(g, g.shape(name), dilated=True)
    w = g.draw(weights((c_out, *window.kernel, c_in), c_out))
    g.add(Conv2D, name, weights=w, activation=g.draw(activations()), window=window)


def pointwise(g: GrowingGraph) -> None:
    name = g.any_map()
    c_in, c_out = g.shape(name)[2], g.draw(_channels)
    w = g.draw(weights((c_out, 1, 1, c_in), c_out))
    g.add(Conv2D, name, weights=w, activation=g.draw(activations()), window=Window((1, 1)))


def depthwise(g: GrowingGraph) -> None:
    name = g.any_map()
    c_out = g.shape(name)[2] * g.draw(st.sampled_from([1, 1, 2, 3]))
    window = _window(g, g.shape(name), dilated=True)
    w = g.draw(weights((*window.kernel, c_out), c_out))
    g.add(Depthwise, name, weights=w, activation=g.draw(activations()), window=window)


def dense(g: GrowingGraph) -> None:
    name = g.any_tensor()
    c_in, c_out = g.shape(name)[-1], g.draw(_channels)
    steps = None
    if g.draw(st.booleans()):
        generator = np.random.default_rng(g.draw(st.integers(0, 2**32 - 1)))
        steps = generator.integers(1, 10 ** g.draw(st.integers(1, 9)), (c_out, DENSE_STEPS), np.int32)
        steps.sort(axis=1)
    w = g.draw(weights((c_out, c_in), c_out))
    g.add(Dense, name, weights=w, activation=g.draw(activations()), steps=steps)


def average_pool(g: GrowingGraph) -> None:
    name = g.any_map()
    window = _window(g, g.shape(name), dilated=False)
    g.add(AveragePool, name, window=window, activation=g.draw(activations()), unsigned=g.draw(st.booleans()))


def max_pool(g: GrowingGraph) -> None:
    name = g.any_map()
    g.add(MaxPool, name, window=_window(g, g.shape(name), dilated=False), activation=g.draw(activations()))


def mean(g: GrowingGraph) -> None:
    name = g.any_tensor()
    axes = g.draw(st.sets(st.integers(0, len(g.shape(name)) - 1), min_size=1))
    keep_dims, multiplier, shift = g.draw(st.booleans()), g.draw(multipliers), g.draw(right_shifts | shifts)
    g.add(Mean, name, axes=tuple(sorted(axes)), keep_dims=keep_dims, multiplier=multiplier, shift=shift)


def _operands(g: GrowingGraph) -> tuple[str, str]:
    """Two tensors that broadcast: the same twice, two of one shape, or one and a smaller one or a constant."""
    draw = g.draw
    name = g.any_tensor()
    shape = g.shape(name)
    alike = [other for other in g.made if g.shape(other) == shape]
    fitting = [other for other in g.made if _broadcasts(g.shape(other), shape)]
    how = draw(st.integers(0, 5))
    if how < 3:
        other = draw(st.sampled_from(alike or [name]))
    elif how < 5 and fitting:
        other = draw(st.sampled_from(fitting))
    else:
        kept = draw(st.integers(1, len(shape)))
        other = g.constant(tuple(draw(st.sampled_from([1, size])) for size in shape[-kept:]))
    return (name, other) if draw(st.booleans()) else (other, name)


def _broadcasts(a: Shape, b: Shape) -> bool:
    try:
        return math.prod(np.broadcast_shapes(a, b)) <= MOST_ELEMENTS
    except ValueError:
        return False


def add(g: GrowingGraph) -> None:
    scaling: dict[str, Any] = {}
    for which in ("a", "b", "output"):
        scaling |= {f"{which}_multiplier": g.draw(multipliers), f"{which}_shift": g.draw(right_shifts)}
    if g.draw(st.booleans()):  # 1/2 of each, and a sum that uses the range
        scaling |= {"a_multiplier": 2**30, "a_shift": 0, "b_multiplier": 2**30, "b_shift": 0, "output_shift": -18}
    g.add(Add, *_operands(g), activation=g.draw(activations()), **scaling)


def mul(g: GrowingGraph) -> None:
    multiplier, shift = g.draw(multipliers), g.draw(shifts)
    g.add(Mul, *_operands(g), activation=g.draw(activations()), multiplier=multiplier, shift=shift)


def requantize(g: GrowingGraph) -> None:
    shift = g.draw(st.integers(-2, 2) | shifts)
    g.add(Requantize, g.any_tensor(), multiplier=g.draw(multipliers), shift=shift, activation=g.draw(activations()))


def lookup(g: GrowingGraph) -> None:
    g.add(Lookup, g.any_tensor(), function="logistic", table=g.draw(int8s((256,))))


def softmax(g: GrowingGraph) -> None:
    shift = g.draw(st.integers(18, 27) | st.integers(0, 30))
    least = g.draw(st.just(max(-(2**31 >> shift), -(31 << 26 >> shift))) | st.integers(-(2**31 >> shift), 0))
    quant, multiplier = Quant(1 / 256, -128), g.draw(multipliers)
    g.add(Softmax, g.any_tensor(), quant=quant, multiplier=multiplier, shift=shift, diff_min=least)


def pad(g: GrowingGraph) -> None:
    name = g.any_tensor()
    most = 3 if g.elements(name) < 200 else 1
    pads = tuple(g.draw(st.tuples(st.integers(0, most), st.integers(0, most))) for _ in g.shape(name))
    g.add(Pad, name, pads=pads, value=g.draw(zero_points))


def padded_convolution(g: GrowingGraph) -> None:
    """A PAD that mostly adds what the convolution behind it counts as nothing, all but that in other cases."""
    name = g.any_map()
    most = st.integers(0, 2)
    tensor = g.tensors[name]
    channels = (g.draw(st.sampled_from([0, 0, 0, 1])), 0)
    pads = ((g.draw(most), g.draw(most)), (g.draw(most), g.draw(most)), channels)
    value = g.draw(st.sampled_from([tensor.zero_point] * 3 + [tensor.zero_point ^ 1]))
    quant = g.draw(st.sampled_from([tensor.quant] * 3 + [Quant(0.5, value)]))
    padded = g.add(Pad, name, quant=quant, pads=pads, value=value)
    shape = g.shape(padded)
    kernel = (min(3, shape[0]), min(3, shape[1]))
    w = g.draw(weights((*kernel, shape[2]), shape[2]))
    window = Window(kernel, (g.draw(st.integers(1, 2)), 1))
    g.add(Depthwise, padded, weights=w, activation=g.draw(activations()), window=window)


def concat(g: GrowingGraph) -> None:
    first = g.any_tensor()
    shape = g.shape(first)
    axis = g.draw(st.integers(0, len(shape) - 1))
    parts = [first]
    for _ in range(g.draw(st.integers(0, 3))):
        alike = [
            name
            for name in g.made
            if len(g.shape(name)) == len(shape)
            and all(a == b for i, (a, b) in enumerate(zip(g.shape(name), shape, strict=True)) if i != axis)
        ]
        known = g.draw(st.integers(0, 3)) > 0
        if alike and known:
            parts.append(g.draw(st.sampled_from(alike)))
        else:
            parts.append(g.constant((*shape[:axis], g.draw(st.integers(1, 3)), *shape[axis + 1 :])))
    if sum(g.elements(name) for name in parts) <= MOST_ELEMENTS:
        g.add(Concat, *g.draw(st.permutations(parts)), axis=axis)


def reshape(g: GrowingGraph) -> None:
    name = g.any_tensor()
    sizes: list[int] = []
    elements = g.elements(name)
    for _ in range(g.draw(st.integers(0, 3))):
        sizes.append(g.draw(st.sampled_from([n for n in range(1, 12) if elements % n == 0])))
        elements //= sizes[-1]
    g.add(Reshape, name, shape=tuple(g.draw(st.permutations([*sizes, elements]))))


def transpose(g: GrowingGraph) -> None:
    name = g.any_tensor()
    g.add(Transpose, name, permutation=tuple(g.draw(st.permutations(range(len(g.shape(name)))))))


def resize_nearest(g: GrowingGraph) -> None:
    """Enlarged, made smaller, or with rows in any order at all."""
    name = g.any_map()

    def indices(size: int) -> NDArray[np.int32]:
        count = g.draw(st.integers(1, 9))
        if g.draw(st.booleans()):
            return (np.arange(count) * size // count).astype(np.int32)
        return np.array(g.draw(st.lists(st.integers(0, size - 1), min_size=count, max_size=count)), np.int32)

    g.add(ResizeNearest, name, rows=indices(g.shape(name)[0]), columns=indices(g.shape(name)[1]))


KINDS: dict[str, Callable[[GrowingGraph], None]] = {
    function.__name__: function
    for function in (
        conv2d,
        pointwise,
        depthwise,
        dense,
        average_pool,
        max_pool,
        mean,
        add,
        mul,
        requantize,
        lookup,
        softmax,
        pad,
        padded_convolution,
        concat,
        reshape,
        transpose,
        resize_nearest,
    )
}


@st.composite
def graphs(draw: st.DrawFn, kind: str, most: int = 6) -> Graph:
    """A graph with a layer of this kind of ``KINDS`` and up to ``most`` others, before and behind it."""
    ranks = {
        1: st.tuples(st.integers(1, 40)),
        2: st.tuples(st.integers(1, 6), st.integers(1, 9)),
        3: st.tuples(st.integers(1, 9), st.integers(1, 9), _channels),
        4: st.tuples(*[st.integers(1, 4)] * 4),
    }
    g = GrowingGraph(draw, draw(ranks[draw(st.sampled_from([3, 3, 3, 3, 1, 2, 4]))]))
    others = draw(st.lists(st.sampled_from(list(KINDS)), max_size=most))
    before = draw(st.integers(0, len(others)))
    for name in [*others[:before], kind, *others[before:]]:
        if g.elements(g.made[-1]) <= MOST_ELEMENTS:
            KINDS[name](g)
    if not g.layers:  # a CONCATENATION grew too large
        requantize(g)
    return g.end()


ROW_KINDS = ("conv2d", "pointwise", "depthwise", "average_pool", "max_pool")
"""Those whose kernels make one row a call, so that their maps may stream."""


@st.composite
def row_graphs(draw: st.DrawFn, most: int = 8) -> Graph:
    """A graph of a tall map and mostly layers of ``ROW_KINDS``, one after the other or with several readers."""
    g = GrowingGraph(draw, draw(st.tuples(st.integers(1, 24), st.integers(1, 5), _channels)))
    kinds = st.integers(0, 9).flatmap(lambda n: st.sampled_from(ROW_KINDS if n else list(KINDS)))
    for name in draw(st.lists(kinds, min_size=2, max_size=most)):
        if g.elements(g.made[-1]) <= MOST_ELEMENTS:
            KINDS[name](g)
    if not g.layers:
        requantize(g)
    return g.end()


def describe(graph: Graph) -> str:
    """The layers with their shapes, for the report of a failure."""
    lines = [f"x {graph.input_tensor.shape} -> outputs {', '.join(graph.outputs)}"]
    for i, layer in enumerate(graph.layers):
        shapes = ", ".join(f"{name} {graph.tensors[name].shape}" for name in layer.inputs)
        window = getattr(layer, "window", "")
        lines.append(f"{i} {layer.name}: {shapes} -> {layer.output} {graph.tensors[layer.output].shape} {window}")
    return "\n".join(lines)
