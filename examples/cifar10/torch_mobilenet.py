"""A MobileNetV1 of tinymbn's architectures in PyTorch, and its way back: its parameters by tinymbn's names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tinymbn.architectures import Architecture, Stage
from tinymbn.layers import same_padding

EPSILON = 1e-3


@dataclass(frozen=True)
class Network:
    """The stages of an architecture without residuals, global average and a dense layer.

    Attributes:
        architecture: whose stages.
        module: of all; pictures (N, C, H, W) in -1..1 become logits (N, classes).
    """

    architecture: Architecture
    module: nn.Sequential

    @staticmethod
    def of(architecture: Architecture, resolution: int, channels: int, classes: int) -> Network:
        """A network with random weights."""
        size, read = resolution, channels
        stages = []
        for stage in architecture.stages:
            stages.append(_convolution(stage, size, read))
            size, read = -(-size // stage.stride), stage.channels
        return Network(
            architecture, nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(read, classes))
        )

    def parameters_by_name(self) -> dict[str, NDArray[np.float32]]:
        """What ``tinymbn.quantize.build`` takes."""
        dense = self.module[-1]
        found = {"dense/weights": _array(dense.weight), "dense/bias": _array(dense.bias)}
        for stage, (_, convolution, norm, _) in zip(self.architecture.stages, self.module, strict=False):
            weights = _array(convolution.weight)  # (C_out, C_in / groups, K_h, K_w)
            depthwise = stage.kind == "depthwise"
            found |= {
                f"{stage.name}/weights": (
                    weights[:, 0].transpose(1, 2, 0) if depthwise else weights.transpose(0, 2, 3, 1)
                ),
                f"{stage.name}/gamma": _array(norm.weight),
                f"{stage.name}/beta": _array(norm.bias),
                f"{stage.name}/mean": _array(norm.running_mean),
                f"{stage.name}/variance": _array(norm.running_var),
            }
        return found


def _convolution(stage: Stage, size: int, read: int) -> nn.Sequential:
    square, strides = (stage.kernel, stage.kernel), (stage.stride, stage.stride)
    p = same_padding((size, size), square, strides)
    groups = read if stage.kind == "depthwise" else 1
    return nn.Sequential(
        nn.ZeroPad2d((p.left, p.right, p.top, p.bottom)),
        nn.Conv2d(read, stage.channels, stage.kernel, stage.stride, groups=groups, bias=False),
        nn.BatchNorm2d(stage.channels, eps=EPSILON),
        nn.ReLU6(),
    )


def _array(values: torch.Tensor | None) -> NDArray[np.float32]:
    assert values is not None
    return np.asarray(values.detach().contiguous().numpy(), np.float32)
