"""Imports the weights of PyTorch MobileNets: a state_dict names them, and the networks' shapes follow from theirs."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.architectures import INPUT, Architecture, Stage, mobilenet_v1, mobilenet_v2
from tinymbn.errors import ModelError, OptionError, ToolError, UnsupportedError
from tinymbn.files import require_file
from tinymbn.importers.weights import Array, channels_last, finite
from tinymbn.importers.weights import depthwise as by_channel
from tinymbn.preprocessing import Preprocessing
from tinymbn.quantize import FloatGraph, build

_EPSILON = 1e-5  # of torch.nn.BatchNorm2d
_OWN_EPSILON = 1e-3  # of examples/cifar10
# What torchvision's weights were trained on: pixels of 0..255 less the mean, by the deviation.
_IMAGENET = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), origin="file")
_NORM = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}


def import_pytorch(path: str | os.PathLike[str], resolution: int | None) -> FloatGraph:
    """The float graph of a file that ``torch.save`` made of a state_dict.

    Args:
        path: of the file; nothing but tensors is read from it.
        resolution: of the picture, which no state_dict says.

    Raises:
        ToolError: PyTorch is not installed.
        ModelError: the file is missing or damaged, or its shapes do not fit each other.
        UnsupportedError: it is of another network, or holds more than tensors.
        OptionError: there is no resolution.
    """
    path = Path(path)
    require_file(path, ModelError)
    try:
        import torch
    except ImportError:
        raise ToolError("reading PyTorch models: torch is not installed: pip install 'tinymbn[torch]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is TorchScript; the error says so as well
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unread(path, str(error)) from error
    state = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(state, dict) or not all(hasattr(values, "numpy") for values in state.values()):
        raise ModelError(f"{path}: not a state_dict; expected torch.save(network.state_dict(), path)")
    if resolution is None:
        raise OptionError(f"{path}: a state_dict does not say the size of a picture: --resolution R")
    try:
        return from_state_dict({name: values.detach().float().numpy() for name, values in state.items()}, resolution)
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error


def _unread(path: Path, problem: str) -> ModelError:
    """What is wrong with a file of which PyTorch says this."""
    held = re.search(r"GLOBAL (\S+)", problem)
    if held or "TorchScript" in problem:
        return UnsupportedError(
            f"{path}: it holds {held[1] if held else 'TorchScript'}, and tinymbn reads tensors alone; "
            "expected torch.save(network.state_dict(), path), or torch.export.save of the network as .pt2"
        )
    return ModelError(f"{path}: damaged, or not a state_dict: {problem.partition(chr(10))[0][:200]}")


def from_state_dict(state: Mapping[str, NDArray[Any]], resolution: int) -> FloatGraph:
    """The float graph of torchvision's MobileNetV2, or of the MobileNetV1 of examples/cifar10, by its arrays' names.

    Args:
        state: arrays by PyTorch's names, in its order of axes.
        resolution: of the picture.

    Raises:
        ModelError: an array is missing, or of a shape that does not fit the others.
        UnsupportedError: it is of another network.
    """
    arrays = {name.removeprefix("module."): np.asarray(values) for name, values in state.items()}
    arrays = {name: values for name, values in arrays.items() if not name.endswith("num_batches_tracked")}
    try:
        if "features.0.0.weight" in arrays and "classifier.1.weight" in arrays:
            return _torchvision_v2(arrays, resolution)
        if "0.1.weight" in arrays and "0.2.running_mean" in arrays:
            return _own_v1(arrays, resolution)
    except OptionError as error:
        raise ModelError(str(error)) from error
    some = ", ".join(list(arrays)[:3])
    raise UnsupportedError(
        f"arrays {some}, ...; expected those of torchvision's mobilenet_v2 or of "
        "examples/cifar10; other networks: torch.export.save(..., 'network.pt2')"
    )


class _Taken:
    """Arrays by tinymbn's names, out of those by PyTorch's."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = arrays
        self.parameters: dict[str, Array] = {}

    def get(self, name: str) -> Array:
        """One array, which has to be there."""
        if name not in self._arrays:
            raise ModelError(f'tensor "{name}" is missing')
        return finite(self._arrays[name], name)

    def stage(self, stage: str, convolution: str, norm: str, *, depthwise: bool) -> int:
        """A convolution and its batch-norm; its output channels."""
        weights = self.get(f"{convolution}.weight")
        if weights.ndim != 4:
            raise ModelError(f'tensor "{convolution}.weight" has shape {weights.shape}; expected a convolution\'s')
        self.parameters[f"{stage}/weights"] = by_channel(weights) if depthwise else channels_last(weights)
        for ours, theirs in _NORM.items():
            self.parameters[f"{stage}/{ours}"] = self.get(f"{norm}.{theirs}")
        return int(weights.shape[0])

    def dense(self, name: str) -> int:
        """The classifier; its classes."""
        self.parameters["dense/weights"] = self.get(f"{name}.weight")
        self.parameters["dense/bias"] = self.get(f"{name}.bias")
        return len(self.parameters["dense/bias"])


def _torchvision_v2(arrays: Mapping[str, NDArray[Any]], resolution: int) -> FloatGraph:
    taken = _Taken(arrays)
    stages: list[Stage] = []
    channels = arrays["features.0.0.weight"].shape[1]
    source, read = INPUT, channels  # what a block begins with, and its channels
    # Strides are the paper's; counts of channels are those of the arrays, whatever alpha they were made with.
    for like in mobilenet_v2().stages:
        block, _, part = like.name.partition("/")
        if not part:
            prefix = "features.0" if like.name == "conv" else "features.18"
            made = taken.stage(like.name, f"{prefix}.0", f"{prefix}.1", depthwise=False)
            stages.append(Stage(like.name, source, "conv2d", made, like.kernel, like.stride))
            source, read = stages[-1].made, made
            continue
        prefix = f"features.{block.removeprefix('block')}.conv"
        first = 0 if f"{prefix}.1.weight" in arrays else 1  # the first block expands nothing
        if part == "expand":
            made = taken.stage(like.name, f"{prefix}.0.0", f"{prefix}.0.1", depthwise=False)
            stages.append(Stage(like.name, source, "conv2d", made))
        elif part == "depthwise":
            made = taken.stage(like.name, f"{prefix}.{first}.0", f"{prefix}.{first}.1", depthwise=True)
            stages.append(Stage(like.name, stages[-1].made, "depthwise", made, like.kernel, like.stride))
        else:
            made = taken.stage(like.name, f"{prefix}.{first + 1}", f"{prefix}.{first + 2}", depthwise=False)
            adds = source if stages[-1].stride == 1 and read == made else ""
            stages.append(Stage(like.name, stages[-1].name, "conv2d", made, relu6=False, adds=adds))
            source, read = stages[-1].made, made
    classes = taken.dense("classifier.1")
    alpha = stages[0].channels / mobilenet_v2().stages[0].channels
    architecture = Architecture("mobilenet_v2", alpha, tuple(stages))
    return build(
        architecture,
        resolution,
        classes,
        channels=channels,
        parameters=taken.parameters,
        epsilon=_EPSILON,
        padding="symmetric",
        preprocessing=_IMAGENET,
    )


def _own_v1(arrays: Mapping[str, NDArray[Any]], resolution: int) -> FloatGraph:
    taken = _Taken(arrays)
    stages: list[Stage] = []
    source = INPUT
    for k, like in enumerate(mobilenet_v1().stages):
        made = taken.stage(like.name, f"{k}.1", f"{k}.2", depthwise=like.kind == "depthwise")
        stages.append(Stage(like.name, source, like.kind, made, like.kernel, like.stride))
        source = like.name
    classes = taken.dense(f"{len(stages) + 2}")
    alpha = stages[0].channels / mobilenet_v1().stages[0].channels
    channels = arrays["0.1.weight"].shape[1]
    architecture = Architecture("mobilenet_v1", alpha, tuple(stages))
    return build(
        architecture, resolution, classes, channels=channels, parameters=taken.parameters, epsilon=_OWN_EPSILON
    )
