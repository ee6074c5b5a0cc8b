"""The kernels for the DSP extension and for Helium by name: what each takes, needs and is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tinymbn.graph import Tensor
from tinymbn.layers import AnyLayer
from tinymbn_codegen.dsp import average, conv2d, depthwise, elementwise, pointwise
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout
from tinymbn_codegen.mve import average as mve_average
from tinymbn_codegen.mve import conv2d as mve_conv2d
from tinymbn_codegen.mve import dense as mve_dense
from tinymbn_codegen.mve import depthwise as mve_depthwise
from tinymbn_codegen.mve import elementwise as mve_elementwise
from tinymbn_codegen.mve import pointwise as mve_pointwise

Tensors = Sequence[Tensor]


class _Unary(Protocol):
    """A module with a kernel of one input."""

    supports: Callable[[AnyLayer, Tensor, Tensor], bool]
    scratch_bytes: Callable[[AnyLayer, Tensor, Tensor, Layout], int]
    kernel: Callable[..., KernelCode]


@dataclass(frozen=True)
class Entry:
    """A kernel.

    Attributes:
        reads: the layouts that its inputs may have.
        writes: those that its output may have.
        supports: whether it computes a layer.
        scratch_bytes: RAM that it needs for itself, by the layout of its input.
        over_read: bytes behind an input that it may read, to no effect.
        kernel: everything about it; and whether speed matters more than flash.
    """

    reads: tuple[Layout, ...]
    writes: tuple[Layout, ...]
    supports: Callable[[AnyLayer, Tensors, Tensor], bool]
    scratch_bytes: Callable[[AnyLayer, Tensors, Tensor, Layout], int]
    over_read: Callable[[AnyLayer, Tensor], int]
    kernel: Callable[[AnyLayer, Tensors, Tensor, Layout, Layout, bool], KernelCode]


def _unary(module: Any, reads: tuple[Layout, ...], writes: tuple[Layout, ...]) -> Entry:
    own: _Unary = module
    return Entry(
        reads,
        writes,
        supports=lambda layer, inputs, output: own.supports(layer, inputs[0], output),
        scratch_bytes=lambda layer, inputs, output, source: own.scratch_bytes(layer, inputs[0], output, source),
        over_read=getattr(module, "over_read", _nothing),
        kernel=lambda layer, inputs, output, source, target, fast: own.kernel(
            layer, inputs[0], output, source, target, fast=fast
        ),
    )


def _nothing(layer: AnyLayer, input: Tensor) -> int:
    return 0


ENTRIES: dict[str, Entry] = {
    "mve_pointwise": _unary(mve_pointwise, ("nhwc",), ("nhwc", "planes")),
    "mve_depthwise": _unary(mve_depthwise, ("planes",), ("nhwc", "planes")),
    "mve_conv2d": _unary(mve_conv2d, ("nhwc",), ("nhwc", "planes")),
    "mve_dense": _unary(mve_dense, ("nhwc",), ("nhwc",)),
    "mve_mean": _unary(mve_average, ("nhwc",), ("nhwc",)),
    "mve_add": Entry(
        reads=("nhwc",),
        writes=("nhwc",),
        supports=mve_elementwise.supports,
        scratch_bytes=lambda layer, inputs, output, source: 0,
        over_read=_nothing,
        kernel=lambda layer, inputs, output, source, target, fast: mve_elementwise.kernel(layer, inputs, output),
    ),
    "dsp_pointwise": _unary(pointwise, ("nhwc", "planar", "pairs"), ("nhwc", "planar")),
    "dsp_depthwise": _unary(depthwise, ("planar",), ("nhwc", "planar", "pairs")),
    "dsp_conv2d": _unary(conv2d, ("nhwc",), ("nhwc", "planar")),
    "dsp_mean": _unary(average, ("planar",), ("nhwc",)),
    "dsp_add": Entry(
        reads=("planar",),
        writes=("planar",),
        supports=lambda layer, inputs, output: (
            len(inputs) == 2 and elementwise.supports(layer, inputs[0], inputs[1], output)
        ),
        scratch_bytes=lambda layer, inputs, output, source: 0,
        over_read=_nothing,
        kernel=lambda layer, inputs, output, source, target, fast: elementwise.kernel(
            layer, inputs[0], inputs[1], output, target
        ),
    ),
}
"""In the order in which they are asked whether they take a layer."""
