"""An ``.onnx`` file as a float network; as an int8 Graph where QuantizeLinear and DequantizeLinear are in it.

What PyTorch, Keras and tf2onnx export, and what ONNX Runtime's quantiser makes of it in the format QDQ.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import numpy as np

from tinymbn.errors import FloatModelError, ModelError, OptionError, UnsupportedError
from tinymbn.graph import Graph, Source
from tinymbn.importers.channels_first.lowering import Order, Value, channels_last
from tinymbn.importers.onnx.constants import CONSTANT_OPERATORS, constant, fold
from tinymbn.importers.onnx.file import Node, OnnxFile, read_onnx
from tinymbn.importers.onnx.lowering import Constant, OnnxLowering, Steps
from tinymbn.importers.onnx.nodes import NODES, QUANTIZED_NODES
from tinymbn.layers import Shape
from tinymbn.quantize import FloatGraph
from tinymbn.quantize.given import convert_given
from tinymbn.terminal import shorten

_INPUT_TYPES = ("FLOAT", "FLOAT16", "DOUBLE", "UINT8", "INT8")
_SMALL_PICTURE = (1, 3)  # channels
# What may stand between the input and the first node that says which of its axes are channels.
_SAYS_NOTHING = frozenset(
    {"Add", "Cast", "Clip", "Div", "Dropout", "Identity", "Mul", "Pad", "Relu", "Sigmoid", "Sub", *QUANTIZED_NODES}
)


def import_onnx(path: str | os.PathLike[str], resolution: int | None = None) -> FloatGraph:
    """The float graph in an ``.onnx`` file; maps are (H, W, C) in it, outputs included.

    Args:
        path: of the file.
        resolution: of the picture, where the file leaves its height and width open.

    Raises:
        ToolError: onnx is not installed.
        UnsupportedError: it uses what tinymbn does not compute, all of it listed; or it is quantised.
        OptionError: a resolution is missing.
        ModelError: the file is missing or damaged.
    """
    path = Path(path)
    file = read_onnx(path)
    try:
        if _is_quantized(file):
            raise UnsupportedError("quantised already; use it as it is, or tinymbn import it")
        return _lower(file, path.stem, resolution)[1]
    except (ModelError, OptionError) as error:
        raise type(error)(f"{path}: {error}") from error


def import_quantized_onnx(path: str | os.PathLike[str]) -> Graph:
    """The int8 graph in an ``.onnx`` file, its edges int8; raises as ``import_onnx``.

    Raises:
        FloatModelError: it is not quantised.
    """
    path = Path(path)
    file = read_onnx(path)
    try:
        if not _is_quantized(file):
            raise FloatModelError
        low, graph = _lower(file, path.stem, None)
        return convert_given(graph, low.quants, low.weights, Source(path.name, file.sha256))
    except (ModelError, OptionError) as error:
        raise type(error)(f"{path}: {error}") from error


def _is_quantized(file: OnnxFile) -> bool:
    """Whether it is more than weights that are stored as integers."""
    return any(node.op in ("QuantizeLinear", "com.microsoft.QuantizeLinear") for node in file.nodes)


def _lower(file: OnnxFile, name: str, resolution: int | None) -> tuple[OnnxLowering, FloatGraph]:
    shape, order = _input(file, resolution)
    low = OnnxLowering(file, shape, order)
    problems: dict[str, list[str]] = defaultdict(list)
    unknown: set[str] = set()  # what a node makes that could not be lowered
    for node in file.nodes:
        if not unknown.isdisjoint(node.inputs) and node.op in {*NODES, *QUANTIZED_NODES, *CONSTANT_OPERATORS}:
            unknown.update(node.outputs)
            continue
        try:
            with np.errstate(all="ignore"):  # what is not finite is refused
                made = _lower_node(low, node)
                low.set(node.output, made)
        except UnsupportedError as error:
            problems[node.op + (f": {error}" if str(error) else "")].append(shorten(node.name, 60))
            unknown.update(node.outputs)
        except ModelError as error:
            raise ModelError(f'{node.op} "{shorten(node.name, 60)}": {error}') from error
        except (ValueError, IndexError, TypeError, KeyError, AttributeError, OverflowError) as error:
            # Values that do not fit each other: a shape of another size, an axis that is not there, one left out.
            raise ModelError(f'{node.op} "{shorten(node.name, 60)}": {str(error)[:200]}') from error
    if problems:
        count = sum(map(len, problems.values()))
        listed = "; ".join(f"{what} ({', '.join(names)})" for what, names in problems.items())
        plural = "s" if count > 1 else ""
        raise UnsupportedError(f"{count} node{plural} not supported: {listed}. Supported: {', '.join(sorted(NODES))}")
    outputs = tuple(low.output_tensor(output, low.any_value(output)) for output in file.outputs)
    return low, low.graph(name, outputs)


def _input(file: OnnxFile, resolution: int | None) -> tuple[Shape, Order]:
    """The input's shape in the file, and its axes in the order that the graph has them in."""
    what, sizes = f'input "{file.input}"', list(file.input_shape)
    if file.input_type not in _INPUT_TYPES:
        raise UnsupportedError(f"{what} is {file.input_type}; expected one of {', '.join(_INPUT_TYPES)}")
    if not 2 <= len(sizes) <= 4:
        raise UnsupportedError(f"{what} has shape {tuple(sizes)}; expected a batch of 1 and one to three axes")
    sizes[0] = sizes[0] or 1  # where it is open
    order = channels_last(4) if len(sizes) == 4 and _channels_are_first(file) else tuple(range(len(sizes)))
    if len(sizes) == 4:
        for axis in order[1:3]:
            if sizes[axis] is None and resolution is None:
                raise OptionError(f"{what} leaves its height and width open: --resolution R")
            sizes[axis] = sizes[axis] or resolution
    shape = tuple(size for size in sizes if size is not None)
    if len(shape) < len(sizes):
        raise UnsupportedError(f"{what} leaves its size open: export the model again with a fixed one")
    if shape[0] != 1:
        raise UnsupportedError(f"{what} has a batch of {shape[0]}; expected 1")
    return shape, order


def _channels_are_first(file: OnnxFile) -> bool:
    """Whether a picture is (N, C, H, W): it is what the first node takes it for that does not treat all axes alike."""
    derived = {file.input}
    for node in file.nodes:
        if not derived.isdisjoint(node.inputs):
            if node.op == "Transpose":
                return tuple(node.attributes.get("perm", ())) != (0, 3, 1, 2)
            if node.op in (
                "Conv",
                "MaxPool",
                "AveragePool",
                "GlobalAveragePool",
                "GlobalMaxPool",
                "BatchNormalization",
            ):
                return True
            if node.op in _SAYS_NOTHING:
                derived.update(node.outputs)
    return file.input_shape[1] in _SMALL_PICTURE or file.input_shape[3] not in _SMALL_PICTURE


def _lower_node(low: OnnxLowering, node: Node) -> Constant | Value:
    if not node.outputs or not node.output or (node.op != "Constant" and not (node.inputs and node.inputs[0])):
        raise ModelError(f"{len(node.inputs)} inputs and {len(node.outputs)} outputs are too few")
    if node.op == "Constant":
        return Constant(constant(node))
    found = [low.found.get(name) if name else None for name in node.inputs]
    if node.op == "Shape" and isinstance(found[0], Value):
        sizes = found[0].shape[node.attributes.get("start", 0) : node.attributes.get("end")]
        return Constant(np.array(sizes, np.int64))
    if node.op in CONSTANT_OPERATORS and all(
        isinstance(x, Constant) or not name for x, name in zip(found, node.inputs, strict=True)
    ):
        folded = fold(node, [x.values if isinstance(x, Constant) else None for x in found])
        if folded is not None:
            return Constant(folded, _moved(node, found[0]))
    lower = NODES.get(node.op) or QUANTIZED_NODES.get(node.op)
    if lower is None:
        raise UnsupportedError("")
    return lower(low, node)


def _moved(node: Node, source: Constant | Value | None) -> Steps | None:
    """The integers of a folded constant: those of one whose axes are put in another order, too."""
    steps = source.steps if isinstance(source, Constant) else None
    if steps is None or node.op not in ("Identity", "Transpose"):
        return None
    return steps.transposed(node.attributes.get("perm")) if node.op == "Transpose" else steps
