"""Tiny graphs for tests: small distinct numbers, so that a swapped axis shows."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.fixedpoint import DENSE_STEPS
from tinymbn.graph import Graph, Quant, Source, Tensor
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
    Shape,
    Softmax,
    Transpose,
    Weights,
    Window,
)
from tinymbn.preprocessing import Preprocessing

ONE = (2**30, 1)  # multiplier and shift of the factor 1


def weights(*shape: int, channels: int, zero_point: int = 0) -> Weights:
    """Weights 1, 2, 3, ... and biases 10, 20, ..., scaled by 1/16."""
    count = int(np.prod(shape))
    return Weights(
        values=((np.arange(count) % 100) + 1).astype(np.int8).reshape(shape),
        bias=(10 * np.arange(1, channels + 1)).astype(np.int32),
        multiplier=np.full(channels, 2**30, np.int32),
        shift=np.full(channels, -3, np.int8),
        zero_point=zero_point,
    )


def classifier() -> Graph:
    """A 4x5x2 input through every kind of field that a model file has; 3 classes."""
    quant = Quant(0.5, -3)
    tensors = [
        Tensor("input", (4, 5, 2), quant),
        Tensor("conv", (2, 3, 3), quant),
        Tensor("bias", (3,), Quant(0.25, 1)),
        Tensor("added", (2, 3, 3), quant),
        Tensor("table", (2, 3, 3), quant),
        Tensor("resized", (4, 2, 3), quant),
        Tensor("mean", (3,), quant),
        Tensor("logits", (3,), quant),
        Tensor("scores", (3,), Quant(1 / 256, -128)),
    ]
    return Graph(
        name="tiny",
        tensors={tensor.name: tensor for tensor in tensors},
        layers=(
            Conv2D(
                name="conv",
                inputs=("input",),
                output="conv",
                weights=weights(3, 3, 2, 2, channels=3),
                activation=Activation(-3, 100),
                window=Window((3, 2), (2, 2), (1, 1), Padding(0, 1, 0, 1)),
            ),
            Add("added", ("conv", "bias"), "added", *ONE[:1], 0, 2**30, 0, 2**30, -19),
            Lookup("table", ("added",), "table", "logistic", np.arange(-128, 128, dtype=np.int8)),
            ResizeNearest(
                "resized", ("table",), "resized", np.array([0, 0, 1, 1], np.int32), np.array([0, 2], np.int32)
            ),
            Mean("mean", ("resized",), "mean", (0, 1), False, 2**30, -2),
            Dense(
                name="logits",
                inputs=("mean",),
                output="logits",
                weights=weights(3, 3, channels=3),
                activation=Activation(),
            ),
            Softmax("scores", ("logits",), "scores", 2**30, 23, -248),
        ),
        input="input",
        outputs=("scores",),
        constants={"bias": np.array([1, 2, 3], np.int8)},
        labels=("cat", "dög", "owl"),
        preprocessing=Preprocessing("crop", "bgr", (1.0, 2.5), (0.1, 127.5), "user"),
        source=Source("tiny.tflite", "ab" * 32),
    )


def every_kernel(name: str = "every kernel") -> Graph:
    """A layer for each kernel that there is, and two outputs."""
    g = _Chain((6, 5, 3))
    around = Padding(1, 1, 1, 1)
    low = Activation(-128, 90)
    g.add(Conv2D, weights=weights(3, 3, 3, 3, channels=3), activation=low, window=Window((3, 3), padding=around))
    kept = g.last
    w = weights(2, 3, 3, channels=3, zero_point=5)
    g.add(Depthwise, weights=w, activation=Activation(), window=Window((2, 3), dilation=(2, 1), padding=around))
    g.add(Add, ("x", g.last), scaling=(2**30, 0, 2**30, 0, 2**30, -18))
    g.add(Mul, (g.last, kept), scaling=(2**30, -4))
    g.add(Mul, (g.last, g.constant((3,))), scaling=(2**30, -4))
    g.add(Add, (g.last, g.constant((5, 1))), scaling=(2**30, 0, 2**30, -1, 2**30, -18))
    g.add(Conv2D, weights=weights(4, 1, 1, 3, channels=4), activation=Activation(), window=Window((1, 1)))
    g.add(Pad, pads=((0, 1), (1, 0), (0, 0)), value=-7)
    g.add(AveragePool, window=Window((2, 2), (2, 2)), activation=Activation(), unsigned=True)
    g.add(ResizeNearest, rows=np.array([0, 0, 1, 2], np.int32), columns=np.array([0, 1, 2, 2], np.int32))
    g.add(MaxPool, window=Window((2, 2), (1, 1), padding=Padding(1, 0, 0, 1)), activation=Activation())
    g.add(Transpose, permutation=(1, 0, 2))
    g.add(Concat, (g.last, g.last), axis=2)
    g.add(Requantize, scaling=(2**30 + 12345, 1), activation=Activation(-20, 120))
    g.add(Lookup, function="hard_swish", table=np.arange(127, -129, -1).astype(np.int8))
    flat = g.last
    g.add(Reshape, (g.constant((2, 2)),), shape=(4,))
    g.add(Mean, (flat,), axes=(0, 1), keep_dims=False, scaling=(2**30, -3))
    g.add(Dense, weights=weights(4, 8, channels=4, zero_point=-3), activation=Activation())
    steps = (np.arange(1, DENSE_STEPS + 1, dtype=np.int32) * np.array([[3], [5], [700]], np.int32)).astype(np.int32)
    g.add(Dense, weights=weights(3, 4, channels=3), activation=Activation(), steps=steps)
    g.add(Softmax, scaling=(2**30, 23, -248))
    return Graph(name, g.tensors, tuple(g.layers), "x", (g.last, flat), g.constants)


class _Chain:
    """Layers that each read what the last one made, unless said otherwise."""

    def __init__(self, shape: Shape) -> None:
        self.tensors = {"x": Tensor("x", shape, Quant(0.5, -3))}
        self.constants: dict[str, NDArray[np.int8]] = {}
        self.layers: list[AnyLayer] = []
        self.last = "x"

    def constant(self, shape: Shape) -> str:
        name = f"constant{len(self.constants)}"
        self.tensors[name] = Tensor(name, shape, Quant(0.25, 9))
        self.constants[name] = np.arange(11, 11 + int(np.prod(shape)), dtype=np.int8).reshape(shape)
        return name

    def add(
        self, kind: Any, inputs: tuple[str, ...] | None = None, *, scaling: tuple[int, ...] = (), **arguments: Any
    ) -> None:
        self.last, inputs = f"y{len(self.layers)}", inputs or (self.last,)
        names = [field.name for field in fields(kind) if "multiplier" in field.name or "shift" in field.name]
        names += ["diff_min"] if kind is Softmax else []
        arguments |= dict(zip(names, scaling, strict=True))
        layer = kind(name=f"{kind.kind} {len(self.layers)}", inputs=inputs, output=self.last, **arguments)
        shape = layer.output_shape(*(self.tensors[name].shape for name in inputs))
        quant = Quant(1 / 256, -128) if kind is Softmax else Quant(0.5, len(self.layers))
        self.tensors[self.last] = Tensor(self.last, shape, quant)
        self.layers.append(layer)
