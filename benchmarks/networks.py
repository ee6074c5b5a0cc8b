"""Makes the networks that no file provides: int8 MobileNets of random weights whose activations are as in trained ones.

Each batch-norm holds the mean and variance that its tensor really has on random smooth pictures, so that at any depth
values neither die nor run away, and calibrated ranges are used whole.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tinymbn import architectures
from tinymbn.architectures import INPUT, Architecture, Stage
from tinymbn.graph import Graph
from tinymbn.interpreter import Interpreter
from tinymbn.layers import Conv2D, Depthwise, Shape, Window, same_padding
from tinymbn.model_file import save_model
from tinymbn.quantize import (
    AnyFloatLayer,
    BatchNorm,
    FloatAdd,
    FloatConv2D,
    FloatDense,
    FloatDepthwise,
    FloatGraph,
    FloatInterpreter,
    FloatMean,
    FloatSoftmax,
    Relu,
    quantize,
)
from tinymbn.terminal import shape_text

Array = NDArray[np.float32]

INPUT_RANGE = (-1.0, 1.0)  # of the real input, as Keras preprocesses for MobileNets

_PICTURES = 8  # for statistics and calibration
_LOGIT_DEVIATION = 2.0  # scores that are neither all the same nor all 0 and 1


def mobilenet_v1(
    alpha: float, height: int, width: int, channels: int, classes: int, *, divisor: int = 8, seed: int = 0
) -> Graph:
    """MobileNetV1 with an ordinary 3x3 convolution first, int8.

    Args:
        alpha: the width multiplier.
        height: of the picture.
        width: of the picture.
        channels: of the picture.
        classes: of the dense layer behind the global average.
        divisor: channel counts are multiples of it; 1: they are cut to whole numbers as they come.
        seed: the same gives the same network on one computer; elsewhere a sum of floats may round differently.
    """
    network = _Builder((height, width, channels), seed)
    tensor = network.stages(architectures.mobilenet_v1(alpha, divisor=divisor))
    return network.finish(_name("v1", alpha, (height, width, channels), divisor), tensor, classes)


def mobilenet_v2(
    alpha: float, height: int, width: int, channels: int, classes: int, *, divisor: int = 8, seed: int = 0
) -> Graph:
    """MobileNetV2, int8: inverted residuals, bottlenecks without activation, ADDs; arguments as ``mobilenet_v1``."""
    network = _Builder((height, width, channels), seed)
    tensor = network.stages(architectures.mobilenet_v2(alpha, divisor=divisor))
    return network.finish(_name("v2", alpha, (height, width, channels), divisor), tensor, classes)


NETWORKS: Mapping[str, Callable[[], Graph]] = MappingProxyType(
    {
        "mobilenet_v1_0.35_100x100x3_uneven": partial(mobilenet_v1, 0.35, 100, 100, 3, 10, divisor=1),
        "mobilenet_v1_0.25_96x96x1": partial(mobilenet_v1, 0.25, 96, 96, 1, 10),
        "mobilenet_v2_0.35_96x96x3": partial(mobilenet_v2, 0.35, 96, 96, 3, 10),
    }
)


def network_file(name: str, folder: Path) -> Path:
    """The ``.npz`` of one of NETWORKS in a folder; made where this very version of the module has not made it yet."""
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    path = folder / digest / f"{name}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(NETWORKS[name](), path)
    return path


def _name(version: str, alpha: float, shape: Shape, divisor: int) -> str:
    return f"mobilenet_{version}_{alpha:g}_{shape_text(shape)}{'_uneven' if divisor == 1 else ''}"


def smooth_pictures(shape: tuple[int, int, int], count: int, chance: np.random.Generator) -> Array:
    """Random pictures (count, H, W, C) in -1..1: structure of every size, the coarse strongest, as in photographs."""
    height, width, channels = shape
    pictures = np.zeros((count, height, width, channels))
    cells = 2
    while cells <= max(height, width):
        coarse = chance.normal(size=(count, cells + 1, cells + 1, channels))
        pictures += np.einsum("hy,nyxc,wx->nhwc", _between(height, cells), coarse, _between(width, cells)) / cells
        cells *= 2
    low, high = (extreme(pictures, axis=(1, 2, 3), keepdims=True) for extreme in (np.min, np.max))
    return np.asarray((pictures - low) / np.maximum(high - low, 1e-9) * 2 - 1, np.float32)


def _between(size: int, cells: int) -> NDArray[np.float64]:
    """The weights, (size, cells + 1), that draw straight lines between equidistant points."""
    place = np.linspace(0, cells, size)[:, np.newaxis]
    return np.asarray(np.maximum(0.0, 1 - np.abs(place - np.arange(cells + 1))))


class _Builder:
    """A float network that is run on pictures while it is described.

    Args:
        shape: of the picture, (H, W, C).
        seed: of everything random.
    """

    def __init__(self, shape: tuple[int, int, int], seed: int) -> None:
        self._chance = np.random.default_rng(seed)
        self._shape = shape
        self._pictures = smooth_pictures(shape, _PICTURES, self._chance)
        self._layers: list[AnyFloatLayer] = []
        self._values: dict[str, Array] = {INPUT: self._pictures}  # (N, ...) of the tensors that may be read yet

    def stages(self, architecture: Architecture) -> str:
        """Add all convolutions of an architecture; the name of the last one's tensor."""
        for stage in architecture.stages:
            self._stage(stage)
        return architecture.stages[-1].made

    def _stage(self, stage: Stage) -> None:
        """Convolution, batch-norm, ReLU6 or none, and an ADD where the stage has one."""
        name = stage.name
        height, width, read = self._values[stage.reads].shape[1:]
        square, strides = (stage.kernel, stage.kernel), (stage.stride, stage.stride)
        window = Window(square, strides, padding=same_padding((height, width), square, strides))
        sums, normal = f"{name}/sums", f"{name}/normal" if stage.relu6 else name
        layer: FloatConv2D | FloatDepthwise
        made = stage.channels
        if stage.kind == "depthwise":
            layer = FloatDepthwise(name, (stage.reads,), sums, self._weights(*square, read), _zeros(made), window)
        else:
            weights = self._weights(made, *square, read)
            layer = FloatConv2D(name, (stage.reads,), sums, weights, _zeros(made), window)
        values = self._add(layer)
        # Factors over an order of magnitude, and most channels active in most places, as in trained networks.
        gamma = np.exp(self._chance.normal(0, 0.35, made)).astype(np.float32)
        beta = self._chance.normal(0.5 if stage.relu6 else 0.0, 0.5, made).astype(np.float32)
        mean, variance = values.mean(axis=(0, 1, 2)), values.var(axis=(0, 1, 2))
        self._add(BatchNorm(f"{name}/norm", (sums,), normal, gamma, beta, mean, variance))
        if stage.relu6:
            self._add(Relu(f"{name}/relu6", (normal,), name, "relu6"))
        if stage.adds:
            self._layers.append(FloatAdd(stage.made, (stage.adds, name), stage.made))
            self._values[stage.made] = self._values[stage.adds] + self._values[name]

    def finish(self, name: str, source: str, classes: int) -> Graph:
        """Global average, dense, softmax; quantised."""
        average = self._add(FloatMean("average", (source,), "average"))
        weights = self._weights(classes, average.shape[1])
        logits = average @ weights.T
        weights = (weights * (_LOGIT_DEVIATION / max(float(logits.std(axis=0).mean()), 1e-6))).astype(np.float32)
        bias = -(weights @ average.mean(axis=0))  # no class is the answer whatever the picture
        self._add(FloatDense("dense", ("average",), "logits", weights, bias))
        self._add(FloatSoftmax("softmax", ("logits",), "scores"))
        described = FloatGraph(name, INPUT, self._shape, tuple(self._layers), ("scores",))
        # As they were when docs/benchmarks.md was written.
        return quantize(
            described,
            self._pictures,
            input_range=INPUT_RANGE,
            method="minmax",
            equalized=False,
            correct_biases=False,
        )

    def _add(self, layer: AnyFloatLayer) -> Array:
        """What the layer makes of the pictures."""
        (source,) = layer.inputs
        alone = FloatGraph(layer.name, source, self._values[source].shape[1:], (layer,), (layer.output,))
        values = FloatInterpreter(alone).run(self._values[source])
        assert isinstance(values, np.ndarray)
        self._layers.append(layer)
        self._values[layer.output] = values
        return values

    def _weights(self, *shape: int) -> Array:
        """Normal, so wide that values keep their size through a ReLU (He et al. 2015)."""
        inputs = math.prod(shape[:2]) if len(shape) == 3 else math.prod(shape[1:])
        return self._chance.normal(0, math.sqrt(2 / inputs), shape).astype(np.float32)


def _zeros(count: int) -> Array:
    return np.zeros(count, np.float32)


@dataclass(frozen=True)
class Statistics:
    """How the activations of convolutions are spread over pictures that were not calibrated with, all from 0 to 1.

    Attributes:
        low: of all values of all outputs, those at the activation's lower end: after ReLU6 the inactive ones.
        high: those at the upper end, saturated.
        dead: of all output channels, those that have one value everywhere.
    """

    low: float
    high: float
    dead: float


def statistics(graph: Graph, *, pictures: int = 4, seed: int = 1) -> Statistics:
    """A quick look at the activations of all convolutions."""
    tensor = graph.tensors[graph.input]
    height, width, channels = tensor.shape
    assert tensor.quant is not None
    reals = smooth_pictures((height, width, channels), pictures, np.random.default_rng(seed))
    x = np.clip(np.rint(reals / tensor.quant.scale) + tensor.quant.zero_point, -128, 127).astype(np.int8)
    runs = [dict(_convolutions(graph, picture)) for picture in x]
    low = high = elements = dead = made = 0
    for layer in runs[0]:
        output = np.stack([run[layer] for run in runs])
        low += int(np.count_nonzero(output == layer.activation.low))
        high += int(np.count_nonzero(output == layer.activation.high))
        elements += output.size
        least, greatest = output.min(axis=(0, 1, 2)), output.max(axis=(0, 1, 2))
        dead += int(np.count_nonzero(least == greatest))
        made += output.shape[-1]
    return Statistics(low / elements, high / elements, dead / made)


def _convolutions(graph: Graph, picture: NDArray[np.int8]) -> Iterator[tuple[Conv2D | Depthwise, NDArray[np.int8]]]:
    """Each convolution with its output."""
    for layer, output in Interpreter(graph).steps(picture):
        if isinstance(layer, Conv2D | Depthwise):
            yield layer, np.asarray(output, np.int8)
