"""Imports float networks that Keras has saved as HDF5: the layers' configuration and their weights, without Keras."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError, ToolError, UnsupportedError
from tinymbn.files import require_file
from tinymbn.layers import AveragePool, MaxPool, Padding, Reshape, Shape, Window, same_padding
from tinymbn.quantize import (
    AnyFloatLayer,
    BatchNorm,
    FloatAdd,
    FloatConv2D,
    FloatDense,
    FloatDepthwise,
    FloatGraph,
    FloatMean,
    FloatSoftmax,
    Relu,
)

if TYPE_CHECKING:
    import h5py

Array = NDArray[np.float32]
Config = Mapping[str, Any]

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def import_keras(path: str | os.PathLike[str]) -> FloatGraph:
    """The float graph in a ``.h5`` file that holds a whole model.

    Raises:
        ToolError: h5py is not installed.
        ModelError: the file is missing, damaged, or holds weights alone.
        UnsupportedError: layers that tinymbn does not know; the text lists them all.
    """
    path = Path(path)
    require_file(path, ModelError)
    try:
        import h5py
    except ImportError:
        raise ToolError("reading Keras models: h5py is not installed: pip install 'tinymbn[keras]'") from None
    try:
        with h5py.File(path, "r") as file:
            return _Importer(file, path.stem).graph()
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(f"{path}: damaged, or not a Keras model: {str(error)[:200]}") from error


def is_hdf5(start: bytes) -> bool:
    """Whether a file that begins like this is HDF5."""
    return start.startswith(_HDF5_MAGIC)


class _Importer:
    """One model; layers are taken in the order of its configuration, which is a running order."""

    def __init__(self, file: h5py.File, name: str) -> None:
        if "model_config" not in file.attrs:
            raise ModelError("it has weights and no layers; save the whole model: model.save(...)")
        config = json.loads(file.attrs["model_config"])
        if config["class_name"] not in ("Functional", "Model", "Sequential"):
            raise UnsupportedError(f"a model of class {config['class_name']}; expected Functional or Sequential")
        self._sequential = config["class_name"] == "Sequential"
        self._config = config["config"]
        self._weights = file["model_weights"]
        self._name = name
        self._layers: list[AnyFloatLayer] = []
        self._shapes: dict[str, Shape] = {}
        # What stands for the output of a layer that computes nothing; and zeros around it that a window takes in.
        self._tensor: dict[str, str] = {}
        self._zeros: dict[str, Padding] = {}
        self._problems: list[str] = []
        self._input = ""

    def graph(self) -> FloatGraph:
        before = ""
        for entry in self._config["layers"]:
            name = entry["config"]["name"]
            sources = [before] if self._sequential and before else self._sources(entry)
            self._take(entry["class_name"], name, entry["config"], sources)
            before = name
        if self._problems:
            listed = "; ".join(self._problems)
            raise UnsupportedError(f"{len(self._problems)} layers that tinymbn does not know: {listed}")
        if not self._input:
            raise ModelError("it has no input layer")
        ends = [before] if self._sequential else [output[0] for output in self._outputs()]
        return FloatGraph(
            name=self._name,
            input=self._input,
            input_shape=self._shapes[self._input],
            layers=tuple(self._layers),
            outputs=tuple(self._tensor[end] for end in ends),
        )

    def _outputs(self) -> list[list[Any]]:
        outputs: list[Any] = self._config["output_layers"]
        return outputs if isinstance(outputs[0], list) else [outputs]

    @staticmethod
    def _sources(entry: Config) -> list[str]:
        nodes = entry.get("inbound_nodes", [])
        return [source[0] for source in nodes[0]] if nodes else []

    def _take(self, kind: str, name: str, config: Config, sources: list[str]) -> None:
        if kind == "InputLayer":
            self._take_input(name, config)
            return
        if not self._input and self._sequential and "batch_input_shape" in config:
            self._take_input(f"{name}_input", config)
            sources = [f"{name}_input"]
        take = _KINDS.get(kind)
        if take is None:
            self._problems.append(f"{name} ({kind})")
            self._tensor[name] = self._tensor.get(sources[0], "") if sources else ""
            return
        if self._problems:
            return  # what follows hangs on shapes that are not known
        try:
            take(self, name, config, sources)
        except UnsupportedError as error:
            self._problems.append(f"{name} ({kind}): {error}")

    def _take_input(self, name: str, config: Config) -> None:
        shape = config.get("batch_input_shape") or config["batch_shape"]
        if None in shape[1:]:
            raise UnsupportedError(f'input "{name}" has shape {shape[1:]}; expected fixed sizes')
        if self._input:
            raise UnsupportedError("it has several inputs; expected one")
        self._input = name
        self._tensor[name] = name
        self._shapes[name] = tuple(shape[1:])

    # ---------------------------------------------------------------------------------- what layers share

    def _add(self, layer: AnyFloatLayer, name: str) -> None:
        """Add a layer that makes the tensor of Keras' layer ``name``."""
        self._layers.append(layer)
        self._shapes[layer.output] = layer.output_shape(*(self._shapes[tensor] for tensor in layer.inputs))
        self._tensor[name] = layer.output

    def _read(self, source: str) -> str:
        """The tensor that a layer without a window reads."""
        if self._zeros.get(source, Padding()) != Padding():
            raise UnsupportedError("it reads padding, which only a convolution may")
        return self._tensor[source]

    def _arrays(self, name: str) -> dict[str, Array]:
        """The weights of a layer, by their own names: kernel, bias, gamma, ..."""
        found: dict[str, Array] = {}

        def visit(path: str, item: Any) -> None:
            if hasattr(item, "shape"):
                found[path.rpartition("/")[2].partition(":")[0]] = np.asarray(item, np.float32)

        self._weights[name].visititems(visit)
        for which, values in found.items():
            if not np.isfinite(values).all():
                raise ModelError(f'tensor "{name}/{which}" has values that are not finite numbers')
        return found

    def _window(self, config: Config, kernel: tuple[int, int], source: str) -> Window:
        if config.get("data_format", "channels_last") != "channels_last":
            raise UnsupportedError("channels first; expected channels last")
        strides, dilation = tuple(config["strides"]), tuple(config.get("dilation_rate", (1, 1)))
        height, width, _ = self._shapes[self._tensor[source]]
        around = self._zeros.get(source, Padding())
        if config["padding"] == "valid":
            return Window(kernel, strides, dilation, around)
        if around != Padding():
            raise UnsupportedError("padded twice")
        return Window(kernel, strides, dilation, same_padding((height, width), kernel, strides, dilation))

    def _finish(self, name: str, activation: str, tensor: str) -> None:
        """What a layer's own activation makes of it."""
        if activation == "linear":
            self._tensor[name] = tensor
        elif activation == "softmax":
            self._add(FloatSoftmax(f"{name}/softmax", (tensor,), name), name)
        elif activation in ("relu", "relu6"):
            self._add(Relu(f"{name}/{activation}", (tensor,), name, activation), name)  # type: ignore[arg-type]
        else:
            raise UnsupportedError(f"activation {activation}")

    # ---------------------------------------------------------------------------------- kinds

    def convolution(self, name: str, config: Config, sources: list[str]) -> None:
        """Conv2D."""
        if config.get("groups", 1) != 1:
            raise UnsupportedError(f"{config['groups']} groups")
        arrays = self._arrays(name)
        weights = np.ascontiguousarray(arrays["kernel"].transpose(3, 0, 1, 2))
        bias = arrays.get("bias", np.zeros(len(weights), np.float32))
        window = self._window(config, (weights.shape[1], weights.shape[2]), sources[0])
        made = _sums(name, config)
        self._add(FloatConv2D(name, (self._tensor[sources[0]],), made, weights, bias, window), name)
        self._finish(name, config["activation"], made)

    def depthwise(self, name: str, config: Config, sources: list[str]) -> None:
        """DepthwiseConv2D."""
        arrays = self._arrays(name)
        kernel = arrays["depthwise_kernel"]  # (K_h, K_w, C_in, multiplier)
        weights = kernel.reshape(*kernel.shape[:2], -1)
        bias = arrays.get("bias", np.zeros(weights.shape[2], np.float32))
        window = self._window(config, (weights.shape[0], weights.shape[1]), sources[0])
        made = _sums(name, config)
        self._add(FloatDepthwise(name, (self._tensor[sources[0]],), made, weights, bias, window), name)
        self._finish(name, config["activation"], made)

    def batch_norm(self, name: str, config: Config, sources: list[str]) -> None:
        """BatchNormalization."""
        arrays = self._arrays(name)
        mean, variance = arrays["moving_mean"], arrays["moving_variance"]
        gamma, beta = arrays.get("gamma", np.ones_like(mean)), arrays.get("beta", np.zeros_like(mean))
        read = self._read(sources[0])
        self._add(BatchNorm(name, (read,), name, gamma, beta, mean, variance, float(config["epsilon"])), name)

    def activation(self, name: str, config: Config, sources: list[str]) -> None:
        """Activation."""
        self._finish(name, config["activation"], self._read(sources[0]))

    def relu(self, name: str, config: Config, sources: list[str]) -> None:
        """ReLU."""
        highest = config.get("max_value")
        if config.get("negative_slope") or config.get("threshold") or highest not in (None, 6, 6.0):
            raise UnsupportedError("a ReLU that is neither RELU nor RELU6")
        self._finish(name, "relu" if highest is None else "relu6", self._read(sources[0]))

    def softmax(self, name: str, config: Config, sources: list[str]) -> None:
        """Softmax."""
        if config.get("axis", -1) != -1:
            raise UnsupportedError(f"axis {config['axis']}; expected the last")
        self._finish(name, "softmax", self._read(sources[0]))

    def dense(self, name: str, config: Config, sources: list[str]) -> None:
        """Dense."""
        arrays = self._arrays(name)
        weights = np.ascontiguousarray(arrays["kernel"].T)
        bias = arrays.get("bias", np.zeros(len(weights), np.float32))
        made = _sums(name, config)
        self._add(FloatDense(name, (self._read(sources[0]),), made, weights, bias), name)
        self._finish(name, config["activation"], made)

    def add(self, name: str, config: Config, sources: list[str]) -> None:
        """Add."""
        if len(sources) != 2:
            raise UnsupportedError(f"{len(sources)} inputs; expected 2")
        self._add(FloatAdd(name, (self._read(sources[0]), self._read(sources[1])), name), name)

    def average_pool(self, name: str, config: Config, sources: list[str]) -> None:
        """AveragePooling2D."""
        read, window = self._read(sources[0]), self._window(config, tuple(config["pool_size"]), sources[0])
        self._add(AveragePool(name, (read,), name, window), name)

    def max_pool(self, name: str, config: Config, sources: list[str]) -> None:
        """MaxPooling2D."""
        read, window = self._read(sources[0]), self._window(config, tuple(config["pool_size"]), sources[0])
        self._add(MaxPool(name, (read,), name, window), name)

    def global_average(self, name: str, config: Config, sources: list[str]) -> None:
        """GlobalAveragePooling2D."""
        keep = bool(config.get("keepdims", False))
        self._add(FloatMean(name, (self._read(sources[0]),), name, (0, 1), keep), name)

    def reshape(self, name: str, config: Config, sources: list[str]) -> None:
        """Reshape and Flatten."""
        read = self._read(sources[0])
        elements = int(np.prod(self._shapes[read]))
        target = tuple(config.get("target_shape", (elements,)))
        if -1 in target:
            rest = -int(np.prod(target))
            target = tuple(elements // rest if size == -1 else size for size in target)
        self._add(Reshape(name, (read,), name, target), name)

    def zero_padding(self, name: str, config: Config, sources: list[str]) -> None:
        """ZeroPadding2D: the window that follows takes it in."""
        (top, bottom), (left, right) = config["padding"]
        self._tensor[name] = self._read(sources[0])
        self._zeros[name] = Padding(top, bottom, left, right)

    def nothing(self, name: str, config: Config, sources: list[str]) -> None:
        """Dropout and the like."""
        self._tensor[name] = self._read(sources[0])


def _sums(name: str, config: Config) -> str:
    """The tensor that a layer makes before its own activation."""
    return name if config["activation"] == "linear" else f"{name}/sums"


_KINDS: Mapping[str, Callable[[_Importer, str, Config, list[str]], None]] = {
    "Conv2D": _Importer.convolution,
    "DepthwiseConv2D": _Importer.depthwise,
    "BatchNormalization": _Importer.batch_norm,
    "Activation": _Importer.activation,
    "ReLU": _Importer.relu,
    "Softmax": _Importer.softmax,
    "Dense": _Importer.dense,
    "Add": _Importer.add,
    "AveragePooling2D": _Importer.average_pool,
    "MaxPooling2D": _Importer.max_pool,
    "GlobalAveragePooling2D": _Importer.global_average,
    "Reshape": _Importer.reshape,
    "Flatten": _Importer.reshape,
    "ZeroPadding2D": _Importer.zero_padding,
    "Dropout": _Importer.nothing,
    "SpatialDropout2D": _Importer.nothing,
}
