"""The layer kinds: frozen dataclasses that know their arguments, their output's shape and their cost.

All tensors are int8 but for those at the edges (``Quantize``, ``Dequantize``). Shapes leave out the batch of 1
and are in array order, ``(H, W, C)`` for maps. Zero points and scales belong to the tensors, see ``graph``.
"""

from __future__ import annotations

from tinymbn.layers.base import MAX_RANK, Activation, Layer, Shape
from tinymbn.layers.convolution import Conv2D, Dense, Depthwise
from tinymbn.layers.edges import Dequantize, Quantize
from tinymbn.layers.elementwise import Add, Lookup, Mul, Requantize, Softmax
from tinymbn.layers.movement import Concat, Pad, Reshape, ResizeNearest, Transpose
from tinymbn.layers.pooling import AveragePool, MaxPool, Mean
from tinymbn.layers.weighted import Weights
from tinymbn.layers.windowed import Padding, Window, same_padding

AnyLayer = (
    Conv2D
    | Depthwise
    | Dense
    | AveragePool
    | MaxPool
    | Mean
    | Add
    | Mul
    | Requantize
    | Lookup
    | Softmax
    | Pad
    | Concat
    | Reshape
    | Transpose
    | ResizeNearest
    | Quantize
    | Dequantize
)
"""Every layer kind there is; ``match`` on it and end with ``assert_never``."""

__all__ = [
    "Activation",
    "Add",
    "AnyLayer",
    "AveragePool",
    "Concat",
    "Conv2D",
    "Dense",
    "Depthwise",
    "Dequantize",
    "Layer",
    "Lookup",
    "MAX_RANK",
    "MaxPool",
    "Mean",
    "Mul",
    "Pad",
    "Padding",
    "Quantize",
    "Requantize",
    "Reshape",
    "ResizeNearest",
    "Shape",
    "Softmax",
    "Transpose",
    "Weights",
    "Window",
    "same_padding",
]
