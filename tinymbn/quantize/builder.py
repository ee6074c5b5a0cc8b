"""Builds float MobileNets of any alpha and resolution, with weights of one's own or random ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinymbn.architectures import INPUT, Architecture, Stage
from tinymbn.errors import ModelError, OptionError
from tinymbn.layers import Padding, Shape, Window, same_padding
from tinymbn.preprocessing import Preprocessing
from tinymbn.quantize.float_graph import FloatGraph
from tinymbn.quantize.float_layers import (
    AnyFloatLayer,
    BatchNorm,
    FloatAdd,
    FloatConv2D,
    FloatDense,
    FloatDepthwise,
    FloatMean,
    FloatSoftmax,
    Relu,
)

Array = NDArray[np.float32]

MAX_RESOLUTION = 4096
MAX_CLASSES = 4095  # softmax sums no more
INPUT_RANGE = (-1.0, 1.0)  # of the real input, as MobileNets are trained
_EPSILON = 1e-3  # of batch-norms, as in the reference implementations
_PREPROCESSING = Preprocessing.of_range(*INPUT_RANGE, origin="file")

BorderRule = Literal["same", "symmetric", "after"]


def build(
    architecture: Architecture,
    resolution: int | tuple[int, int],
    classes: int,
    *,
    channels: int = 3,
    parameters: Mapping[str, Array] | None = None,
    epsilon: float = _EPSILON,
    padding: BorderRule = "same",
    preprocessing: Preprocessing = _PREPROCESSING,
    seed: int = 0,
) -> FloatGraph:
    """A float network.

    Args:
        architecture: its stages.
        resolution: height and width of the picture; or (height, width).
        classes: of the dense layer.
        channels: of the picture, 1 or 3.
        parameters: by name: for a stage ``<stage>/weights`` (C_out, K_h, K_w, C_in), of a depthwise one (K_h, K_w, C),
            and ``<stage>/gamma``, ``/beta``, ``/mean``, ``/variance`` (C_out,) of its batch-norm; ``dense/weights``
            (classes, C), ``dense/bias`` (classes,). None: random weights, batch-norms that change nothing.
        epsilon: of batch-norms.
        padding: "same" as TensorFlow has it, the odd row after; "symmetric" as PyTorch has it, half a kernel on each
            side; "after" as Keras' MobileNet has it: "same", but for one row and column after what a depthwise layer
            of stride 2 reads, which differs where that is odd.
        preprocessing: from picture to real values.
        seed: of random weights.

    Raises:
        OptionError: a size that is no picture's, or no classes.
        ModelError: a parameter is missing, unknown, or of another shape.
    """
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    for what, number, least, most in (
        ("resolution", height, 1, MAX_RESOLUTION),
        ("resolution", width, 1, MAX_RESOLUTION),
        ("classes", classes, 1, MAX_CLASSES),
        ("channels", channels, 1, 3),
    ):
        if not least <= number <= most or (what == "channels" and number == 2):
            expected = "1 or 3" if what == "channels" else f"{least} to {most}"
            raise OptionError(f"{what} {number}; expected {expected}")
    source = _Given(parameters) if parameters is not None else _Random(seed)
    layers: list[AnyFloatLayer] = []
    shapes: dict[str, Shape] = {INPUT: (height, width, channels)}
    for stage in architecture.stages:
        layers += _stage_layers(stage, shapes, source, epsilon, padding)
    made = architecture.stages[-1].made
    features = shapes[made][2]
    layers += [
        FloatMean("average", (made,), "average"),
        FloatDense(
            "dense",
            ("average",),
            "logits",
            source.get("dense/weights", (classes, features)),
            source.get("dense/bias", (classes,)),
        ),
        FloatSoftmax("softmax", ("logits",), "scores"),
    ]
    source.finish()
    size = f"{height}" if height == width else f"{height}x{width}"
    return FloatGraph(
        name=f"{architecture.name}_{architecture.alpha:g}_{size}",
        input=INPUT,
        input_shape=(height, width, channels),
        layers=tuple(layers),
        outputs=("scores",),
        preprocessing=preprocessing,
    )


def _stage_layers(
    stage: Stage, shapes: dict[str, Shape], source: _Parameters, epsilon: float, padding: BorderRule
) -> list[AnyFloatLayer]:
    """The layers of a stage; its tensor's shape joins ``shapes``."""
    height, width, read = shapes[stage.reads]
    square, strides = (stage.kernel, stage.kernel), (stage.stride, stage.stride)
    half = stage.kernel // 2
    around = same_padding((height, width), square, strides)
    if padding == "symmetric":
        around = Padding(half, half, half, half)
    elif padding == "after" and stage.kind == "depthwise" and stage.stride == 2:
        around = Padding(bottom=1, right=1)
    window = Window(square, strides, padding=around)
    sums, normal = f"{stage.name}/sums", f"{stage.name}/normal" if stage.relu6 else stage.name
    no_bias = np.zeros(stage.channels, np.float32)
    first: AnyFloatLayer
    if stage.kind == "depthwise":
        weights = source.get(f"{stage.name}/weights", (*square, read))
        first = FloatDepthwise(stage.name, (stage.reads,), sums, weights, no_bias, window)
    else:
        weights = source.get(f"{stage.name}/weights", (stage.channels, *square, read))
        first = FloatConv2D(stage.name, (stage.reads,), sums, weights, no_bias, window)
    gamma, beta, mean, variance = (
        source.get(f"{stage.name}/{name}", (stage.channels,)) for name in ("gamma", "beta", "mean", "variance")
    )
    layers: list[AnyFloatLayer] = [first]
    layers.append(BatchNorm(f"{stage.name}/norm", (sums,), normal, gamma, beta, mean, variance, epsilon))
    if stage.relu6:
        layers.append(Relu(f"{stage.name}/relu6", (normal,), stage.name, "relu6"))
    shapes[stage.name] = first.output_shape(shapes[stage.reads])
    if stage.adds:
        layers.append(FloatAdd(stage.made, (stage.adds, stage.name), stage.made))
        shapes[stage.made] = shapes[stage.name]
    return layers


class _Random:
    """Weights so wide that values keep their size through a ReLU (He et al. 2015); batch-norms that change nothing."""

    def __init__(self, seed: int) -> None:
        self._chance = np.random.default_rng(seed)

    def get(self, name: str, shape: Shape) -> Array:
        kind = name.rpartition("/")[2]
        if kind in ("gamma", "variance"):
            return np.ones(shape, np.float32)
        if kind in ("beta", "mean", "bias"):
            return np.zeros(shape, np.float32)
        inputs = math.prod(shape[:2]) if len(shape) == 3 else math.prod(shape[1:])
        return self._chance.normal(0, math.sqrt(2 / inputs), shape).astype(np.float32)

    def finish(self) -> None:
        """Nothing can be left over."""


class _Given:
    """Parameters by name, each of which has to be used."""

    def __init__(self, parameters: Mapping[str, Array]) -> None:
        self._left = dict(parameters)

    def get(self, name: str, shape: Shape) -> Array:
        if name not in self._left:
            raise ModelError(f'parameter "{name}" is missing; expected an array of shape {shape}')
        values = np.asarray(self._left.pop(name), np.float32)
        if values.shape != shape:
            raise ModelError(f'parameter "{name}" has shape {values.shape}; expected {shape}')
        if not np.isfinite(values).all():
            raise ModelError(f'parameter "{name}" has values that are not finite numbers')
        return values

    def finish(self) -> None:
        """Complain about what no layer has taken."""
        if self._left:
            raise ModelError(f'parameter "{next(iter(self._left))}" belongs to no layer')


_Parameters = _Random | _Given
