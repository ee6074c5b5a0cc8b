"""The layer kinds of a float network; those that hold no numbers are ``tinymbn.layers``' own.

Weights lie as in the int8 layers, so that quantising changes values and never their order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tinymbn.layers import AveragePool, Layer, MaxPool, Reshape, Shape
from tinymbn.layers.shapes import BinaryShape, Conv2DShape, DenseShape, DepthwiseShape, MeanShape, WeightedShape

FloatActivation = Literal["none", "relu", "relu6"]


def _require_one_of(layer: Layer, activation: str, *known: str) -> None:
    layer._require(activation in known, f"activation {activation!r} is not one of {', '.join(known)}")


@dataclass(frozen=True, eq=False)
class _FloatWeighted(WeightedShape):
    """A layer with weights.

    Attributes:
        weights: float32, finite; the order is the subclass's.
        bias: float32, finite, (C_out,).
        activation: applied to the sum.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: FloatActivation = field(default="none", kw_only=True)

    def _check_weights(self) -> None:
        self._require_inputs(1)
        self._freeze("weights", np.float32, self.rank)
        self._freeze("bias", np.float32, 1)
        self._require(
            self.bias.size == self.weights.shape[self.channel_axis],
            f"weights {self.weights.shape} do not fit {self.bias.size} biases",
        )
        finite = bool(np.isfinite(self.weights).all() and np.isfinite(self.bias).all())
        self._require(finite, "a weight or bias is not a finite number")
        _require_one_of(self, self.activation, "none", "relu", "relu6")

    @property
    def weights_shape(self) -> Shape:
        return self.weights.shape

    def along_channels(self, values: NDArray[Any]) -> NDArray[Any]:
        """One value a channel, (C_out,), shaped so that it broadcasts with the weights."""
        return values.reshape([-1 if axis == self.channel_axis else 1 for axis in range(self.rank)])


@dataclass(frozen=True, eq=False)
class FloatConv2D(Conv2DShape, _FloatWeighted):
    """Convolution; weights ``(C_out, K_h, K_w, C_in)``."""

    def __post_init__(self) -> None:
        self._check_weights()
        self._check_kernel()


@dataclass(frozen=True, eq=False)
class FloatDepthwise(DepthwiseShape, _FloatWeighted):
    """Depthwise convolution; weights ``(K_h, K_w, C_out)``; output c reads input ``c // multiplier``."""

    def __post_init__(self) -> None:
        self._check_weights()
        self._check_kernel()


@dataclass(frozen=True, eq=False)
class FloatDense(DenseShape, _FloatWeighted):
    """Fully connected over the last axis; weights ``(C_out, C_in)``."""

    def __post_init__(self) -> None:
        self._check_weights()


FloatWeighted = FloatConv2D | FloatDepthwise | FloatDense


@dataclass(frozen=True, eq=False)
class BatchNorm(Layer):
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` of each channel; all four float32, (C,)."""

    kind = "batch_norm"

    gamma: NDArray[np.float32]
    beta: NDArray[np.float32]
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        self._require_inputs(1)
        for name in ("gamma", "beta", "mean", "variance"):
            self._freeze(name, np.float32, 1)
            values = getattr(self, name)
            self._require(
                values.shape == self.gamma.shape and bool(np.isfinite(values).all()),
                f"{name} is not {self.gamma.size} finite numbers",
            )
        self._require(bool((self.variance >= 0).all()), "a variance is negative")
        self._require(bool((self.variance + self.epsilon > 0).all()), "a variance and epsilon are both 0")

    @property
    def factor(self) -> NDArray[np.float64]:
        """What a channel is multiplied by, (C,)."""
        deviation = np.sqrt(self.variance.astype(np.float64) + self.epsilon)
        factor: NDArray[np.float64] = self.gamma / deviation
        return factor

    @property
    def offset(self) -> NDArray[np.float64]:
        """What is added to a channel after ``factor``, (C,)."""
        offset: NDArray[np.float64] = self.beta - self.mean * self.factor
        return offset

    def output_shape(self, *inputs: Shape) -> Shape:
        fit = inputs[0][-1] == self.gamma.size
        self._require(fit, f"{self.gamma.size} channels do not fit input {inputs[0]}")
        return inputs[0]

    @property
    def parameters(self) -> int:
        return 4 * int(self.gamma.size)


@dataclass(frozen=True)
class Relu(Layer):
    """``max(x, 0)``, and with "relu6" no more than 6."""

    kind = "relu"

    activation: FloatActivation = "relu"

    def __post_init__(self) -> None:
        self._require_inputs(1)
        _require_one_of(self, self.activation, "relu", "relu6")

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]


@dataclass(frozen=True)
class FloatAdd(BinaryShape):
    """Sum of two tensors, NumPy broadcasting."""

    kind = "add"

    activation: FloatActivation = "none"

    def __post_init__(self) -> None:
        self._require_inputs(2)
        _require_one_of(self, self.activation, "none", "relu", "relu6")


@dataclass(frozen=True)
class FloatMean(MeanShape):
    """Mean over axes, counted without the batch; ``(0, 1)`` of a map is its global average."""

    axes: tuple[int, ...] = (0, 1)
    keep_dims: bool = False

    def __post_init__(self) -> None:
        self._check_axes()


@dataclass(frozen=True)
class FloatSoftmax(Layer):
    """Softmax over the last axis."""

    kind = "softmax"

    def __post_init__(self) -> None:
        self._require_inputs(1)

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]


@dataclass(frozen=True)
class FloatLogistic(Layer):
    """``1 / (1 + exp(-x))``, the sigmoid."""

    kind = "logistic"

    def __post_init__(self) -> None:
        self._require_inputs(1)

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]


AnyFloatLayer = (
    FloatConv2D
    | FloatDepthwise
    | FloatDense
    | BatchNorm
    | Relu
    | FloatAdd
    | FloatMean
    | FloatSoftmax
    | FloatLogistic
    | AveragePool
    | MaxPool
    | Reshape
)
