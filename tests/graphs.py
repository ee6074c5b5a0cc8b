"""Tiny graphs for tests: small distinct numbers, so that a swapped axis shows."""

from __future__ import annotations

import numpy as np

from tinymbn.graph import Graph, Quant, Source, Tensor
from tinymbn.layers import (
    Activation,
    Add,
    Conv2D,
    Dense,
    Lookup,
    Mean,
    Padding,
    ResizeNearest,
    Softmax,
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
