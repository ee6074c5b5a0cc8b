"""Which kernel computes each layer, and in which layout each map lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tinymbn.graph import Graph
from tinymbn.layers import AnyLayer, Reshape
from tinymbn_codegen.dsp.registry import ENTRIES
from tinymbn_codegen.kernels import KERNELS, Kernel, choose
from tinymbn_codegen.layouts import Layout
from tinymbn_codegen.options import Options


@dataclass(frozen=True)
class Choice:
    """How a layer is computed.

    Attributes:
        kernel: which kernel does; None where the bytes are in their place already.
        sources: the layouts of its inputs.
        target: the layout of its output.
        scratch_bytes: RAM that it needs for itself while it runs.
    """

    kernel: Kernel | None
    sources: tuple[Layout, ...]
    target: Layout
    scratch_bytes: int

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
    kernels = [None if layer.output in moved else choose(layer, graph, options.kernels) for layer in graph.layers]
    planar = _planar(graph, kernels) if options.kernels in ("chosen", "dsp") else set()
    readers: dict[str, list[int]] = {name: [] for name in graph.tensors}
    for k, layer in enumerate(graph.layers):
        for name in layer.inputs:
            readers[name].append(k)
    layouts: dict[str, Layout] = {}
    for name in graph.tensors:
        layouts[name] = "planar" if name in planar else "nhwc"
    for layer, kernel in zip(graph.layers, kernels, strict=True):
        feeds = [kernels[k] for k in readers[layer.output]]
        pointwise = all(reader is KERNELS["dsp_pointwise"] for reader in feeds)
        if kernel is KERNELS["dsp_depthwise"] and layer.output in planar and pointwise and len(feeds) == 1:
            layouts[layer.output] = "pairs"
    return tuple(_choice(graph, layer, kernel, layouts) for layer, kernel in zip(graph.layers, kernels, strict=True))


def _choice(graph: Graph, layer: AnyLayer, kernel: Kernel | None, layouts: Mapping[str, Layout]) -> Choice:
    sources, target = tuple(layouts[name] for name in layer.inputs), layouts[layer.output]
    scratch = 0
    entry = ENTRIES.get(kernel.name) if kernel is not None else None
    if entry is not None:
        inputs = [graph.tensors[name] for name in layer.inputs]
        scratch = entry.scratch_bytes(layer, inputs, graph.tensors[layer.output], sources[0])
    return Choice(kernel, sources, target, scratch)


def _moved(graph: Graph, options: Options) -> set[str]:
    """Outputs whose bytes are in their place already: of a RESHAPE of what is in the arena."""
    if "alias_reshape" in options.without:
        return set()
    return {
        layer.output for layer in graph.layers if isinstance(layer, Reshape) and layer.inputs[0] not in graph.constants
    }


_WRITES_PLANAR = {"dsp_pointwise", "dsp_conv2d", "dsp_depthwise", "dsp_add"}
_READS_PLANAR = {"dsp_pointwise", "dsp_depthwise", "dsp_add", "dsp_mean"}
_NEEDS_PLANAR = {"dsp_depthwise", "dsp_add", "dsp_mean"}


def _planar(graph: Graph, kernels: list[Kernel | None]) -> set[str]:
    """Maps that lie in planes; layers whose kernel cannot have the planes that it wants get another in ``kernels``."""
    makers = {layer.output: k for k, layer in enumerate(graph.layers)}
    while True:
        names = [kernel.name if kernel is not None else "" for kernel in kernels]
        planar = {name for name, k in makers.items() if names[k] in _WRITES_PLANAR and name not in graph.outputs}
        read = set()
        for layer, kernel in zip(graph.layers, names, strict=True):
            for name in layer.inputs:
                read.add(name)
                if kernel not in _READS_PLANAR:
                    planar.discard(name)
        planar &= read
        wrong = [
            k
            for k, layer in enumerate(graph.layers)
            if (names[k] in _NEEDS_PLANAR and not planar.issuperset(layer.inputs))
            or (names[k] == "dsp_add" and layer.output not in planar)
        ]
        if not wrong:
            return planar
        for k in wrong:
            kernels[k] = choose(graph.layers[k], graph, "armv7m")
