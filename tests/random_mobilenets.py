"""Random networks of MobileNets' layers: shapes, strides and channels at random, numbers as in trained ones or wild."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinymbn.fixedpoint import multiplier_and_shift
from tinymbn.graph import Graph, Quant, Tensor
from tinymbn.layers import (
    Activation,
    Add,
    AnyLayer,
    AveragePool,
    Conv2D,
    Dense,
    Depthwise,
    Mean,
    Padding,
    Shape,
    Weights,
    Window,
    same_padding,
)

DILATED = 1000
_MOST_ELEMENTS = 40_000  # of one map


class _Growing:
    def __init__(self, seed: int) -> None:
        self.chance = np.random.default_rng(seed)
        self.dilated = False
        self.layers: list[AnyLayer] = []
        self.tensors: dict[str, Tensor] = {}
        height, width = self.integer(1, 33), self.integer(1, 52)
        self.last = self._declare("x", (height, width, self.integer(1, 6)), self.integer(-128, 127))

    def integer(self, low: int, high: int) -> int:
        """Both ends included."""
        return int(self.chance.integers(low, high + 1))

    def often(self, share: float) -> bool:
        return bool(self.chance.random() < share)

    @property
    def shape(self) -> Shape:
        return self.tensors[self.last].shape

    def channels(self) -> int:
        return int(self.chance.choice([1, 2, 3, 5, 7, 8, 11, 16, 17, 23, 24, 32, 37, 48]))

    def _declare(self, name: str, shape: Shape, zero_point: int) -> str:
        self.tensors[name] = Tensor(name, shape, Quant(0.5, zero_point))
        return name

    def add(self, make: Callable[..., AnyLayer], zero_point: int, *inputs: str, **arguments: Any) -> None:
        name = f"layer {len(self.layers)}"
        layer = make(name, inputs or (self.last,), name, **arguments)
        shapes = [self.tensors[other].shape for other in layer.inputs]
        self.layers.append(layer)
        self.last = self._declare(name, layer.output_shape(*shapes), zero_point)

    def convolve(self, make: Callable[..., AnyLayer], shape: Shape, axis: int, *, linear: bool, **others: Any) -> None:
        """A layer with weights, most of them scaled so that outputs use their range."""
        count = shape[axis]
        taps = int(np.prod(shape)) // count
        values = self.chance.integers(-127 - self.often(0.1), 128, shape).astype(np.int8)
        if self.often(0.1):
            values = self.chance.choice(np.array([-128, -127, 0, 127], np.int8), shape)
        scale = 100 / (75 * 75 * max(taps, 1) ** 0.5)
        scales = [multiplier_and_shift(float(scale * 2 ** self.chance.normal())) for _ in range(count)]
        if self.often(0.1):  # a channel that is nowhere near
            scales[0] = (2**30 + 1, self.integer(-31, 8))
        bias = (self.chance.normal(size=count) * 3000 * taps**0.5).astype(np.int32)
        weights = Weights(
            values=values,
            bias=bias,
            multiplier=np.array([m for m, _ in scales], np.int32),
            shift=np.array([s for _, s in scales], np.int8),
            zero_point=self.integer(-128, 127) if self.often(0.1) else 0,
        )
        zero_point = self.integer(-128, 127) if linear else -128
        activation = Activation(-128, self.integer(60, 126)) if not linear and self.often(0.15) else Activation()
        self.add(make, zero_point, weights=weights, activation=activation, **others)

    def window(self, kernel: int, stride: int) -> Window:
        height, width, _ = self.shape
        if self.often(0.75) or min(height, width) < kernel:
            padding = same_padding((height, width), (kernel, kernel), (stride, stride))
        else:
            padding = Padding(*(self.integer(0, kernel // 2) for _ in range(4)))
        return Window((kernel, kernel), (stride, stride), (1, 1), padding)

    def first(self) -> None:
        window = self.window(int(self.chance.choice([3, 3, 3, 1, 2, 5])), self.integer(1, 2))
        if self.often(0.2) and self.shape[2] == 1:
            count = self.channels()
            self.convolve(Depthwise, (*window.kernel, count), 2, linear=False, window=window)
        else:
            shape = (self.channels(), *window.kernel, self.shape[2])
            self.convolve(Conv2D, shape, 0, linear=False, window=window)

    def pointwise(self, count: int | None = None, *, linear: bool = False) -> None:
        shape = (count or self.channels(), 1, 1, self.shape[2])
        self.convolve(Conv2D, shape, 0, linear=linear, window=Window((1, 1)))

    def depthwise(self, stride: int | None = None) -> None:
        window = self.window(3 if self.often(0.85) else 5, stride or self.integer(1, 2))
        self.convolve(Depthwise, (*window.kernel, self.shape[2]), 2, linear=self.often(0.1), window=window)

    def separable(self) -> None:
        self.depthwise()
        self.pointwise()

    def residual(self) -> None:
        """An inverted bottleneck, its input added where shapes allow."""
        start, channels = self.last, self.shape[2]
        self.pointwise(min(80, channels * self.integer(1, 4)))
        self.depthwise(stride=1)
        self.pointwise(channels, linear=True)
        if self.tensors[start].shape == self.shape:
            scaling = {"a_multiplier": 2**30, "a_shift": 0, "b_multiplier": self.integer(2**30, 2**31 - 1)}
            scaling |= {"b_shift": -self.integer(1, 3), "output_multiplier": self.integer(2**30, 2**31 - 1)}
            operands = (start, self.last) if self.often(0.5) else (self.last, start)
            self.add(Add, self.integer(-128, 127), *operands, **scaling, output_shift=-self.integer(17, 19))

    def any_window(self) -> Window:
        """Up to 7 x 7, with strides up to 3 of their own, padded anyhow."""
        height, width, _ = self.shape
        kernel = min(self.integer(1, 7), height), min(self.integer(1, 7), width)
        stride = (self.integer(1, 3), self.integer(1, 3)) if self.often(0.5) else (1, 1)
        dilation = (1, 1)
        if self.dilated:
            kernel = min(kernel[0], 4), min(kernel[1], 4)
            most_h, most_w = ((n - 1) // max(k - 1, 1) for n, k in zip((height, width), kernel, strict=True))
            dilation = self.integer(1, max(1, min(3, most_h))), self.integer(1, max(1, min(3, most_w)))
        extent = Window(kernel, stride, dilation).extent
        if self.often(0.5):
            padding = same_padding((height, width), extent, stride)
        else:
            (top, bottom), (left, right) = ([self.integer(0, size - 1) for _ in range(2)] for size in extent)
            padding = Padding(top, bottom, left, right)
        return Window(kernel, stride, dilation, padding)

    def any_channels(self) -> int:
        """1 to 300, most of them few, some of them primes."""
        return int(self.chance.choice([1, 2, 3, 5, 7, 11, 13, 15, 16, 17, 31, 32, 33, 48, 61, 64, 127, 130, 257, 300]))

    def chain(self) -> None:
        """Five layers of maps."""
        for _ in range(5):
            kind = self.integer(0, 3)
            if kind == 0 or np.prod(self.shape) > _MOST_ELEMENTS:
                self.pointwise(self.any_channels() if np.prod(self.shape[:2]) < 150 else self.channels())
            elif kind == 1:
                window = self.any_window()
                count = int(self.chance.choice([1, 2, 5, 8, 9, 16]))
                self.convolve(Conv2D, (count, *window.kernel, self.shape[2]), 0, linear=self.often(0.3), window=window)
            elif kind == 2:
                window = self.any_window()
                self.convolve(Depthwise, (*window.kernel, self.shape[2]), 2, linear=self.often(0.3), window=window)
            else:
                self.residual()

    def end(self) -> Graph:
        if self.often(0.7):
            if self.often(0.5):
                self.add(
                    AveragePool,
                    self.tensors[self.last].zero_point,
                    window=Window((self.shape[0], self.shape[1])),
                    unsigned=False,
                )
            else:
                multiplier, shift = multiplier_and_shift(1.3 / (self.shape[0] * self.shape[1]))
                arguments = {"axes": (0, 1), "keep_dims": False, "multiplier": multiplier, "shift": shift}
                self.add(Mean, self.integer(-128, 127), **arguments)
                count = self.channels()
                self.convolve(Dense, (count, self.shape[-1]), 0, linear=True)
        return Graph("random mobilenet", self.tensors, tuple(self.layers), "x", (self.last,))


def random_mobilenet(seed: int) -> Graph:
    """A network of up to eight blocks; the same seed gives the same one."""
    g = _Growing(seed)
    g.first()
    for _ in range(g.integer(1, 7)):
        if np.prod(g.shape) > _MOST_ELEMENTS:
            break
        [g.separable, g.separable, g.residual, g.pointwise, g.depthwise][g.integer(0, 4)]()
    return g.end()


def random_chain(seed: int) -> Graph:
    """Layers of MobileNets' kinds as no MobileNet has them: any window, stride and count of channels.

    From seed DILATED on, windows are dilated, too.
    """
    g = _Growing(seed)
    g.dilated = seed >= DILATED
    g.chain()
    return g.end()
