"""Exact graph optimisations: after each pass, every channel of a tensor that remains has the same bytes as before."""

from __future__ import annotations

from dataclasses import replace

from tinymbn.graph import Graph
from tinymbn.layers import AnyLayer, Conv2D, Depthwise, Dequantize, Pad, Padding
from tinymbn_codegen.dead_channels import remove_dead_channels
from tinymbn_codegen.options import Options


def optimise(graph: Graph, options: Options) -> Graph:
    """The graph after all passes that are not switched off."""
    if "fold_padding" not in options.without:
        graph = fold_padding(graph)
    if "dead_channels" not in options.without:
        graph = remove_dead_channels(graph)
    return graph


def without_edges(graph: Graph) -> Graph:
    """The part that runs on a chip, from the first int8 tensor to the last; the host does the edges."""
    inner = {layer.output: layer.inputs[0] for layer in graph.layers if isinstance(layer, Dequantize)}
    return replace(
        graph,
        tensors={name: tensor for name, tensor in graph.tensors.items() if tensor.dtype == "int8"},
        layers=tuple(graph.int8_layers()),
        input=graph.quantized_input.name,
        outputs=tuple(inner.get(name, name) for name in graph.outputs),
    )


def fold_padding(graph: Graph) -> Graph:
    """Let convolutions pad for themselves where a PAD before them adds what they count as nothing.

    A PAD goes when it pads rows and columns alone, with its tensor's zero point, and all who read it are
    convolutions whose windows stay wider than their padding.
    """
    layers: list[AnyLayer] = list(graph.layers)
    gone: set[str] = set()
    for pad in graph.layers:
        if not isinstance(pad, Pad) or not _adds_zeros(graph, pad):
            continue
        readers = [i for i, layer in enumerate(layers) if pad.output in layer.inputs]
        folded = [_with_padding(layers[i], pad) for i in readers]
        if not folded or pad.output in graph.outputs:
            continue
        if any(layer is None for layer in folded):
            continue
        for i, layer in zip(readers, folded, strict=True):
            assert layer is not None
            layers[i] = layer
        layers.remove(pad)
        gone.add(pad.output)
    if not gone:
        return graph
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name not in gone}
    return replace(graph, tensors=tensors, layers=tuple(layers))


def _adds_zeros(graph: Graph, pad: Pad) -> bool:
    before, after = graph.tensors[pad.inputs[0]], graph.tensors[pad.output]
    return (
        len(pad.pads) == 3
        and pad.pads[2] == (0, 0)
        and pad.value == after.zero_point
        and before.quant == after.quant
        and before.name not in graph.constants
    )


def _with_padding(layer: AnyLayer, pad: Pad) -> Conv2D | Depthwise | None:
    """The convolution reading what the PAD reads; None where it cannot."""
    if not isinstance(layer, Conv2D | Depthwise):
        return None
    (top, bottom), (left, right), _ = pad.pads
    old = layer.window.padding
    padding = Padding(old.top + top, old.bottom + bottom, old.left + left, old.right + right)
    window = replace(layer.window, padding=padding)
    if max(padding.top, padding.bottom) >= window.extent[0] or max(padding.left, padding.right) >= window.extent[1]:
        return None
    return replace(layer, inputs=(pad.inputs[0],), window=window)
