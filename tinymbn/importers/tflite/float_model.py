"""A float ``.tflite`` file as a float graph, to be quantised."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.files import read_file
from tinymbn.importers.pixels import guessed_preprocessing
from tinymbn.importers.scaling import Arithmetic, factor_and_offset, scaled
from tinymbn.importers.tflite.file import MAX_FILE_BYTES, Operator, parse
from tinymbn.importers.tflite.float_lowering import FloatLowering
from tinymbn.importers.tflite.metadata import normalization, read_labels
from tinymbn.importers.tflite.operators.operands import (
    batches,
    biases,
    dense_shapes,
    filters,
    kernel_of,
    map_shape,
    mean_shape,
    option,
    padded_shape,
    reshaped,
    window,
)
from tinymbn.importers.tflite.tensors import without_batch
from tinymbn.importers.tflite.walk import is_quantized, listing, lower, require_one_input
from tinymbn.layers import AveragePool, MaxPool, Padding, Reshape
from tinymbn.quantize import (
    FloatAdd,
    FloatConv2D,
    FloatDense,
    FloatDepthwise,
    FloatGraph,
    FloatLogistic,
    FloatMean,
    FloatSoftmax,
    Relu,
)

_ARITHMETIC: Mapping[str, Arithmetic] = {"ADD": "add", "DIV": "div", "MUL": "mul", "SUB": "sub"}


def import_float_tflite(path: str | os.PathLike[str]) -> FloatGraph:
    """The float graph in a ``.tflite`` file.

    Raises:
        UnsupportedError: the model is quantised, or uses what float graphs do not have; all of it is listed.
        ModelError: the file is missing or damaged.
    """
    path = Path(path)
    data = read_file(path, ModelError, MAX_FILE_BYTES)
    try:
        return float_from_bytes(data, path.name)
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error


def float_from_bytes(data: bytes, file_name: str) -> FloatGraph:
    """The float graph in a ``.tflite`` file's bytes; raises as ``import_float_tflite``."""
    file = parse(data)
    if is_quantized(file):
        raise UnsupportedError("already int8, so there is nothing to quantise: tinymbn import MODEL -o model.npz")
    tensor = require_one_input(file)
    low = FloatLowering(file)
    low.begin(file.inputs[0])
    problems = lower(low, OPERATORS)
    if problems:
        raise UnsupportedError(listing(problems, OPERATORS))
    shape = without_batch(tensor.shape)
    return FloatGraph(
        name=Path(file_name).stem,
        input=tensor.name,
        input_shape=shape,
        layers=tuple(low.layers),
        outputs=tuple(low.input(index) for index in file.outputs),
        labels=read_labels(data),
        preprocessing=normalization(file.metadata, shape[-1]) or guessed_preprocessing(low.layers),
    )


def convolution(low: FloatLowering, op: Operator) -> None:
    """CONV_2D and DEPTHWISE_CONV_2D; what PAD puts around their input is their padding."""
    height, width, c_in = map_shape(low, op.inputs[0])
    weights = low.constant(op.inputs[1], "weights")
    geometry = window(op, (height, width), kernel_of(weights))
    rows, columns = geometry.output_size(height, width)
    source, around = low.padded_input(op.inputs[0])
    geometry = replace(geometry, padding=geometry.padding + around)
    weights, channels = filters(op, weights, c_in)
    kind: type[FloatConv2D | FloatDepthwise] = FloatConv2D if op.code == "CONV_2D" else FloatDepthwise
    bias = _bias(low, op, channels)
    low.emit(op, (1, rows, columns, channels), kind(low.name(op), (source,), low.name(op), weights, bias, geometry))


def dense(low: FloatLowering, op: Operator) -> None:
    """FULLY_CONNECTED."""
    weights = low.constant(op.inputs[1], "weights")
    wanted, file_shape = dense_shapes(low, op, weights.shape)
    source = low.input_as(op.inputs[0], wanted)
    bias = _bias(low, op, file_shape[-1])
    low.emit(op, file_shape, FloatDense(low.name(op), (source,), low.name(op), weights, bias))


def _bias(low: FloatLowering, op: Operator, channels: int) -> NDArray[np.float32]:
    if len(op.inputs) < 3 or op.inputs[2] < 0:
        return np.zeros(channels, np.float32)
    return biases(low.constant(op.inputs[2], "bias"), channels)


def pad(low: FloatLowering, op: Operator) -> None:
    """PAD, and PADV2 with zeros: the convolution that follows takes it in."""
    file_shape, pads = padded_shape(low, op)
    if op.code == "PADV2" and low.constant(op.inputs[2], "value").any():
        raise UnsupportedError("padding with something else than zeros")
    if len(pads) != 4 or pads[3] != (0, 0):
        raise UnsupportedError(f"paddings {pads}; expected some of height and width alone")
    (top, bottom), (left, right) = pads[1:3]
    low.pad(op.outputs[0], op.inputs[0], file_shape, Padding(top, bottom, left, right))


def pool(low: FloatLowering, op: Operator) -> None:
    """AVERAGE_POOL_2D and MAX_POOL_2D."""
    height, width, channels = map_shape(low, op.inputs[0])
    geometry = window(op, (height, width), (option(op, "FilterHeight"), option(op, "FilterWidth")))
    kind = MaxPool if op.code == "MAX_POOL_2D" else AveragePool
    layer = kind(low.name(op), (low.input(op.inputs[0]),), low.name(op), geometry)
    low.emit(op, (1, *geometry.output_size(height, width), channels), layer)


def mean(low: FloatLowering, op: Operator) -> None:
    """MEAN."""
    file_shape, axes = mean_shape(low, op)
    leading = batches(low.file_shape(op.inputs[0]))
    counted = tuple(axis - leading for axis in axes if axis >= leading)
    if not counted:
        raise UnsupportedError(f"over axes {axes} alone")
    keep_dims = bool(op.options.get("KeepDims", False))
    low.emit(op, file_shape, FloatMean(low.name(op), (low.input(op.inputs[0]),), low.name(op), counted, keep_dims))


def reshape(low: FloatLowering, op: Operator) -> None:
    """RESHAPE, SQUEEZE and EXPAND_DIMS."""
    file_shape = reshaped(low, op)
    low.emit(op, file_shape, Reshape(low.name(op), (low.input(op.inputs[0]),), low.name(op), without_batch(file_shape)))


def relu(low: FloatLowering, op: Operator) -> None:
    """RELU and RELU6."""
    source = low.input(op.inputs[0])
    low.emit(
        op,
        low.file_shape(op.inputs[0]),
        Relu(low.name(op), (source,), low.name(op), "relu6" if op.code == "RELU6" else "relu"),
    )


def softmax(low: FloatLowering, op: Operator) -> None:
    """SOFTMAX."""
    if option(op, "Beta") != 1:
        raise UnsupportedError(f"beta {option(op, 'Beta')}; expected 1")
    low.emit(op, low.file_shape(op.inputs[0]), FloatSoftmax(low.name(op), (low.input(op.inputs[0]),), low.name(op)))


def logistic(low: FloatLowering, op: Operator) -> None:
    """LOGISTIC."""
    low.emit(op, low.file_shape(op.inputs[0]), FloatLogistic(low.name(op), (low.input(op.inputs[0]),), low.name(op)))


def arithmetic(low: FloatLowering, op: Operator) -> None:
    """ADD of two tensors; ADD, SUB, MUL and DIV of a tensor and a constant a channel, which is a batch-norm."""
    a, b = op.inputs[:2]
    constants = [index for index in (a, b) if low.values(index) is not None]
    if not constants:
        if op.code != "ADD":
            raise UnsupportedError("of two tensors")
        names = (low.input(a), low.input(b))
        shapes = (low.file_shape(a), low.file_shape(b))
        try:
            file_shape = tuple(np.broadcast_shapes(*shapes))
        except ValueError:
            raise ModelError(f"shapes {shapes[0]} and {shapes[1]} do not broadcast") from None
        low.emit(op, file_shape, FloatAdd(low.name(op), names, low.name(op)))
        return
    index, source = (b, a) if constants[0] == b else (a, b)
    file_shape, name = low.file_shape(source), low.input(source)
    values = low.constant(index, "operand")
    channels = file_shape[-1]
    if values.size not in (1, channels) or values.size != (values.shape or (1,))[-1] or values.ndim > len(file_shape):
        raise UnsupportedError(f"a constant of shape {values.shape}; expected a number, or one a channel")
    parts = factor_and_offset(_ARITHMETIC[op.code], values.ravel(), first=index == a)
    factor, offset = (np.broadcast_to(part, channels) for part in parts)
    low.emit(op, file_shape, scaled(low.name(op), name, low.name(op), factor, offset))


def dequantize(low: FloatLowering, op: Operator) -> None:
    """DEQUANTIZE of weights that the file has in float16."""
    low.set_folded(op.outputs[0], low.constant(op.inputs[0], "operand"))


OPERATORS: Mapping[str, Callable[[FloatLowering, Operator], None]] = {
    "ADD": arithmetic,
    "AVERAGE_POOL_2D": pool,
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": convolution,
    "DEQUANTIZE": dequantize,
    "DIV": arithmetic,
    "EXPAND_DIMS": reshape,
    "FULLY_CONNECTED": dense,
    "LOGISTIC": logistic,
    "MAX_POOL_2D": pool,
    "MEAN": mean,
    "MUL": arithmetic,
    "PAD": pad,
    "PADV2": pad,
    "RELU": relu,
    "RELU6": relu,
    "RESHAPE": reshape,
    "SOFTMAX": softmax,
    "SQUEEZE": reshape,
    "SUB": arithmetic,
}
"""What float graphs have, by the names of schema.fbs."""
