"""Imports float networks that Keras has saved: the layers' configuration and their weights, without Keras."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinymbn.errors import ModelError, OptionError, UnsupportedError
from tinymbn.files import read_file
from tinymbn.importers.keras.applications import from_weights
from tinymbn.importers.keras.file import (
    DAMAGE,
    MAX_FILE_BYTES,
    MODELS,
    Config,
    KerasFile,
    read_keras,
)
from tinymbn.importers.keras.layers import ARITHMETIC, FUNCTIONS, KINDS, Operand, arithmetic, check
from tinymbn.importers.keras.lowering import KerasLowering
from tinymbn.quantize import FloatGraph


def import_keras(path: str | os.PathLike[str], resolution: int | None = None) -> FloatGraph:
    """The float graph in a ``.keras`` or ``.h5`` file.

    Args:
        path: of the file: a whole model, or the weights of ``keras.applications``' MobileNet or MobileNetV2.
        resolution: of the picture, which weights alone do not say.

    Raises:
        ToolError: h5py is not installed.
        ModelError: the file is missing or damaged.
        OptionError: weights alone, and no resolution.
        UnsupportedError: weights of another network, or layers that tinymbn does not know; the text lists them all.
    """
    path = Path(path)
    data = read_file(path, ModelError, MAX_FILE_BYTES)
    try:
        file = read_keras(data)
        return _graph(file, path.stem) if file.kind else from_weights(file, resolution)
    except (ModelError, OptionError) as error:
        raise type(error)(f"{path}: {error}") from error
    except DAMAGE as error:
        raise ModelError(f"{path}: damaged, or not a Keras model: {str(error)[:200]}") from error


def _graph(file: KerasFile, name: str) -> FloatGraph:
    low = KerasLowering(file)
    ends = _model(low, file.kind, file.config, "", [])
    if low.problems:
        count, listed = len(low.problems), "; ".join(low.problems)
        raise UnsupportedError(f"{count} layer{'s' if count > 1 else ''} that tinymbn does not know: {listed}")
    return low.end(name, ends)


def _model(low: KerasLowering, kind: str, config: Config, scope: str, sources: Sequence[str]) -> list[str]:
    """Lower all layers, in the order of the configuration, which is a running order.

    Args:
        low: where to.
        kind: the model's class.
        config: of the model.
        scope: what comes before the names of its layers.
        sources: what a model within the model reads.

    Returns:
        The layers whose outputs are the model's.
    """
    before = list(sources)
    for entry in config["layers"]:
        name = scope + entry["config"]["name"]
        operands: Sequence[Operand] = before if kind == "Sequential" else _operands(entry, scope)
        read = [operand for operand in operands if isinstance(operand, str)]
        if entry["class_name"] in MODELS:
            ends = _model(low, entry["class_name"], entry["config"], f"{name}/", read)
            _alias(low, name, ends)
        elif entry["class_name"] == "InputLayer" and sources:
            _alias(low, name, sources)
        elif entry["class_name"] == "InputLayer":
            low.begin(name, entry["config"])
        else:
            _layer(low, entry, name, operands)
        before = [name]
    if kind == "Sequential":
        return before
    outputs = config["output_layers"]
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    outputs = outputs if isinstance(outputs[0], list) else [outputs]
    return [scope + output[0] for output in outputs]


def _alias(low: KerasLowering, name: str, sources: Sequence[str]) -> None:
    """Let a model, or its input, be what another layer makes."""
    if len(sources) != 1:
        low.problems.append(f"{name}: {len(sources)} inputs or outputs of a model within the model; expected one")
    elif not low.problems:
        low.alias(name, sources[0])


def _layer(low: KerasLowering, entry: Config, name: str, operands: Sequence[Operand]) -> None:
    kind, config = entry["class_name"], entry["config"]
    if not low.input and not operands and "batch_input_shape" in config:  # a Sequential without an InputLayer
        low.begin(f"{name}_input", config)
        operands = [f"{name}_input"]
    read = [operand for operand in operands if isinstance(operand, str)]
    known = FUNCTIONS.get(config["function"], kind) if kind == "TFOpLambda" else kind
    try:
        check(config)
        if len(entry.get("inbound_nodes") or []) > 1:
            raise UnsupportedError("it is called several times; expected once")
        scaled = arithmetic(ARITHMETIC[known], operands) if known in ARITHMETIC and len(read) == 1 else None
        if scaled is None and known not in KINDS:
            raise UnsupportedError("")
        if low.problems:
            return  # what follows a problem hangs on shapes that are not known
        if scaled is not None:
            low.scale(name, read[0], *scaled)
        else:
            KINDS[known](low, name, config, read)
    except UnsupportedError as error:
        low.problems.append(f"{name} ({kind})" + (f": {error}" if str(error) else ""))


def _operands(entry: Config, scope: str) -> list[Operand]:
    """The layers that a layer reads, and numbers among them, in order."""
    found: list[Operand] = []

    def visit(item: Any) -> None:
        if isinstance(item, Mapping) and item.get("class_name") == "__keras_tensor__":
            found.append(scope + item["config"]["keras_history"][0])
        elif isinstance(item, list) and len(item) >= 3 and isinstance(item[0], str):  # name, node, tensor, others
            found.append(scope + item[0])
            visit(list(item[3].values()) if len(item) > 3 else [])
        elif isinstance(item, list):
            for part in item:
                visit(part)
        elif isinstance(item, int | float) and not isinstance(item, bool):
            found.append(float(item))

    for node in (entry.get("inbound_nodes") or [])[:1]:
        visit(node["args"] if isinstance(node, Mapping) else node)
    return found
