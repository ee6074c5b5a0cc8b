"""Which kernel computes each layer, and in which layout each map lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

from tinymbn.graph import Graph
from tinymbn.layers import AnyLayer, Reshape
from tinymbn_codegen.kernels import KERNELS, Kernel, candidates
from tinymbn_codegen.layouts import Layout
from tinymbn_codegen.options import Options
from tinymbn_codegen.registry import ENTRIES


@dataclass(frozen=True)
class Choice:
    """How a layer is computed.

    Attributes:
        kernel: which kernel does; None where the bytes are in their place already.
        sources: the layouts of its inputs.
        target: the layout of its output.
        scratch_bytes: RAM that it needs for itself while it runs.
        over_read: bytes behind each input that it may read, to no effect.
    """

    kernel: Kernel | None
    sources: tuple[Layout, ...]
    target: Layout
    scratch_bytes: int
    over_read: int = 0

    @property
    def rows(self) -> bool:
        """It makes one output row a call."""
        return self.kernel is not None and self.kernel.rows


def assign(graph: Graph, options: Options) -> tuple[Choice, ...]:
    """A kernel for every layer, and layouts that fit each other; the same arguments give the same choices.

    Args:
        graph: int8 alone.
        options: which set of kernels, which passes are off.
    """
    moved = _moved(graph, options)
    able: list[Iterator[Kernel | None]] = [
        repeat(None) if layer.output in moved else candidates(layer, graph, options.kernels) for layer in graph.layers
    ]
    kernels, layouts = _fitting(graph, able)
    readers = _readers(graph)
    for layer, kernel in zip(graph.layers, kernels, strict=True):
        # A row of pairs is worth its size only where nothing but one pointwise layer reads it.
        feeds = [kernels[k] for k in readers[layer.output]]
        if kernel is KERNELS["dsp_depthwise"] and feeds == [KERNELS["dsp_pointwise"]]:
            layouts[layer.output] = "pairs" if layouts[layer.output] == "planar" else layouts[layer.output]
    return tuple(_choice(graph, layer, kernel, layouts) for layer, kernel in zip(graph.layers, kernels, strict=True))


def _choice(graph: Graph, layer: AnyLayer, kernel: Kernel | None, layouts: Mapping[str, Layout]) -> Choice:
    sources, target = tuple(layouts[name] for name in layer.inputs), layouts[layer.output]
    scratch = over_read = 0
    entry = ENTRIES.get(kernel.name) if kernel is not None else None
    if entry is not None:
        inputs = [graph.tensors[name] for name in layer.inputs]
        scratch = entry.scratch_bytes(layer, inputs, graph.tensors[layer.output], sources[0])
        over_read = max(entry.over_read(layer, tensor) for tensor in inputs)
    return Choice(kernel, sources, target, scratch, over_read)


def _moved(graph: Graph, options: Options) -> set[str]:
    """Outputs whose bytes are in their place already: of a RESHAPE of what is in the arena."""
    if "alias_reshape" in options.without:
        return set()
    return {
        layer.output for layer in graph.layers if isinstance(layer, Reshape) and layer.inputs[0] not in graph.constants
    }


def _readers(graph: Graph) -> dict[str, list[int]]:
    """The layers that read each tensor."""
    found: dict[str, list[int]] = {name: [] for name in graph.tensors}
    for k, layer in enumerate(graph.layers):
        for name in layer.inputs:
            found[name].append(k)
    return found


def _fitting(graph: Graph, able: Sequence[Iterator[Kernel | None]]) -> tuple[list[Kernel | None], dict[str, Layout]]:
    """A kernel of each layer's, the fastest whose layouts can be had, and the layouts; no slower one is asked for."""
    kernels = [next(own) for own in able]
    readers, makers = _readers(graph), {layer.output: k for k, layer in enumerate(graph.layers)}
    while True:
        entries = [ENTRIES.get(kernel.name) if kernel is not None else None for kernel in kernels]
        reads = [entry.reads if entry is not None else ("nhwc",) for entry in entries]
        writes = [entry.writes if entry is not None else ("nhwc",) for entry in entries]
        layouts: dict[str, Layout] = dict.fromkeys(graph.tensors, "nhwc")
        for name, maker in makers.items():
            if name in graph.outputs or not readers[name]:
                continue
            for layout in _SPECIAL:
                if layout in writes[maker] and all(layout in reads[k] for k in readers[name]):
                    layouts[name] = layout
        wrong = [
            k
            for k, layer in enumerate(graph.layers)
            if layouts[layer.output] not in writes[k] or any(layouts[name] not in reads[k] for name in layer.inputs)
        ]
        if not wrong:
            return kernels, layouts
        for k in wrong:
            kernels[k] = next(able[k])


_SPECIAL: tuple[Layout, ...] = ("planar", "planes")
"""The layouts that a map has wherever its maker and all its readers can."""
