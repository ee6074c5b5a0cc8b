"""Conv, Gemm and MatMul: the layers with weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import UnsupportedError
from tinymbn.importers.channels_first import layers
from tinymbn.importers.channels_first.lowering import Value
from tinymbn.importers.onnx.file import Node
from tinymbn.importers.onnx.lowering import OnnxLowering, byte_offset
from tinymbn.importers.onnx.nodes.operands import operand, window_of
from tinymbn.importers.weights import Array
from tinymbn.quantize.given import GivenWeights


def convolution(low: OnnxLowering, node: Node) -> Value:
    """Conv, of one group or of one a channel."""
    value, groups = low.value(node.inputs[0]), node.attributes.get("group", 1)
    weights = low.real(operand(node, 1), "weights")
    window = window_of(node, value, layers.kernel_of(weights))
    made = layers.convolution(low, node, value, weights, _bias(low, node), groups, window)
    _note_integers(low, node, layers.convolution_arrangement(groups), 0)
    return made


def gemm(low: OnnxLowering, node: Node) -> Value:
    """Gemm."""
    if node.attributes.get("transA"):
        raise UnsupportedError("transA")
    alpha, beta = (np.float32(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    if alpha != 1 and low.constant(operand(node, 1), "weights").steps is not None:
        raise UnsupportedError(f"alpha {alpha:g} of quantised weights")
    bias = _bias(low, node)
    weights = alpha * low.real(operand(node, 1), "weights")
    unit_axis = 0 if node.attributes.get("transB") else 1
    return _dense(low, node, weights, None if bias is None else beta * bias, unit_axis)


def matmul(low: OnnxLowering, node: Node) -> Value:
    """MatMul with a constant on the right."""
    return _dense(low, node, low.real(operand(node, 1), "right operand"), None, 1)


def _dense(low: OnnxLowering, node: Node, weights: Array, bias: Array | None, unit_axis: int) -> Value:
    value = low.value(node.inputs[0])
    made = layers.dense(low, node, value, weights if unit_axis == 0 else weights.T, bias)
    arranged = layers.dense_arrangement(low, value)
    _note_integers(low, node, lambda values: arranged(values if unit_axis == 0 else values.T), unit_axis)
    return made


def _bias(low: OnnxLowering, node: Node) -> Array | None:
    return low.real(node.inputs[2], "bias") if operand(node, 2) else None


def _note_integers(
    low: OnnxLowering, node: Node, arranged: Callable[[NDArray[Any]], NDArray[Any]], channel_axis: int
) -> None:
    """Keep the integers that a layer's weights were, where all channels have one zero point and int8 holds it."""
    steps = low.constant(node.inputs[1], "weights").steps
    if steps is None or steps.values.dtype not in (np.int8, np.uint8):
        low.weights[node.name] = None
        return
    channels = steps.values.shape[channel_axis]
    if len(np.unique(steps.zero_points)) != 1 or (steps.scales.ndim and steps.axis != channel_axis):
        raise UnsupportedError("weights with a scale or zero point that is not the output channel's")
    name = operand(node, 2)
    bias = low.constant(name, "bias").steps if name else None
    whole = bias is not None and bias.values.dtype == np.int32 and bias.values.size == channels
    low.weights[node.name] = GivenWeights(
        values=arranged(_signed(steps.values)),
        scales=np.array(np.broadcast_to(steps.scales, (channels,))),
        zero_point=int(steps.zero_points.ravel()[0]) - byte_offset(steps.values.dtype),
        bias=bias.values.ravel() if bias is not None and whole else None,
        bias_scales=np.array(np.broadcast_to(bias.scales, (channels,))) if bias is not None and whole else None,
    )


def _signed(values: NDArray[Any]) -> NDArray[np.int8]:
    return (values.astype(np.int16) - byte_offset(values.dtype)).astype(np.int8)
