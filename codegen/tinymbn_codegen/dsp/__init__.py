"""Kernels for cores with the DSP extension."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinymbn.graph import Tensor
from tinymbn.layers import AnyLayer
from tinymbn_codegen.dsp.kernel import DspKernel
from tinymbn_codegen.layouts import Layout

SUPPORTS: dict[str, Callable[[AnyLayer, Tensor, Tensor], bool]] = {}
SCRATCH: dict[str, Callable[[AnyLayer, Tensor, Tensor, Layout], int]] = {}
KERNELS: dict[str, Callable[[AnyLayer, Sequence[Tensor], Tensor, Layout, Layout], DspKernel]] = {}
