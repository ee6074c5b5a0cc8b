"""Conv, Gemm and MatMul: the layers with weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.importers.onnx.file import Node
from tinymbn.importers.onnx.lowering import Array, Lowering, byte_offset, channels_last
from tinymbn.importers.onnx.nodes.operands import operand, window_of
from tinymbn.layers import Padding, Window
from tinymbn.quantize import FloatConv2D, FloatDense, FloatDepthwise
from tinymbn.quantize.given import GivenWeights

_Arranged = Callable[[NDArray[Any]], NDArray[Any]]


def convolution(low: Lowering, node: Node) -> None:
    """Conv, of one group or of one a channel."""
    value = low.value(node.inputs[0])
    weights = low.real(operand(node, 1), "weights")
    if weights.ndim != 4 or value.indices.ndim != 4 or weights.size == 0:
        raise UnsupportedError(f"weights {weights.shape} and input {value.shape}; expected four axes of both")
    groups, channels = node.attributes.get("group", 1), value.shape[1]
    kernel = (weights.shape[2], weights.shape[3])
    window = window_of(node, (value.shape[2], value.shape[3]), kernel)
    depthwise = groups == channels and groups > 1
    if groups != 1 and not depthwise:
        raise UnsupportedError(f"{groups} groups of {channels} channels; expected 1, or one a channel")
    if weights.shape[1] != (1 if depthwise else channels):
        raise ModelError(f"weights {weights.shape} do not fit input {value.shape} in {groups} groups")
    tensor, around = low.read_padded(value)
    own = window.padding
    padding = Padding(
        own.top + around.top, own.bottom + around.bottom, own.left + around.left, own.right + around.right
    )
    window = Window(kernel, window.stride, window.dilation, padding)
    if max(padding.top, padding.bottom) >= window.extent[0] or max(padding.left, padding.right) >= window.extent[1]:
        raise UnsupportedError(f"padding {padding} around a kernel of extent {window.extent}")

    def arranged(values: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(values[:, 0].transpose(1, 2, 0) if depthwise else values.transpose(0, 2, 3, 1))

    kind = FloatDepthwise if depthwise else FloatConv2D
    bias = _bias(low, operand(node, 2), len(weights))
    low.make(kind(node.name, (tensor,), node.outputs[0], arranged(weights), bias, window), channels_last(4))
    note_integers(low, node, arranged, 0)


def gemm(low: Lowering, node: Node) -> None:
    """Gemm."""
    if node.attributes.get("transA"):
        raise UnsupportedError("transA")
    transposed = bool(node.attributes.get("transB"))
    alpha, beta = (np.float32(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    if alpha != 1 and low.constant(operand(node, 1), "weights").steps is not None:
        raise UnsupportedError(f"alpha {alpha:g} of quantised weights")
    weights = low.real(operand(node, 1), "weights")
    if weights.ndim != 2:
        raise ModelError(f"weights of shape {weights.shape}; expected two axes")
    units = weights.shape[0 if transposed else 1]
    bias = beta * _bias(low, operand(node, 2), units)
    _dense(low, node, weights * alpha, bias, 0 if transposed else 1)


def matmul(low: Lowering, node: Node) -> None:
    """MatMul with a constant on the right."""
    weights = low.real(operand(node, 1), "right operand")
    if weights.ndim != 2:
        raise UnsupportedError(f"right operand of shape {weights.shape}; expected two axes")
    _dense(low, node, weights, np.zeros(weights.shape[1], np.float32), 1)


def _dense(low: Lowering, node: Node, weights: Array, bias: Array, unit_axis: int) -> None:
    """A dense layer over the last axis; a map that was flattened in another order has its weights moved about."""
    value = low.value(node.inputs[0])
    rank = value.indices.ndim
    if rank < 2 or weights.size == 0 or weights.shape[1 - unit_axis] != value.shape[-1]:
        raise ModelError(f"weights of shape {weights.shape} do not fit input {value.shape}")
    order = None if rank > 2 or low.is_in_order(value.indices) else value.indices[0]
    if order is not None and order.min() < 0:
        raise UnsupportedError("it reads padding, which only a convolution may")

    def arranged(values: NDArray[Any]) -> NDArray[Any]:
        by_unit = values if unit_axis == 0 else values.T
        if order is None:
            return np.ascontiguousarray(by_unit)
        moved = np.empty_like(by_unit)
        moved[:, order] = by_unit
        return np.ascontiguousarray(moved)

    straight = tuple(range(rank))
    tensor = low.read(value, straight) if order is None else low.reshaped(value.tensor, value.shape[1:])
    low.make(FloatDense(node.name, (tensor,), node.outputs[0], arranged(weights), bias), straight)
    note_integers(low, node, arranged, unit_axis)


def _bias(low: Lowering, name: str, channels: int) -> Array:
    bias = low.real(name, "bias") if name else np.zeros(channels, np.float32)
    try:
        return np.array(np.broadcast_to(bias.ravel(), (channels,)))
    except ValueError:
        raise ModelError(f"bias of shape {bias.shape} for {channels} output channels") from None


def note_integers(low: Lowering, node: Node, arranged: _Arranged, channel_axis: int) -> None:
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
