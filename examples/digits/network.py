"""The network: MobileNetV1's layers, sized for a microcontroller with 16 KB of RAM; and its way out of PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from dataset import SIDE
from numpy.typing import NDArray
from torch import nn

from tinymbn.quantize import (
    AnyFloatLayer,
    BatchNorm,
    FloatConv2D,
    FloatDense,
    FloatDepthwise,
    FloatGraph,
    FloatMean,
    FloatSoftmax,
    Relu,
    Window,
    same_padding,
)

FIRST_CHANNELS = 8
# Each block is a depthwise 3x3 of this stride, then a pointwise convolution to this many channels. The largest
# input and output of one layer are 8x8x32 + 8x8x32 = 4096 bytes.
BLOCKS = ((2, 32), (1, 32), (1, 32), (2, 64), (1, 64), (1, 64))
CLASSES = 10


@dataclass(frozen=True)
class Stage:
    """Convolution, batch-norm and ReLU6, in both worlds."""

    name: str
    window: Window
    convolution: nn.Conv2d
    norm: nn.BatchNorm2d

    @staticmethod
    def of(name: str, size: int, read: int, made: int, kernel: int, stride: int = 1, groups: int = 1) -> Stage:
        """A stage with random weights on a map of (size, size, read), padded as TensorFlow's SAME."""
        square, strides = (kernel, kernel), (stride, stride)
        window = Window(square, strides, padding=same_padding((size, size), square, strides))
        convolution = nn.Conv2d(read, made, kernel, stride, groups=groups, bias=False)
        return Stage(name, window, convolution, nn.BatchNorm2d(made))

    def modules(self) -> list[nn.Module]:
        """What PyTorch trains."""
        p = self.window.padding
        return [nn.ZeroPad2d((p.left, p.right, p.top, p.bottom)), self.convolution, self.norm, nn.ReLU6()]

    def layers(self, tensor: str) -> list[AnyFloatLayer]:
        """What tinymbn quantises, reading ``tensor``."""
        weights = _array(self.convolution.weight)  # (C_out, C_in / groups, K_h, K_w)
        no_bias = np.zeros(len(weights), np.float32)
        sums, normal = f"{self.name}/sums", f"{self.name}/normal"
        first: AnyFloatLayer
        if self.convolution.groups > 1:
            by_channel = weights[:, 0].transpose(1, 2, 0)
            first = FloatDepthwise(self.name, (tensor,), sums, by_channel, no_bias, self.window)
        else:
            first = FloatConv2D(self.name, (tensor,), sums, weights.transpose(0, 2, 3, 1), no_bias, self.window)
        n = self.norm
        gamma, beta, mean, variance = map(_array, (n.weight, n.bias, n.running_mean, n.running_var))
        return [
            first,
            BatchNorm(f"{self.name}/norm", (sums,), normal, gamma, beta, mean, variance, n.eps),
            Relu(f"{self.name}/relu6", (normal,), self.name, "relu6"),
        ]


@dataclass(frozen=True)
class Network:
    """MobileNetV1: a convolution, depthwise-separable blocks, global average, dense."""

    stages: tuple[Stage, ...]
    dense: nn.Linear
    module: nn.Sequential  # of all the above: (N, 1, 32, 32) in 0..1 -> logits (N, 10)

    @staticmethod
    def of(blocks: tuple[tuple[int, int], ...] = BLOCKS) -> Network:
        """A network with random weights."""
        stages = [Stage.of("conv", SIDE, 1, FIRST_CHANNELS, kernel=3, stride=2)]
        size, channels = SIDE // 2, FIRST_CHANNELS
        for number, (stride, made) in enumerate(blocks, start=1):
            stages.append(Stage.of(f"block{number}/depthwise", size, channels, channels, 3, stride, groups=channels))
            size = -(-size // stride)
            stages.append(Stage.of(f"block{number}/pointwise", size, channels, made, kernel=1))
            channels = made
        dense = nn.Linear(channels, CLASSES)
        modules = [module for stage in stages for module in stage.modules()]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), dense]
        return Network(tuple(stages), dense, nn.Sequential(*modules, *head))

    def float_graph(self) -> FloatGraph:
        """The same network, softmax added, as tinymbn quantises it."""
        layers: list[AnyFloatLayer] = []
        tensor = "picture"
        for stage in self.stages:
            layers += stage.layers(tensor)
            tensor = stage.name
        weights, bias = _array(self.dense.weight), _array(self.dense.bias)
        layers += [
            FloatMean("average", (tensor,), "average"),
            FloatDense("dense", ("average",), "logits", weights, bias),
            FloatSoftmax("softmax", ("logits",), "scores"),
        ]
        return FloatGraph("digits", "picture", (SIDE, SIDE, 1), tuple(layers), ("scores",))


def _array(values: torch.Tensor | None) -> NDArray[np.float32]:
    assert values is not None
    return np.asarray(values.detach().numpy(), np.float32)
