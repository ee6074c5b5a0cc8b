"""Models and their layers as tables for people, as wide as the terminal allows."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from tinymbn import labels
from tinymbn.columns import Column, new_console, print_columns, show
from tinymbn.graph import Graph, Tensor
from tinymbn.inference import LayerOutput, LayerTime
from tinymbn.layers import AnyLayer
from tinymbn.quantize.float_graph import FloatGraph
from tinymbn.summary import float_preprocessing_text, kind_text, preprocessing_text
from tinymbn.terminal import printable, shape_text


def print_model(graph: Graph) -> None:
    """What ``tinymbn info`` shows."""
    console = new_console()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    source = graph.source
    facts.add_row("model", _bold(printable(graph.name)))
    if source.file:
        facts.add_row("source", printable(source.file))
    if source.sha256:
        facts.add_row("SHA-256", source.sha256)
    facts.add_row("input", _tensor_text(graph.input_tensor))
    facts.add_row("picture", preprocessing_text(graph))
    for tensor in graph.output_tensors:
        facts.add_row("output", _tensor_text(tensor) + _scores_text(graph, tensor))
    if graph.labels:
        some = ", ".join(printable(label) for label in graph.labels[:10])
        facts.add_row("labels", f"{len(graph.labels)}: {some}{', ...' if len(graph.labels) > 10 else ''}")
    else:
        facts.add_row("labels", "none; tinymbn import --labels gives it some")
    show(console, facts)
    print()

    tensors, layers = graph.tensors, graph.layers
    outputs = [tensors[layer.output] for layer in layers]
    print_columns(
        console,
        Column("layer", [layer.name for layer in layers], rank=2),
        Column("kind", [kind_text(layer) for layer in layers]),
        Column("input", [_shapes(graph, layer) for layer in layers], rank=3),
        Column("output", [shape_text(output.shape) for output in outputs]),
        Column("scale", [f"{o.scale:.6g}" if o.quant else "" for o in outputs], rank=1, right=True),
        Column("zero", [str(o.zero_point) if o.quant else "" for o in outputs], rank=1, right=True),
        Column("MACs", [_count(layer.macs(tensors[layer.output].shape)) for layer in layers], right=True),
        Column("weights", [_count(layer.parameters) for layer in layers], right=True),
    )
    print()
    print(f"{len(layers)} layers, {graph.macs:,} MACs, {graph.parameters:,} weights and biases")


def print_float_model(graph: FloatGraph) -> None:
    """What ``tinymbn info`` shows of a float model."""
    console = new_console()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("model", _bold(printable(graph.name)))
    facts.add_row("input", f"{printable(graph.input)}: float32 {shape_text(graph.input_shape)}")
    for name in graph.outputs:
        facts.add_row("output", f"{printable(name)}: float32 {shape_text(graph.shapes[name])}")
    facts.add_row("picture", float_preprocessing_text(graph))
    facts.add_row("to run it", "quantise it first: tinymbn quantize MODEL --calibrate PICTURES -o model.npz")
    show(console, facts)
    print()
    layers, shapes = graph.layers, graph.shapes
    print_columns(
        console,
        Column("layer", [layer.name for layer in layers], rank=2),
        Column("kind", [kind_text(layer) for layer in layers]),
        Column("input", [" ".join(shape_text(shapes[name]) for name in layer.inputs) for layer in layers], rank=3),
        Column("output", [shape_text(shapes[layer.output]) for layer in layers]),
        Column("MACs", [_count(layer.macs(shapes[layer.output])) for layer in layers], right=True),
        Column("weights", [_count(layer.parameters) for layer in layers], right=True),
    )
    print()
    print(f"{len(layers)} layers, {graph.macs:,} MACs, {graph.parameters:,} weights and biases with batch-norms folded")


def print_layer_outputs(summaries: Sequence[LayerOutput]) -> None:
    """What ``tinymbn run --layers`` adds."""
    print_columns(
        new_console(),
        Column("layer", [one.layer.name for one in summaries], rank=1),
        Column("kind", [kind_text(one.layer) for one in summaries]),
        Column("output", [shape_text(one.shape) for one in summaries]),
        Column("min", [f"{one.low:.4g}" for one in summaries], right=True),
        Column("max", [f"{one.high:.4g}" for one in summaries], right=True),
        Column("CRC-32", [f"{one.crc32:08x}" for one in summaries], right=True),
    )


def print_layer_times(graph: Graph, times: Sequence[LayerTime]) -> None:
    """What ``tinymbn run --profile`` adds."""
    total = sum(one.seconds for one in times)
    shapes = [graph.tensors[one.layer.output].shape for one in times]
    macs = [one.layer.macs(shape) for one, shape in zip(times, shapes, strict=True)]
    rates = [f"{n / one.seconds * 1e-9:.2f}" if n else "" for n, one in zip(macs, times, strict=True)]
    print("Time on this computer, not on a chip (median of runs).")
    print_columns(
        new_console(),
        Column("layer", [one.layer.name for one in times], rank=1),
        Column("kind", [kind_text(one.layer) for one in times]),
        Column("output", [shape_text(shape) for shape in shapes]),
        Column("ms", [f"{one.seconds * 1e3:.3f}" for one in times], right=True),
        Column("share", [f"{one.seconds / total:.1%}" for one in times], right=True),
        Column("GMAC/s", rates, right=True),
    )
    print(f"{total * 1e3:.3f} ms in all")


def _bold(text: str) -> Text:
    return Text(text, style="bold")


def _shapes(graph: Graph, layer: AnyLayer) -> str:
    return ", ".join(shape_text(graph.tensors[name].shape) for name in layer.inputs)


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _scores_text(graph: Graph, tensor: Tensor) -> str:
    if not labels.class_count(graph, tensor.name):
        return ""
    return "; class scores" if tensor.shape[-1] > 1 else "; the score of class 1 of two"


def _tensor_text(tensor: Tensor) -> str:
    quant = f", scale {tensor.quant.scale:.6g}, zero point {tensor.quant.zero_point}" if tensor.quant else ""
    return f"{printable(tensor.name)}: {tensor.dtype} {shape_text(tensor.shape)}{quant}"
