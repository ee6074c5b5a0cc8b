"""One function a layer class of Keras: from its configuration and what it reads to layers of a float graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tinymbn.errors import UnsupportedError
from tinymbn.importers.keras.file import Config
from tinymbn.importers.keras.lowering import KerasLowering
from tinymbn.importers.scaling import Arithmetic, factor_and_offset
from tinymbn.importers.weights import Array
from tinymbn.layers import AveragePool, MaxPool, Padding, Reshape
from tinymbn.quantize import BatchNorm, FloatAdd, FloatConv2D, FloatDense, FloatDepthwise, FloatMean

Operand = str | float
"""A layer that is read, or a number."""


def check(config: Config) -> None:
    """Refuse what no shape is needed to refuse."""
    if config.get("data_format", "channels_last") != "channels_last":
        raise UnsupportedError("channels first; expected channels last")
    if _activation(config) not in ("linear", "relu", "relu6", "softmax", "sigmoid"):
        raise UnsupportedError(f"activation {_activation(config)}")


def _activation(config: Config) -> str:
    """The name of a layer's own activation; Keras 3 may write a function where Keras 2 wrote its name."""
    activation = config.get("activation") or "linear"
    return str(activation.get("config")) if isinstance(activation, Mapping) else str(activation)


def _bias(config: Config) -> list[str]:
    return ["bias"] if config.get("use_bias", True) else []


def _by_channel(kernel: Array) -> Array:
    """A depthwise kernel, (K_h, K_w, C_in, multiplier), as (K_h, K_w, C_out)."""
    return kernel.reshape(*kernel.shape[:2], -1)


def _sums(name: str, config: Config) -> str:
    """The tensor that a layer makes before its own activation."""
    return name if _activation(config) == "linear" else f"{name}/sums"


def convolution(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """Conv2D."""
    if config.get("groups", 1) != 1:
        raise UnsupportedError(f"{config['groups']} groups")
    kernel, *bias = low.arrays(name, "kernel", *_bias(config))
    weights = np.ascontiguousarray(kernel.transpose(3, 0, 1, 2))
    _convolve(low, FloatConv2D, name, config, sources, weights, *bias)


def depthwise(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """DepthwiseConv2D."""
    kernel, *bias = low.arrays(name, "depthwise_kernel", *_bias(config))
    _convolve(low, FloatDepthwise, name, config, sources, _by_channel(kernel), *bias)


def separable(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """SeparableConv2D: a depthwise convolution and a 1x1 one."""
    kernel, pointwise, *bias = low.arrays(name, "depthwise_kernel", "pointwise_kernel", *_bias(config))
    first = f"{name}/depthwise"
    _convolve(low, FloatDepthwise, first, {**config, "activation": "linear"}, sources, _by_channel(kernel))
    weights = np.ascontiguousarray(pointwise.transpose(3, 0, 1, 2))
    plain = {"strides": (1, 1), "padding": "valid", "activation": config["activation"]}
    _convolve(low, FloatConv2D, name, plain, [first], weights, *bias)


def _convolve(
    low: KerasLowering,
    kind: type[FloatConv2D | FloatDepthwise],
    name: str,
    config: Config,
    sources: Sequence[str],
    weights: Array,
    bias: Array | None = None,
) -> None:
    height, width = weights.shape[1:3] if kind is FloatConv2D else weights.shape[:2]
    if bias is None:
        bias = np.zeros(weights.shape[0 if kind is FloatConv2D else 2], np.float32)
    window = low.window(config, (height, width), sources[0])
    made = _sums(name, config)
    low.add(kind(name, (low.tensor(sources[0]),), made, weights, bias, window), name)
    low.finish(name, _activation(config), made)


def batch_norm(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """BatchNormalization."""
    _require_last(low, config, sources[0])
    scale, center = config.get("scale", True), config.get("center", True)
    expected = [*(["gamma"] if scale else []), *(["beta"] if center else []), "moving_mean", "moving_variance"]
    arrays = dict(zip(expected, low.arrays(name, *expected), strict=True))
    mean, variance = arrays["moving_mean"], arrays["moving_variance"]
    gamma, beta = arrays.get("gamma", np.ones_like(mean)), arrays.get("beta", np.zeros_like(mean))
    low.add(BatchNorm(name, (low.read(sources[0]),), name, gamma, beta, mean, variance, float(config["epsilon"])), name)


def _require_last(low: KerasLowering, config: Config, source: str) -> None:
    axes = config.get("axis", -1)
    axes = axes if isinstance(axes, list) else [axes]
    if axes not in ([-1], [len(low.shape(source))]):  # the file counts the batch
        raise UnsupportedError(f"axis {axes}; expected the last")


def rescaling(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """Rescaling."""
    low.scale(name, sources[0], config["scale"], config["offset"])


def normalization(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """Normalization."""
    _require_last(low, config, sources[0])
    if config.get("invert"):
        raise UnsupportedError("inverted")
    mean, variance = config.get("mean"), config.get("variance")
    if mean is None or variance is None:
        mean, variance = low.arrays(name, "mean", "variance")
    deviation = np.maximum(np.sqrt(np.asarray(variance, np.float64)), 1e-7)  # Keras' epsilon
    low.scale(name, sources[0], 1 / deviation, -np.asarray(mean, np.float64) / deviation)


def activation(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """Activation."""
    low.finish(name, _activation(config), low.read(sources[0]))


def relu(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """ReLU."""
    highest = config.get("max_value")
    if config.get("negative_slope") or config.get("threshold") or highest not in (None, 6):
        raise UnsupportedError("a ReLU that is neither RELU nor RELU6")
    low.finish(name, "relu" if highest is None else "relu6", low.read(sources[0]))


def sigmoid(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """The operation sigmoid."""
    low.finish(name, "sigmoid", low.read(sources[0]))


def softmax(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """Softmax."""
    _require_last(low, config, sources[0])
    low.finish(name, "softmax", low.read(sources[0]))


def dense(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """Dense."""
    kernel, *bias = low.arrays(name, "kernel", *_bias(config))
    weights = np.ascontiguousarray(kernel.T)
    biases = bias[0] if bias else np.zeros(len(weights), np.float32)
    made = _sums(name, config)
    low.add(FloatDense(name, (low.read(sources[0]),), made, weights, biases), name)
    low.finish(name, _activation(config), made)


def add(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """Add."""
    if len(sources) != 2:
        raise UnsupportedError(f"{len(sources)} inputs; expected 2")
    low.add(FloatAdd(name, (low.read(sources[0]), low.read(sources[1])), name), name)


def average_pool(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """AveragePooling2D."""
    read, window = low.read(sources[0]), low.window(config, tuple(config["pool_size"]), sources[0])
    low.add(AveragePool(name, (read,), name, window), name)


def max_pool(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """MaxPooling2D."""
    read, window = low.read(sources[0]), low.window(config, tuple(config["pool_size"]), sources[0])
    low.add(MaxPool(name, (read,), name, window), name)


def global_average(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """GlobalAveragePooling2D."""
    keep = bool(config.get("keepdims", False))
    low.add(FloatMean(name, (low.read(sources[0]),), name, (0, 1), keep), name)


def reshape(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """Reshape and Flatten."""
    read = low.read(sources[0])
    elements = math.prod(low.shape(sources[0]))
    target = tuple(config.get("target_shape", (elements,)))
    if -1 in target:
        rest = -math.prod(target)
        target = tuple(elements // rest if size == -1 else size for size in target)
    low.add(Reshape(name, (read,), name, target), name)


def zero_padding(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """ZeroPadding2D: the window that follows takes it in."""
    (top, bottom), (left, right) = config["padding"]
    low.pad(name, sources[0], Padding(top, bottom, left, right))


def nothing(low: KerasLowering, name: str, config: Config, sources: Sequence[str]) -> None:
    """Dropout and the like."""
    low.alias(name, sources[0])


def arithmetic(operation: Arithmetic, operands: Sequence[Operand]) -> tuple[Array, Array]:
    """The factor and offset that a number makes of a tensor; one of the operands is one."""
    numbers = [operand for operand in operands if not isinstance(operand, str)]
    if len(operands) != 2 or len(numbers) != 1:
        raise UnsupportedError(f"{len(numbers)} numbers among {len(operands)} operands; expected a tensor and a number")
    return factor_and_offset(operation, numbers[0], first=not isinstance(operands[0], str))


ARITHMETIC: Mapping[str, Arithmetic] = {"Add": "add", "Multiply": "mul", "Subtract": "sub", "TrueDivide": "div"}
"""Operations of a tensor and a number, by the names of Keras 3."""

FUNCTIONS: Mapping[str, str] = {
    "__operators__.add": "Add",
    "math.add": "Add",
    "math.multiply": "Multiply",
    "math.sigmoid": "Sigmoid",
    "math.subtract": "Subtract",
    "math.truediv": "TrueDivide",
}
"""The same in Keras 2."""

_OF_TRAINING = (
    "Identity",
    "Dropout",
    "SpatialDropout2D",
    "GaussianDropout",
    "GaussianNoise",
    "ActivityRegularization",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "RandomContrast",
    "RandomBrightness",
)
"""Layers that pass on what they read, but for training."""

KINDS: Mapping[str, Callable[[KerasLowering, str, Config, Sequence[str]], None]] = {
    "Conv2D": convolution,
    "DepthwiseConv2D": depthwise,
    "SeparableConv2D": separable,
    "BatchNormalization": batch_norm,
    "Rescaling": rescaling,
    "Normalization": normalization,
    "Activation": activation,
    "ReLU": relu,
    "Sigmoid": sigmoid,
    "Softmax": softmax,
    "Dense": dense,
    "Add": add,
    "AveragePooling2D": average_pool,
    "MaxPooling2D": max_pool,
    "GlobalAveragePooling2D": global_average,
    "Reshape": reshape,
    "Flatten": reshape,
    "ZeroPadding2D": zero_padding,
    **dict.fromkeys(_OF_TRAINING, nothing),
}
