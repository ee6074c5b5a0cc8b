"""Imports the weights of PyTorch MobileNets: a state_dict names them, and the networks' shapes follow from theirs."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.architectures import Architecture, Stage, mobilenet_v1, mobilenet_v2, with_channels
from tinymbn.errors import ModelError, OptionError, ToolError, UnsupportedError
from tinymbn.files import require_file
from tinymbn.importers.weights import Array, conv2d_weights, depthwise_weights, finite
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


def _torchvision_v2(arrays: Mapping[str, NDArray[Any]], resolution: int) -> FloatGraph:
    def names(stage: Stage) -> tuple[str, str]:
        block, _, part = stage.name.partition("/")
        if not part:
            prefix = "features.0" if block == "conv" else "features.18"
            return f"{prefix}.0", f"{prefix}.1"
        prefix = f"features.{block.removeprefix('block')}.conv"
        first = 0 if f"{prefix}.1.weight" in arrays else 1  # the first block expands nothing
        if part == "project":
            return f"{prefix}.{first + 1}", f"{prefix}.{first + 2}"
        prefix += f".{first if part == 'depthwise' else 0}"
        return f"{prefix}.0", f"{prefix}.1"

    architecture, channels, parameters = _network(mobilenet_v2(), arrays, names, "classifier.1")
    return build(
        architecture,
        resolution,
        len(parameters["dense/bias"]),
        channels=channels,
        parameters=parameters,
        epsilon=_EPSILON,
        padding="symmetric",
        preprocessing=_IMAGENET,
    )


def _own_v1(arrays: Mapping[str, NDArray[Any]], resolution: int) -> FloatGraph:
    like = mobilenet_v1()
    numbers = {stage.name: k for k, stage in enumerate(like.stages)}

    def names(stage: Stage) -> tuple[str, str]:
        return f"{numbers[stage.name]}.1", f"{numbers[stage.name]}.2"

    architecture, channels, parameters = _network(like, arrays, names, f"{len(numbers) + 2}")
    classes = len(parameters["dense/bias"])
    return build(architecture, resolution, classes, channels=channels, parameters=parameters, epsilon=_OWN_EPSILON)


def _network(
    like: Architecture,
    arrays: Mapping[str, NDArray[Any]],
    names: Callable[[Stage], tuple[str, str]],
    classifier: str,
) -> tuple[Architecture, int, dict[str, Array]]:
    """A network as deep as another, as wide as its arrays are, whatever alpha they were made with.

    Args:
        like: of any alpha.
        arrays: by PyTorch's names.
        names: of a stage's convolution and batch-norm in PyTorch.
        classifier: its name in PyTorch.

    Returns:
        The network, the channels of the picture, and the arrays by tinymbn's names.
    """
    parameters: dict[str, Array] = {}

    def get(name: str) -> Array:
        if name not in arrays:
            raise ModelError(f'tensor "{name}" is missing')
        return finite(arrays[name], name)

    def take(stage: Stage) -> int:
        convolution, norm = names(stage)
        weights = get(f"{convolution}.weight")
        if weights.ndim != 4:
            raise ModelError(f'tensor "{convolution}.weight" has shape {weights.shape}; expected a convolution\'s')
        arranged = depthwise_weights if stage.kind == "depthwise" else conv2d_weights
        parameters[f"{stage.name}/weights"] = arranged(weights)
        for ours, theirs in _NORM.items():
            parameters[f"{stage.name}/{ours}"] = get(f"{norm}.{theirs}")
        return len(weights)

    first = get(f"{names(like.stages[0])[0]}.weight")
    channels = first.shape[1] if first.ndim == 4 else 0
    architecture = with_channels(like, take, channels)
    parameters["dense/weights"], parameters["dense/bias"] = get(f"{classifier}.weight"), get(f"{classifier}.bias")
    return architecture, channels, parameters
