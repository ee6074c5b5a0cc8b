"""The kernels there are: which of them a layer takes, in what order it reads and writes, and how much stack it needs.

A kernel is a template ``layers/<name>.c.j2``. The general one of a kind has the kind's name and no preconditions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymbn.board import Board
from tinymbn.graph import Graph
from tinymbn.layers import (
    Add,
    AnyLayer,
    Dense,
    Lookup,
    Mul,
    Pad,
    Requantize,
    ResizeNearest,
    Shape,
    Softmax,
)
from tinymbn_codegen.options import KernelSet
from tinymbn_codegen.registry import ENTRIES
from tinymbn_codegen.scalar import scalar_kernel


@dataclass(frozen=True)
class Cost:
    """What a kernel takes on a core.

    Attributes:
        stack_bytes: the most of its own frame, at -O1, -O2 and -Os; at other levels build reserves what it measures.
        code_bytes: about what it takes of flash, at -O2.
    """

    stack_bytes: int
    code_bytes: int


@dataclass(frozen=True)
class Kernel:
    """What is known of a kernel before it is compiled.

    Attributes:
        name: of the template.
        rows: it makes one output row a call, from pointers to the input rows it needs.
        slots: it reads three rows at fixed distances, each row anywhere among them.
        armv6m: on Cortex-M0 and M0+.
        armv7m: on every other core.
    """

    name: str
    rows: bool
    armv6m: Cost
    armv7m: Cost
    slots: bool = False

    def cost(self, board: Board) -> Cost:
        """On the board's core."""
        return self.armv6m if board.core in ("cortex-m0", "cortex-m0plus") else self.armv7m


# Measured with gcc 12 over real models, stacks at -O1, -O2 and -Os, and rounded up. build holds every function's stack
# against these; tests/test_plan.py holds the sum of the code against linked firmware.
KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel("conv2d", rows=True, armv6m=Cost(192, 490), armv7m=Cost(144, 410)),
        Kernel("depthwise", rows=True, armv6m=Cost(208, 490), armv7m=Cost(144, 400)),
        Kernel("scalar_conv2d", rows=True, armv6m=Cost(256, 900), armv7m=Cost(288, 1250)),
        Kernel("scalar_pointwise", rows=True, armv6m=Cost(256, 600), armv7m=Cost(288, 900)),
        Kernel("scalar_depthwise", rows=True, armv6m=Cost(176, 1100), armv7m=Cost(144, 920)),
        Kernel("scalar_dense", rows=False, armv6m=Cost(192, 560), armv7m=Cost(160, 450)),
        Kernel("dense", rows=False, armv6m=Cost(128, 380), armv7m=Cost(80, 300)),
        Kernel("dense_steps", rows=False, armv6m=Cost(128, 400), armv7m=Cost(80, 320)),
        Kernel("average_pool", rows=True, armv6m=Cost(80, 160), armv7m=Cost(64, 130)),
        Kernel("max_pool", rows=True, armv6m=Cost(80, 150), armv7m=Cost(64, 120)),
        Kernel("mean", rows=False, armv6m=Cost(112, 160), armv7m=Cost(64, 130)),
        Kernel("add", rows=False, armv6m=Cost(112, 290), armv7m=Cost(64, 220)),
        Kernel("add_broadcast", rows=False, armv6m=Cost(144, 420), armv7m=Cost(112, 340)),
        Kernel("mul", rows=False, armv6m=Cost(112, 200), armv7m=Cost(64, 150)),
        Kernel("mul_broadcast", rows=False, armv6m=Cost(144, 320), armv7m=Cost(112, 260)),
        Kernel("requantize", rows=False, armv6m=Cost(112, 180), armv7m=Cost(64, 130)),
        Kernel("lookup", rows=False, armv6m=Cost(32, 40), armv7m=Cost(32, 40)),
        Kernel("softmax", rows=False, armv6m=Cost(384, 930), armv7m=Cost(112, 620)),
        Kernel("pad", rows=False, armv6m=Cost(80, 160), armv7m=Cost(64, 140)),
        Kernel("concat", rows=False, armv6m=Cost(64, 90), armv7m=Cost(64, 90)),
        Kernel("reshape", rows=False, armv6m=Cost(32, 24), armv7m=Cost(32, 24)),
        Kernel("transpose", rows=False, armv6m=Cost(64, 80), armv7m=Cost(64, 80)),
        Kernel("resize_nearest", rows=False, armv6m=Cost(64, 90), armv7m=Cost(64, 90)),
        Kernel("mve_pointwise", rows=True, armv6m=Cost(400, 1200), armv7m=Cost(144, 530)),
        Kernel("mve_conv2d", rows=True, armv6m=Cost(400, 1200), armv7m=Cost(208, 1000)),
        Kernel("mve_dense", rows=False, armv6m=Cost(400, 1200), armv7m=Cost(128, 430)),
        Kernel("mve_mean", rows=False, armv6m=Cost(400, 1200), armv7m=Cost(80, 170)),
        Kernel("mve_add", rows=True, armv6m=Cost(400, 1200), armv7m=Cost(64, 110)),
        Kernel("mve_depthwise", rows=True, armv6m=Cost(400, 1200), armv7m=Cost(256, 450)),
        Kernel("dsp_pointwise", rows=True, armv6m=Cost(400, 1500), armv7m=Cost(160, 900)),
        Kernel("dsp_depthwise", rows=True, armv6m=Cost(400, 1500), armv7m=Cost(192, 900), slots=True),
        Kernel("dsp_conv2d", rows=True, armv6m=Cost(400, 1800), armv7m=Cost(144, 1180)),
        Kernel("dsp_add", rows=True, armv6m=Cost(160, 400), armv7m=Cost(96, 170)),
        Kernel("dsp_mean", rows=False, armv6m=Cost(160, 300), armv7m=Cost(64, 110)),
    )
}


_EXTENSIONS: dict[KernelSet, tuple[str, ...]] = {"mve": ("mve_", "dsp_"), "dsp": ("dsp_",), "chosen": ("dsp_",)}
"""Names of the kernels of a set that are for extensions of the instruction set begin so, the faster ones first."""


def candidates(layer: AnyLayer, graph: Graph, kernels: KernelSet) -> Iterator[Kernel]:
    """The kernels of a set whose preconditions this layer fulfils, the fastest first; the last one takes every layout.

    Those for the DSP extension and for Helium also want their maps in layouts of their own: see ``assignment``.
    """
    inputs, output = [graph.tensors[name] for name in layer.inputs], graph.tensors[layer.output]
    if graph.constants.keys().isdisjoint(layer.inputs):
        for prefix in _EXTENSIONS.get(kernels, ()):
            for name, entry in ENTRIES.items():
                if name.startswith(prefix) and entry.supports(layer, inputs, output):
                    yield KERNELS[name]
    if kernels != "plain":
        scalar = scalar_kernel(layer, graph.tensors[layer.inputs[0]], output)
        if scalar is not None:
            yield KERNELS[scalar]
            return
    match layer:
        case Dense() if layer.steps is not None:
            yield KERNELS["dense_steps"]
        case Add() | Mul():
            shapes = {graph.tensors[name].shape for name in (*layer.inputs, layer.output)}
            yield KERNELS[layer.kind if len(shapes) == 1 and kernels != "plain" else f"{layer.kind}_broadcast"]
        case _:
            yield KERNELS[layer.kind]


def overlap_distance(layer: AnyLayer, operand: int, shape: Shape, output: Shape) -> int | None:
    """How far below an input the layer's output may begin, in bytes, and still overwrite only what has been read.

    Row kernels overwrite whole rows that no later row needs; that is no matter of the kernel's and not told here.

    Args:
        layer: whose kernels, all that take whole tensors, read and write as said here.
        operand: which of its inputs.
        shape: of that input.
        output: of the output.

    Returns:
        The least distance: an output at ``offset`` may share bytes with an input at ``offset + distance`` or higher.
        None: nothing may be overwritten before the layer is done.
    """
    match layer:
        case Dense():
            rows = math.prod(shape[:-1])
            return _distance(np.arange(1, rows + 1) * output[-1], np.arange(rows) * shape[-1])
        case Requantize() | Lookup() | Softmax():
            return 0  # each element is read, for the last time, before it is written
        case Add() | Mul():
            return 0 if math.prod(shape) == math.prod(output) else None
        case Pad():
            before, _ = layer.pads[0]
            row = np.arange(output[0])
            read_from = np.clip(row - before, 0, shape[0]) * math.prod(shape[1:])
            return _distance((row + 1) * math.prod(output[1:]), np.where(row - before < shape[0], read_from, -1))
        case ResizeNearest():
            still = np.minimum.accumulate(layer.rows[::-1].astype(np.int64))[::-1]
            return _distance(np.arange(1, output[0] + 1) * math.prod(output[1:]), still * math.prod(shape[1:]))
    return None


def _distance(write_end: NDArray[np.int64], read_from: NDArray[np.int64]) -> int:
    """The most that a write reaches beyond what is still to be read; -1 in ``read_from``: nothing is."""
    needed = read_from >= 0
    return int(np.max(write_end[needed] - read_from[needed]))
