"""Models and their layers as tables for people, as wide as the terminal allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tinymbn import labels
from tinymbn.graph import Graph, Tensor
from tinymbn.inference import LayerOutput, LayerTime
from tinymbn.layers import AnyLayer
from tinymbn.summary import kind_text, preprocessing_text
from tinymbn.terminal import printable, shape_text, shorten, terminal_width

_PIPED_WIDTH = 1000  # so that nothing is cut where no one looks at columns
_GAP = 2  # between columns
_LEAST_NAME = 14  # a shorter one says nothing


def print_model(graph: Graph) -> None:
    """What ``tinymbn info`` shows."""
    console = _console()
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
        scores = "; class scores" if labels.is_class_scores(graph, tensor.name) else ""
        facts.add_row("output", _tensor_text(tensor) + scores)
    if graph.labels:
        some = ", ".join(printable(label) for label in graph.labels[:10])
        facts.add_row("labels", f"{len(graph.labels)}: {some}{', ...' if len(graph.labels) > 10 else ''}")
    else:
        facts.add_row("labels", "none; tinymbn import --labels gives it some")
    _show(console, facts)
    print()

    tensors, layers = graph.tensors, graph.layers
    outputs = [tensors[layer.output] for layer in layers]
    _print_columns(
        console,
        _Column("layer", [layer.name for layer in layers], rank=2),
        _Column("kind", [kind_text(layer) for layer in layers]),
        _Column("input", [_shapes(graph, layer) for layer in layers], rank=3),
        _Column("output", [shape_text(output.shape) for output in outputs]),
        _Column("scale", [f"{o.scale:.6g}" if o.quant else "" for o in outputs], rank=1, right=True),
        _Column("zero", [str(o.zero_point) if o.quant else "" for o in outputs], rank=1, right=True),
        _Column("MACs", [_count(layer.macs(tensors[layer.output].shape)) for layer in layers], right=True),
        _Column("weights", [_count(layer.parameters) for layer in layers], right=True),
    )
    print()
    print(f"{len(layers)} layers, {graph.macs:,} MACs, {graph.parameters:,} weights and biases")


def print_layer_outputs(summaries: Sequence[LayerOutput]) -> None:
    """What ``tinymbn run --layers`` adds."""
    _print_columns(
        _console(),
        _Column("layer", [one.layer.name for one in summaries], rank=1),
        _Column("kind", [kind_text(one.layer) for one in summaries]),
        _Column("output", [shape_text(one.shape) for one in summaries]),
        _Column("min", [f"{one.low:.4g}" for one in summaries], right=True),
        _Column("max", [f"{one.high:.4g}" for one in summaries], right=True),
        _Column("CRC-32", [f"{one.crc32:08x}" for one in summaries], right=True),
    )


def print_layer_times(graph: Graph, times: Sequence[LayerTime]) -> None:
    """What ``tinymbn run --profile`` adds."""
    total = sum(one.seconds for one in times)
    shapes = [graph.tensors[one.layer.output].shape for one in times]
    macs = [one.layer.macs(shape) for one, shape in zip(times, shapes, strict=True)]
    rates = [f"{n / one.seconds * 1e-9:.2f}" if n else "" for n, one in zip(macs, times, strict=True)]
    print("Time on this computer, not on a chip (median of runs).")
    _print_columns(
        _console(),
        _Column("layer", [one.layer.name for one in times], rank=1),
        _Column("kind", [kind_text(one.layer) for one in times]),
        _Column("output", [shape_text(shape) for shape in shapes]),
        _Column("ms", [f"{one.seconds * 1e3:.3f}" for one in times], right=True),
        _Column("share", [f"{one.seconds / total:.1%}" for one in times], right=True),
        _Column("GMAC/s", rates, right=True),
    )
    print(f"{total * 1e3:.3f} ms in all")


@dataclass(frozen=True)
class _Column:
    heading: str
    cells: Sequence[str]
    rank: int = 0  # columns of the highest rank go first where room is short; 0 never goes
    right: bool = False

    @property
    def width(self) -> int:
        """With the gap to the next column."""
        return max(map(len, (self.heading, *self.cells))) + _GAP


def _print_columns(console: Console, *columns: _Column) -> None:
    """A table of layers, numbered from 0; names give way first, then the columns by their rank."""
    numbers = _Column("#", [str(i) for i in range(len(columns[0].cells))], right=True)
    kept = [numbers, *columns]

    def room_for_names() -> int:
        return console.width + _GAP - sum(column.width for column in kept if column.heading != "layer")

    for rank in (3, 2, 1):
        if room_for_names() < _GAP + (_LEAST_NAME if any(column.heading == "layer" for column in kept) else 0):
            kept = [column for column in kept if column.rank != rank]

    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    rows = []
    for column in kept:
        table.add_column(column.heading, justify="right" if column.right else "left", no_wrap=True)
        cells = [printable(cell) for cell in column.cells]
        rows.append([shorten(cell, room_for_names() - _GAP) for cell in cells] if column.heading == "layer" else cells)
    for row in zip(*rows, strict=True):
        table.add_row(*row)
    _show(console, table)


def _console() -> Console:
    return Console(width=terminal_width() or _PIPED_WIDTH, highlight=False, markup=False, emoji=False)


def _show(console: Console, table: Table) -> None:
    """Print without the blanks that fill the last column, which would wrap in a terminal made narrower."""
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())


def _bold(text: str) -> Text:
    return Text(text, style="bold")


def _shapes(graph: Graph, layer: AnyLayer) -> str:
    return ", ".join(shape_text(graph.tensors[name].shape) for name in layer.inputs)


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _tensor_text(tensor: Tensor) -> str:
    quant = f", scale {tensor.quant.scale:.6g}, zero point {tensor.quant.zero_point}" if tensor.quant else ""
    return f"{printable(tensor.name)}: {tensor.dtype} {shape_text(tensor.shape)}{quant}"
