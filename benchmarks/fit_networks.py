"""Makes the networks that formulas are fitted on: random layers one after the other, numbers as in trained ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import DENSE_STEPS, add_scaling, mean_multiplier, multiplier_and_shift, softmax_scaling
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.layers import (
    Activation,
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
    Softmax,
    Transpose,
    Weights,
    Window,
    same_padding,
)

_WEIGHT_DEVIATION = 35.0
_INPUT_DEVIATION = 100.0  # of a value less its zero point
_OUTPUT_DEVIATION = 60.0
_SCALE = 0.05
_RELU_ZERO = -128


@dataclass(frozen=True)
class Limits:
    """How large the layers of a network are.

    Attributes:
        size: rows and columns of the input.
        channels: of any map.
        elements: of any map.
        macs: of any layer.
    """

    size: int
    channels: int
    elements: int
    macs: int


SMALL = Limits(14, 44, 2_500, 150_000)
"""For 16 KB of RAM."""
LARGE = Limits(40, 160, 16_000, 300_000)

_MOBILE, _MIXED = 4, 3  # networks of each sort


def mobile_network(seed: int, limits: Limits) -> Graph:
    """What MobileNets are made of: convolutions, depthwise layers, 1 x 1 convolutions, ADD, average, dense, softmax."""
    chance = np.random.default_rng([1, seed])
    chain = _Chain(_input_shape(chance, limits), chance, limits)
    chain.convolution(int(chance.choice([3, 3, 1, 2, 5])), int(chance.choice([1, 2])))
    for _ in range(7):
        if min(chain.shape[:2]) < 2:
            break
        chain.depthwise(int(chance.choice([3, 3, 3, 5])), int(chance.choice([1, 1, 2])))
        chain.convolution(1, 1, relu=bool(chance.random() < 0.7))
        if chance.random() < 0.4:
            kept = chain.last
            chain.convolution(1, 1, relu=True)
            chain.depthwise(3, 1, same=True)
            chain.convolution(1, 1, relu=False, made=chain.tensors[kept].shape[2])
            chain.sum_with(kept)
    if seed % 2:
        chain.pool_of_all()
    else:
        chain.mean((0, 1))
    chain.dense()
    chain.softmax()
    return chain.graph(f"mobile {seed}")


def mixed_network(seed: int, limits: Limits) -> Graph:
    """Every other kernel, in random order between convolutions."""
    chance = np.random.default_rng([2, seed])
    chain = _Chain(_input_shape(chance, limits), chance, limits)
    steps: list[Callable[[], None]] = [
        lambda: chain.convolution(int(chance.choice([1, 2, 3, 4])), int(chance.choice([1, 1, 2]))),
        lambda: chain.depthwise(int(chance.choice([2, 3, 4])), 1, multiplier=int(chance.choice([1, 1, 2]))),
        lambda: chain.pool(AveragePool),
        lambda: chain.pool(MaxPool),
        chain.pad,
        chain.product,
        chain.product_with_constant,
        chain.sum_with_constant,
        lambda: chain.sum_with(chain.last),
        chain.requantize,
        chain.lookup,
        chain.transpose,
        chain.resize,
        chain.concat,
        chain.softmax_of_channels,
        chain.copied_constant,
        lambda: chain.aside(lambda: chain.mean((0, 1))),
        lambda: chain.aside(lambda: chain.mean((1,))),
        lambda: chain.aside(lambda: chain.mean((2,))),
        lambda: chain.aside(lambda: chain.dense(steps=False)),
        lambda: chain.aside(lambda: chain.dense(steps=True)),
    ]
    for _ in range(2):
        for index in chance.permutation(len(steps)):
            steps[index]()
    chain.mean((0, 1))
    chain.dense()
    chain.dense(steps=True)
    chain.softmax()
    return chain.graph(f"mixed {seed}")


def _input_shape(chance: np.random.Generator, limits: Limits) -> tuple[int, int, int]:
    channels = int(chance.choice([1, 3, 3, 4]))
    most = min(limits.size, math.isqrt(limits.elements // channels))
    height, width = (int(n) for n in chance.integers(max(6, most // 2), most + 1, 2))
    return height, width, channels


class _Chain:
    """Layers that each read what the last one made, unless said otherwise."""

    def __init__(self, shape: tuple[int, ...], chance: np.random.Generator, limits: Limits) -> None:
        self._chance = chance
        self._limits = limits
        self._constants: dict[str, NDArray[np.int8]] = {}
        self._layers: list[AnyLayer] = []
        self._outputs: list[str] = []
        self.tensors = {"picture": Tensor("picture", shape, Quant(_SCALE, -1))}
        self.last = "picture"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the last tensor."""
        return self.tensors[self.last].shape

    def graph(self, name: str) -> Graph:
        """What has been described."""
        outputs = tuple(dict.fromkeys([*self._outputs, self.last]))
        return Graph(name, self.tensors, tuple(self._layers), "picture", outputs, self._constants)

    def convolution(self, kernel: int, stride: int, *, relu: bool = True, made: int | None = None) -> None:
        height, width, channels = self.shape
        kernel = min(kernel, height, width)
        window = self._window(kernel, stride)
        outputs = math.prod(window.output_size(height, width))
        most = min(
            self._limits.channels,
            self._limits.elements // outputs,
            self._limits.macs // (outputs * kernel * kernel * channels),
        )
        if made is None:
            made = int(self._chance.integers(max(1, most // 4), max(2, most + 1)))
            made = made // 8 * 8 if self._chance.random() < 0.7 and made > 8 else made
        self._weighted(Conv2D, (made, kernel, kernel, channels), made, kernel * kernel * channels, relu, window=window)

    def depthwise(self, kernel: int, stride: int, *, multiplier: int = 1, same: bool = False) -> None:
        height, width, channels = self.shape
        kernel = min(kernel, height, width)
        if channels * multiplier * height * width > self._limits.elements:
            multiplier = 1
        made = channels * multiplier
        window = self._window(kernel, stride, same=same)
        self._weighted(Depthwise, (kernel, kernel, made), made, kernel * kernel, relu=True, window=window)

    def dense(self, *, steps: bool = False) -> None:
        c_in = self.shape[-1]
        made = int(self._chance.integers(2, 40))
        extra: dict[str, Any] = {}
        if steps:
            thresholds = np.arange(1, DENSE_STEPS + 1) * self._chance.integers(200, 400, (made, 1))
            extra["steps"] = thresholds.astype(np.int32)
        self._weighted(Dense, (made, c_in), made, c_in, relu=False, **extra)

    def mean(self, axes: tuple[int, ...]) -> None:
        count = math.prod(self.shape[axis] for axis in axes)
        multiplier, shift = mean_multiplier(_SCALE, _SCALE, count)
        self._add(Mean, axes=axes, keep_dims=False, multiplier=multiplier, shift=shift)

    def softmax(self) -> None:
        scaling = softmax_scaling(_SCALE, 1.0)
        self._add(Softmax, quant=Quant(1 / 256, -128), **scaling._asdict())

    def softmax_of_channels(self) -> None:
        self.aside(self.softmax)

    def pool(self, kind: type[AveragePool] | type[MaxPool]) -> None:
        height, width, _ = self.shape
        kernel = min(int(self._chance.choice([2, 3])), height, width)
        self._add(kind, window=self._window(kernel, 1), activation=Activation(), quant=self._quant)

    def pool_of_all(self) -> None:
        height, width, _ = self.shape
        self._add(AveragePool, window=Window((height, width)), activation=Activation(), quant=self._quant)

    def pad(self) -> None:
        if math.prod(self.shape) < self._limits.elements // 2:
            self._add(Pad, pads=((0, 1), (1, 0), (0, 0)), value=7, quant=self._quant)

    def sum_with(self, other: str) -> None:
        scaling = add_scaling(_SCALE, _SCALE * float(self._chance.uniform(0.3, 1)), 2 * _SCALE)
        self._add(Add, (other, self.last), **scaling._asdict())

    def sum_with_constant(self) -> None:
        self.sum_with(self._constant((self.shape[-1],)))

    def product(self) -> None:
        multiplier, shift = multiplier_and_shift(0.02)
        self._add(Mul, (self.last, self.last), multiplier=multiplier, shift=shift)

    def product_with_constant(self) -> None:
        multiplier, shift = multiplier_and_shift(0.02)
        self._add(Mul, (self.last, self._constant((self.shape[-1],))), multiplier=multiplier, shift=shift)

    def requantize(self) -> None:
        multiplier, shift = multiplier_and_shift(0.9)
        self._add(Requantize, multiplier=multiplier, shift=shift)

    def lookup(self) -> None:
        self._add(Lookup, function="logistic", table=np.arange(-128, 128).astype(np.int8))

    def transpose(self) -> None:
        self._add(Transpose, permutation=(1, 0, 2), quant=self._quant)

    def resize(self) -> None:
        height, width, _ = self.shape
        rows, columns = (np.arange(size, dtype=np.int32) for size in (height, width))
        self._add(ResizeNearest, rows=rows, columns=columns, quant=self._quant)

    def concat(self) -> None:
        if math.prod(self.shape) < self._limits.elements // 2 and 2 * self.shape[2] <= self._limits.channels:
            self._add(Concat, (self.last, self.last), axis=2, quant=self._quant)

    def copied_constant(self) -> None:
        size = int(self._chance.integers(20, 600))
        kept, self.last = self.last, self._constant((size,))
        self._add(Reshape, shape=(1, 1, size), quant=self._quant)
        self._outputs.append(self.last)
        self.last = kept

    def aside(self, layer: Callable[[], None]) -> None:
        """A layer whose output nobody reads further."""
        kept = self.last
        if len(self._outputs) < 4 or math.prod(self.shape) < 256:
            layer()
            if math.prod(self.shape) <= 512:
                self._outputs.append(self.last)
            else:  # an average of it is small
                self.mean((0, 1))
                self._outputs.append(self.last)
        self.last = kept

    @property
    def _quant(self) -> Quant:
        quant = self.tensors[self.last].quant
        assert quant is not None
        return quant

    def _window(self, kernel: int, stride: int, *, same: bool = False) -> Window:
        height, width = self.shape[:2]
        square, strides = (kernel, kernel), (stride, stride)
        padding = same_padding((height, width), square, strides)
        return Window(square, strides, padding=padding if same or self._chance.random() < 0.85 else Padding())

    def _constant(self, shape: tuple[int, ...]) -> str:
        name = f"constant {len(self._constants)}"
        self.tensors[name] = Tensor(name, shape, Quant(_SCALE, 3))
        self._constants[name] = self._chance.integers(-128, 128, shape).astype(np.int8)
        return name

    def _weighted(
        self, kind: type[AnyLayer], shape: tuple[int, ...], made: int, inputs: int, relu: bool, **others: Any
    ) -> None:
        values = np.clip(self._chance.normal(0, _WEIGHT_DEVIATION, shape), -127, 127).astype(np.int8)
        sums = math.sqrt(inputs) * _WEIGHT_DEVIATION * _INPUT_DEVIATION
        scales = _OUTPUT_DEVIATION / sums * np.exp(self._chance.normal(0, 0.3, made))
        multiplier, shift = zip(*map(multiplier_and_shift, scales.tolist()), strict=True)
        weights = Weights(
            values=values,
            bias=self._chance.normal(0, sums / 4, made).astype(np.int32),
            multiplier=np.array(multiplier, np.int32),
            shift=np.array(shift, np.int8),
        )
        zero = _RELU_ZERO if relu else int(self._chance.integers(-20, 20))
        self._add(kind, weights=weights, activation=Activation(), quant=Quant(_SCALE, zero), **others)

    def _add(
        self, kind: type[Any], inputs: tuple[str, ...] | None = None, *, quant: Quant | None = None, **others: Any
    ) -> None:
        inputs = inputs or (self.last,)
        name = f"{kind.kind} {len(self._layers)}"
        layer = kind(name=name, inputs=inputs, output=name, **others)
        shape = layer.output_shape(*(self.tensors[read].shape for read in inputs))
        self.tensors[name] = Tensor(name, shape, quant or Quant(_SCALE, int(self._chance.integers(-20, 20))))
        self._layers.append(layer)
        self.last = name


def fitting_networks() -> Iterator[tuple[str, bool, Callable[[], Graph]]]:
    """All that are fitted on: names, whether they are small, and what makes them."""
    for seed in range(_MOBILE):
        yield f"mobile {seed}, small", True, partial(mobile_network, seed, SMALL)
        yield f"mobile {seed}, large", False, partial(mobile_network, seed, LARGE)
    for seed in range(_MIXED):
        yield f"mixed {seed}, small", True, partial(mixed_network, seed, SMALL)
