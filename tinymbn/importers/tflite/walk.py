"""Goes through the operators of a ``.tflite``, whatever they are lowered to: what is unsupported is gathered."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import numpy as np

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.graph import MAX_ELEMENTS
from tinymbn.importers.tflite.file import FileTensor, Operator, TfliteFile
from tinymbn.importers.tflite.shapes import SHAPE_OPERATORS, fold
from tinymbn.importers.tflite.tensors import FileTensors
from tinymbn.terminal import shorten

L = TypeVar("L", bound=FileTensors)
Problem = tuple[str, str]  # what is not supported, and the tensor that it makes

# Operands that an operator cannot do without, where that is more than one.
_LEAST_INPUTS: Mapping[str, int] = {
    "ADD": 2,
    "BATCH_TO_SPACE_ND": 3,
    "CONV_2D": 2,
    "DEPTHWISE_CONV_2D": 2,
    "DIV": 2,
    "EXPAND_DIMS": 2,
    "FULLY_CONNECTED": 2,
    "MEAN": 2,
    "MUL": 2,
    "PAD": 2,
    "PADV2": 3,
    "REDUCE_MAX": 2,
    "RESIZE_NEAREST_NEIGHBOR": 2,
    "SPACE_TO_BATCH_ND": 3,
    "SUB": 2,
    "TILE": 2,
    "TRANSPOSE": 2,
}


def require_one_input(file: TfliteFile) -> FileTensor:
    """The input of a model of one picture.

    Raises:
        UnsupportedError: it has several, or its size is open.
        ModelError: no outputs, or an input without elements.
    """
    if len(file.inputs) != 1:
        raise UnsupportedError(f"{len(file.inputs)} inputs; tinymbn runs models of one")
    if not file.outputs:
        raise ModelError("the model has no outputs")
    tensor = file.tensors[file.inputs[0]]
    if any(axis > 0 for axis in tensor.open_axes):
        raise UnsupportedError(
            f'input "{tensor.name}" leaves its size open: export the model again with a fixed height and width'
        )
    if len(tensor.shape) > 1 and tensor.shape[0] != 1:
        raise UnsupportedError(f'input "{tensor.name}" has a batch of {tensor.shape[0]}; expected 1')
    if any(size < 1 for size in tensor.shape) or math.prod(tensor.shape) > MAX_ELEMENTS:
        raise ModelError(f'input "{tensor.name}" has shape {tensor.shape}')
    return tensor


def is_quantized(file: TfliteFile) -> bool:
    """Whether activations are integers with a scale; those of shapes have none, and weights alone may be."""
    return any(len(tensor.scales) and tensor.dtype != "float32" and tensor.values is None for tensor in file.tensors)


def lower(low: L, operators: Mapping[str, Callable[[L, Operator], None]]) -> list[Problem]:
    """Lower all operators in order; those that are not supported are returned, and what reads them is left out.

    Args:
        low: where to.
        operators: what lowers each.

    Raises:
        ModelError: an operator is not sound.
    """
    file = low.file
    problems: list[Problem] = []
    unknown: set[int] = set()  # what an operator makes that could not be lowered
    for op in file.operators:
        name = file.tensors[op.outputs[0]].name if op.outputs else "?"
        if not unknown.isdisjoint(op.inputs) and op.code in operators:
            unknown.update(op.outputs)
            continue
        try:
            with np.errstate(all="ignore"):  # what is not finite is refused
                _lower_operator(low, op, operators)
        except UnsupportedError as error:
            problems.append((op.code + (f": {error}" if str(error) else ""), name))
            unknown.update(op.outputs)
        except ModelError as error:
            raise ModelError(f'{op.code} "{name}": {error}') from error
        except (ValueError, IndexError, TypeError, KeyError, OverflowError) as error:
            # Values that fit no arithmetic: a scale that is not finite, a slice outside its tensor.
            raise ModelError(f'{op.code} "{name}": {str(error)[:200]}') from error
    return problems


def _lower_operator(low: L, op: Operator, operators: Mapping[str, Callable[[L, Operator], None]]) -> None:
    if op.code not in operators and op.code not in SHAPE_OPERATORS:
        raise UnsupportedError("")
    if not op.outputs or len(op.inputs) < _LEAST_INPUTS.get(op.code, 1) or op.inputs[0] < 0:
        raise ModelError(f"{len(op.inputs)} inputs and {len(op.outputs)} outputs are too few")
    if op.code == "SHAPE":
        low.set_folded(op.outputs[0], np.array(low.file_shape(op.inputs[0]), np.int64))
        return
    folded = fold(op, [low.values(index) if index >= 0 else None for index in op.inputs])
    if folded is not None:
        low.set_folded(op.outputs[0], folded)
        return
    if op.code not in operators:
        raise UnsupportedError("")  # it runs on shapes alone
    operators[op.code](low, op)


def listing(problems: Sequence[Problem], supported: Collection[str]) -> str:
    """All that is unsupported, in one line."""
    names = defaultdict(list)
    for what, name in problems:
        names[what].append(shorten(name, 60))
    listed = "; ".join(f"{what} ({', '.join(layers)})" for what, layers in names.items())
    count = len(problems)
    known = ", ".join(sorted(supported))
    return f"{count} operator{'s' if count > 1 else ''} not supported: {listed}. Supported: {known}"
