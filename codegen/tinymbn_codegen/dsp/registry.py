"""The kernels for the DSP extension by name: what each takes, needs and is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tinymbn.graph import Tensor
from tinymbn.layers import AnyLayer
from tinymbn_codegen.dsp import average, conv2d, depthwise, elementwise, pointwise
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.layouts import Layout

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
        supports: whether it computes a layer: of shapes and zero points alone, not of weights.
        scratch_bytes: RAM that it needs for itself, by the layout of its input.
        kernel: everything about it, once weights are known; and whether speed matters more than flash.
    """

    supports: Callable[[AnyLayer, Tensors, Tensor], bool]
    scratch_bytes: Callable[[AnyLayer, Tensors, Tensor, Layout], int]
    kernel: Callable[[AnyLayer, Tensors, Tensor, Layout, Layout, bool], KernelCode]


def _unary(module: Any) -> Entry:
    own: _Unary = module

    def kernel(
        layer: AnyLayer, inputs: Tensors, output: Tensor, source: Layout, target: Layout, fast: bool
    ) -> KernelCode:
        options = {"fast": fast} if module is pointwise else {}
        return own.kernel(layer, inputs[0], output, source, target, **options)

    return Entry(
        supports=lambda layer, inputs, output: own.supports(layer, inputs[0], output),
        scratch_bytes=lambda layer, inputs, output, source: own.scratch_bytes(layer, inputs[0], output, source),
        kernel=kernel,
    )


ENTRIES: dict[str, Entry] = {
    "dsp_pointwise": _unary(pointwise),
    "dsp_depthwise": _unary(depthwise),
    "dsp_conv2d": _unary(conv2d),
    "dsp_mean": _unary(average),
    "dsp_add": Entry(
        supports=lambda layer, inputs, output: (
            len(inputs) == 2 and elementwise.supports(layer, inputs[0], inputs[1], output)
        ),
        scratch_bytes=lambda layer, inputs, output, source: 0,
        kernel=lambda layer, inputs, output, source, target, fast: elementwise.kernel(
            layer, inputs[0], inputs[1], output, target
        ),
    ),
}
"""In the order in which they are asked whether they take a layer."""
