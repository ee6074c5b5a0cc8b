"""MobileNets as lists of stages: what the papers' tables say, for any width multiplier alpha.

The resolution multiplier rho is the size of the picture that a network is built for.

Sources: Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
table 1; Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", table 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from tinymbn.errors import OptionError

INPUT = "picture"
CHANNEL_DIVISOR = 8  # of MobileNetV2's channel counts, and the least count of MobileNetV1's

StageKind = Literal["conv2d", "depthwise"]


@dataclass(frozen=True)
class Stage:
    """A convolution with batch-norm, padded as TensorFlow's SAME; the tensor it makes has its name.

    Attributes:
        name: unique in the network.
        reads: a stage before it, or INPUT.
        kind: "conv2d" or "depthwise".
        channels: output channels; of a depthwise stage those that it reads.
        kernel: its height and width.
        stride: in both directions.
        relu6: whether there is an activation; if not, it is a linear bottleneck.
        adds: a stage whose output is added to this one's; the sum is called ``<block>/add``.
    """

    name: str
    reads: str
    kind: StageKind
    channels: int
    kernel: int = 1
    stride: int = 1
    relu6: bool = True
    adds: str = ""

    @property
    def made(self) -> str:
        """The tensor that the next stage reads."""
        return f"{self.name.rpartition('/')[0]}/add" if self.adds else self.name


@dataclass(frozen=True)
class Architecture:
    """A network but for its weights and the size of its pictures.

    Attributes:
        name: "mobilenet_v1" or "mobilenet_v2".
        alpha: the width multiplier.
        stages: convolutions, in running order; global average, dense layer and softmax follow.
    """

    name: str
    alpha: float
    stages: tuple[Stage, ...]

    @property
    def strides(self) -> int:
        """Rows of the picture for one row of the last map, about."""
        product = 1
        for stage in self.stages:
            product *= stage.stride
        return product


# (channels, stride) of each depthwise-separable block.
_V1_FIRST = 32
_V1_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
# (expansion, channels, repeats, stride of the first).
_V2_FIRST = 32
_V2_LAST = 1280
_V2_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

MAX_ALPHA = 4.0


def mobilenet_v1(alpha: float = 1.0, *, divisor: int = 1, separable: bool = True) -> Architecture:
    """MobileNetV1.

    Args:
        alpha: the width multiplier, over 0.
        divisor: channel counts are the nearest multiples of it; 1: they are cut to whole numbers, and at least 8, as in
            the paper's own implementation.
        separable: if not, each block is one full 3x3 convolution, which is what the paper compares with.

    Raises:
        OptionError: alpha is out of range.
    """
    _check(alpha)

    def scaled(channels: int) -> int:
        wanted = channels * alpha
        return max(int(wanted), CHANNEL_DIVISOR) if divisor == 1 else nearest_multiple(wanted, divisor)

    stages = [Stage("conv", INPUT, "conv2d", scaled(_V1_FIRST), 3, 2)]
    for number, (channels, stride) in enumerate(_V1_BLOCKS, start=1):
        before = stages[-1]
        if not separable:
            stages.append(Stage(f"block{number}", before.name, "conv2d", scaled(channels), 3, stride))
            continue
        stages.append(Stage(f"block{number}/depthwise", before.name, "depthwise", before.channels, 3, stride))
        stages.append(Stage(f"block{number}/pointwise", stages[-1].name, "conv2d", scaled(channels)))
    return Architecture("mobilenet_v1", alpha, tuple(stages))


def mobilenet_v2(alpha: float = 1.0, *, divisor: int = CHANNEL_DIVISOR) -> Architecture:
    """MobileNetV2: inverted residuals, linear bottlenecks.

    Args:
        alpha: the width multiplier, over 0; the last convolution is never narrower than at 1.
        divisor: channel counts are the nearest multiples of it.

    Raises:
        OptionError: alpha is out of range.
    """
    _check(alpha)
    stages = [Stage("conv", INPUT, "conv2d", nearest_multiple(_V2_FIRST * alpha, divisor), 3, 2)]
    number, made = 0, stages[-1].made
    for expansion, channels, repeats, first_stride in _V2_BLOCKS:
        for repeat in range(repeats):
            number += 1
            block, source, read = f"block{number}", made, stages[-1].channels
            if expansion != 1:
                stages.append(Stage(f"{block}/expand", made, "conv2d", expansion * read))
                made = stages[-1].made
            stride = first_stride if repeat == 0 else 1
            stages.append(Stage(f"{block}/depthwise", made, "depthwise", stages[-1].channels, 3, stride))
            projected = nearest_multiple(channels * alpha, divisor)
            adds = source if stride == 1 and projected == read else ""
            stages.append(Stage(f"{block}/project", stages[-1].name, "conv2d", projected, relu6=False, adds=adds))
            made = stages[-1].made
    last = nearest_multiple(_V2_LAST * max(1.0, alpha), divisor)
    stages.append(Stage("last", made, "conv2d", last))
    return Architecture("mobilenet_v2", alpha, tuple(stages))


def with_channels(like: Architecture, channels: Callable[[Stage], int], picture: int) -> Architecture:
    """The same network with other counts of channels, however they have come about.

    Args:
        like: of any alpha.
        channels: the count that a stage makes.
        picture: channels of the picture; a bottleneck that makes as many as it reads, at stride 1, gets a sum.
    """
    stages: list[Stage] = []
    block, before, width = "", INPUT, picture
    source, read = before, width  # of the block
    for stage in like.stages:
        if stage.name.partition("/")[0] != block:
            block, source, read = stage.name.partition("/")[0], before, width
        made = channels(stage)
        bottleneck = not stage.relu6 and stages[-1].stride == 1
        adds = source if bottleneck and made == read else ""
        stages.append(replace(stage, reads=before, channels=made, adds=adds))
        before, width = stages[-1].made, made
    return Architecture(like.name, stages[0].channels / like.stages[0].channels, tuple(stages))


def architecture(name: str, alpha: float) -> Architecture:
    """The architecture of a name, for a width multiplier.

    Raises:
        OptionError: there is none, or alpha is out of range.
    """
    if name not in NAMES:
        raise OptionError(f"no architecture {name!r}; known: {', '.join(NAMES)}")
    return mobilenet_v1(alpha) if name == "mobilenet_v1" else mobilenet_v2(alpha)


NAMES = ("mobilenet_v1", "mobilenet_v2")


def nearest_multiple(wanted: float, divisor: int) -> int:
    """The nearest multiple of ``divisor``, but not more than a tenth below; 1 cuts, to 1 at least.

    Source: make_divisible of the MobileNetV2 reference implementation.
    """
    if divisor == 1:
        return max(1, int(wanted))
    nearest = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * wanted else nearest


def _check(alpha: float) -> None:
    if not 0 < alpha <= MAX_ALPHA:
        raise OptionError(f"alpha {alpha:g}; expected a number over 0, at most {MAX_ALPHA:g}")
