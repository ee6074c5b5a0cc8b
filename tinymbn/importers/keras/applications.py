"""Weights alone of ``keras.applications``' MobileNet and MobileNetV2: the networks' shapes follow from theirs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tinymbn.architectures import Stage, mobilenet_v1, mobilenet_v2, with_channels
from tinymbn.errors import ModelError, OptionError, UnsupportedError
from tinymbn.importers.keras.file import KerasFile, arrays_by_class, arrays_in_order, is_numbered
from tinymbn.importers.weights import Array
from tinymbn.quantize import FloatGraph, build

_ORDER = ("depthwise_kernel", "kernel", "gamma", "bias", "beta", "moving_mean", "moving_variance")
_NORM = ("gamma", "beta", "mean", "variance")


def from_weights(file: KerasFile, resolution: int | None) -> FloatGraph:
    """The float graph of a file without a configuration.

    Args:
        file: of weights alone.
        resolution: of the picture, which the file does not say.

    Raises:
        OptionError: no resolution, or one that is no picture's.
        ModelError: arrays of shapes that do not fit each other.
        UnsupportedError: they are of another network, or of one without its classifier.
    """
    layers = arrays_by_class(file) if is_numbered(file) else _classified(arrays_in_order(file))
    convolutions, depthwise, norms, dense = (
        layers.get(kind, []) for kind in ("conv2d", "depthwise_conv2d", "batch_normalization", "dense")
    )
    for like in (mobilenet_v1(), mobilenet_v2()):
        count = sum(stage.kind == "depthwise" for stage in like.stages)
        classifiers = [*convolutions[len(like.stages) - count :], *dense]
        if len(depthwise) == count and len(norms) == len(like.stages) and len(classifiers) <= 1:
            break
    else:
        raise UnsupportedError(
            "weights alone, of another network than keras.applications' MobileNet and MobileNetV2; "
            "save the whole model: model.save(...)"
        )
    if not classifiers:
        raise UnsupportedError("weights without the top: it has no classifier; save a whole model: model.save(...)")
    if resolution is None:
        raise OptionError("weights alone do not say the size of a picture: --resolution R")
    parameters: dict[str, Array] = {}
    left = {"conv2d": iter(convolutions), "depthwise": iter(depthwise), "norm": iter(norms)}

    def take(stage: Stage) -> int:
        kernel = _arrays(next(left[stage.kind]), 1, f"{stage.name}/weights")[0]
        if kernel.ndim != 4:
            raise ModelError(f'parameter "{stage.name}/weights" has shape {kernel.shape}; expected a convolution\'s')
        made = kernel.shape[2] * kernel.shape[3] if stage.kind == "depthwise" else kernel.shape[3]
        parameters[f"{stage.name}/weights"] = (
            kernel.reshape(*kernel.shape[:2], made) if stage.kind == "depthwise" else kernel.transpose(3, 0, 1, 2)
        )
        for name, values in zip(_NORM, _arrays(next(left["norm"]), 4, f"{stage.name}/norm"), strict=True):
            parameters[f"{stage.name}/{name}"] = values
        return int(made)

    channels = int(convolutions[0][0].shape[2]) if convolutions[0][0].ndim == 4 else 0
    architecture = with_channels(like, take, channels)
    weights, bias = _arrays(classifiers[0], 2, "dense")
    parameters["dense/weights"] = weights.reshape(weights.shape[-2:]).T
    parameters["dense/bias"] = bias
    return build(
        architecture,
        resolution,
        len(bias),
        channels=channels,
        parameters=parameters,
        padding="after" if like.name == "mobilenet_v1" else "same",
    )


def _classified(layers: Sequence[Mapping[str, Array]]) -> Mapping[str, list[list[Array]]]:
    """The layers' arrays by the layers' classes, which the arrays' names and ranks tell."""
    found = defaultdict[str, list[list[Array]]](list)
    for arrays in layers:
        if "gamma" in arrays:
            kind = "batch_normalization"
        elif "depthwise_kernel" in arrays:
            kind = "depthwise_conv2d"
        elif "kernel" in arrays:
            kind = "conv2d" if arrays["kernel"].ndim == 4 else "dense"
        else:
            continue
        found[kind].append([arrays[name] for name in _ORDER if name in arrays])
    return found


def _arrays(found: list[Array], count: int, what: str) -> list[Array]:
    if len(found) != count:
        raise ModelError(f'"{what}" has {len(found)} arrays; expected {count}')
    return found
