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

INPUT = "picture"
INPUT_RANGE = (-1.0, 1.0)  # of the real input, as Keras preprocesses for MobileNets

# (channels, stride) of each depthwise-separable block. Source: Howard et al. 2017, table 1.
V1_FIRST = 32
V1_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
# (expansion, channels, repeats, stride of the first). Source: Sandler et al. 2018, table 2.
V2_FIRST = 32
V2_LAST = 1280
V2_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

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
    tensor = network.convolution("conv", INPUT, kernel=3, stride=2, made=scaled_channels(V1_FIRST * alpha, divisor))
    for number, (made, stride) in enumerate(V1_BLOCKS, start=1):
        tensor = network.convolution(f"block{number}/depthwise", tensor, kernel=3, stride=stride, made=None)
        made = scaled_channels(made * alpha, divisor)
        tensor = network.convolution(f"block{number}/pointwise", tensor, kernel=1, made=made)
    return network.finish(_name("v1", alpha, (height, width, channels), divisor), tensor, classes)


def mobilenet_v2(
    alpha: float, height: int, width: int, channels: int, classes: int, *, divisor: int = 8, seed: int = 0
) -> Graph:
    """MobileNetV2, int8: inverted residuals, bottlenecks without activation, ADDs; arguments as ``mobilenet_v1``."""
    network = _Builder((height, width, channels), seed)
    tensor = network.convolution("conv", INPUT, kernel=3, stride=2, made=scaled_channels(V2_FIRST * alpha, divisor))
    number = 0
    for expansion, made, repeats, first_stride in V2_BLOCKS:
        for repeat in range(repeats):
            number += 1
            stride = first_stride if repeat == 0 else 1
            tensor = network.bottleneck(
                f"block{number}", tensor, expansion, scaled_channels(made * alpha, divisor), stride
            )
    last = scaled_channels(V2_LAST * max(1.0, alpha), divisor)
    tensor = network.convolution("last", tensor, kernel=1, made=last)
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


def scaled_channels(wanted: float, divisor: int) -> int:
    """The channel count for ``wanted``: the nearest multiple of ``divisor``, but not more than a tenth below.

    Source: make_divisible of the MobileNetV2 reference implementation; 1 cuts, as MobileNetV1's does.
    """
    if divisor == 1:
        return max(1, int(wanted))
    nearest = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * wanted else nearest


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

    def convolution(
        self, name: str, source: str, *, kernel: int, stride: int = 1, made: int | None, relu6: bool = True
    ) -> str:
        """Convolution, batch-norm and ReLU6; the name of the tensor it makes.

        Args:
            name: of the stage and its tensor.
            source: the tensor it reads.
            kernel: its height and width.
            stride: in both directions.
            made: channels; None: depthwise.
            relu6: whether there is an activation.
        """
        height, width, read = self._values[source].shape[1:]
        square, strides = (kernel, kernel), (stride, stride)
        window = Window(square, strides, padding=same_padding((height, width), square, strides))
        sums, normal = f"{name}/sums", f"{name}/normal" if relu6 else name
        layer: FloatConv2D | FloatDepthwise
        if made is None:
            made = read
            layer = FloatDepthwise(name, (source,), sums, self._weights(kernel, kernel, read), _zeros(made), window)
        else:
            weights = self._weights(made, kernel, kernel, read)
            layer = FloatConv2D(name, (source,), sums, weights, _zeros(made), window)
        values = self._add(layer)
        # Factors over an order of magnitude, and most channels active in most places, as in trained networks.
        gamma = np.exp(self._chance.normal(0, 0.35, made)).astype(np.float32)
        beta = self._chance.normal(0.5 if relu6 else 0.0, 0.5, made).astype(np.float32)
        mean, variance = values.mean(axis=(0, 1, 2)), values.var(axis=(0, 1, 2))
        self._add(BatchNorm(f"{name}/norm", (sums,), normal, gamma, beta, mean, variance))
        if relu6:
            self._add(Relu(f"{name}/relu6", (normal,), name, "relu6"))
        return name

    def bottleneck(self, name: str, source: str, expansion: int, made: int, stride: int) -> str:
        """MobileNetV2's block, with an ADD where input and output have one shape; the name of the tensor it makes."""
        read = self._values[source].shape[3]
        tensor = source
        if expansion != 1:
            tensor = self.convolution(f"{name}/expand", source, kernel=1, made=expansion * read)
        tensor = self.convolution(f"{name}/depthwise", tensor, kernel=3, stride=stride, made=None)
        tensor = self.convolution(f"{name}/project", tensor, kernel=1, made=made, relu6=False)
        if stride != 1 or read != made:
            return tensor
        self._layers.append(FloatAdd(f"{name}/add", (source, tensor), f"{name}/add"))
        self._values[f"{name}/add"] = self._values[source] + self._values[tensor]
        return f"{name}/add"

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
        return quantize(described, self._pictures, input_range=INPUT_RANGE)

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
