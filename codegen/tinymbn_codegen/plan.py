"""Graph + Options -> Plan: every kernel, offset and size decided. After this nothing computes an address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.graph import Graph, Tensor
from tinymbn.layers import AnyLayer, Quantize
from tinymbn_codegen.assignment import Choice, assign
from tinymbn_codegen.check import check_plan
from tinymbn_codegen.kernel_code import KernelCode
from tinymbn_codegen.kernels import Kernel
from tinymbn_codegen.layouts import Layout
from tinymbn_codegen.memory import Buffer
from tinymbn_codegen.options import Options
from tinymbn_codegen.passes import optimise, without_edges
from tinymbn_codegen.registry import ENTRIES
from tinymbn_codegen.requests import COUNTERS, scratch_name, tensor_layouts, tensor_row_bytes
from tinymbn_codegen.scalar import scalar_code
from tinymbn_codegen.schedule import Segment, map_rows
from tinymbn_codegen.streaming import arrange


@dataclass(frozen=True)
class Place:
    """Where a tensor is while a layer runs.

    Attributes:
        tensor: which it is.
        offset: from the arena's start; None for a constant, which is in flash.
        layout: of its rows.
        rows: it is made in; 1 where it is no map.
        slots: rows that there is room for: row y lies in slot y % slots. Fewer than ``rows``: a ring.
        row_bytes: from one slot to the next.
    """

    tensor: Tensor
    offset: int | None
    layout: Layout
    rows: int
    slots: int
    row_bytes: int

    @property
    def bytes(self) -> int:
        """Of all slots."""
        return self.slots * self.row_bytes

    @property
    def streams(self) -> bool:
        """Only some of its rows exist at a time."""
        return self.slots < self.rows


@dataclass(frozen=True, eq=False)
class Step:
    """One layer as the chip runs it.

    Attributes:
        index: its number, from 0; the same in the reference, on the board and on the link.
        layer: what it computes.
        kernel: which kernel does; None where the bytes are in their place already.
        inputs: what it reads.
        output: what it makes.
        scratch: offset of what the kernel needs for itself; None where it needs nothing.
        scratch_bytes: of that.
        over_read: bytes behind each input that the kernel may read, to no effect.
        options: what was asked for.
    """

    index: int
    layer: AnyLayer
    kernel: Kernel | None
    inputs: tuple[Place, ...]
    output: Place
    scratch: int | None
    scratch_bytes: int
    over_read: int
    options: Options

    @cached_property
    def code(self) -> KernelCode | None:
        """What the kernel's template is told, and its constants; None where those are the layer's own."""
        name = self.kernel.name if self.kernel is not None else ""
        tensors = [place.tensor for place in self.inputs]
        if name.startswith("scalar_"):
            return scalar_code(self.layer, tensors[0], self.output.tensor, armv6m=self.options.kernels == "armv6m")
        if name not in ENTRIES:
            return None
        layouts, fast = (self.inputs[0].layout, self.output.layout), self.options.optimize == "speed"
        return ENTRIES[name].kernel(self.layer, tensors, self.output.tensor, *layouts, fast)

    @property
    def macs(self) -> int:
        """Multiplications of an activation with a weight."""
        return self.layer.macs(self.output.tensor.shape)

    @property
    def calls(self) -> int:
        """In how many calls the output is made: one a row where the kernel makes rows."""
        return self.output.rows if self.kernel is not None and self.kernel.rows else 1


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything about a model on a chip but the text of its C.

    Attributes:
        graph: int8 alone, after the passes; what the reference runs when it is compared with the chip.
        options: what was asked for.
        sha256: of the model before the passes, ``model_file.fingerprint``, hexadecimal.
        steps: one a layer.
        segments: the layers that run together, in running order.
        buffers: of the arena.
        arena_bytes: RAM for all activations, the frame included.
        counters: offset of the counters of a segment that streams; None where none does.
        input: where the frame is put.
        outputs: the int8 tensors that are handed out, one after the other.
    """

    graph: Graph
    options: Options
    sha256: str
    steps: tuple[Step, ...]
    segments: tuple[Segment, ...]
    buffers: tuple[Buffer, ...]
    arena_bytes: int
    counters: int | None
    input: Place
    outputs: tuple[Place, ...]

    @property
    def input_bytes(self) -> int:
        """Of the frame."""
        return self.input.tensor.elements

    @property
    def output_bytes(self) -> int:
        """Of all outputs, one after the other."""
        return sum(place.tensor.elements for place in self.outputs)


def make_plan(graph: Graph, options: Options, sha256: str, *, tries: int = 60) -> Plan:
    """Decide how a chip runs a model; the same arguments give the same plan.

    Args:
        graph: the model; QUANTIZE and DEQUANTIZE at its edges stay on the host.
        options: what was asked for.
        sha256: the model's fingerprint.
        tries: orders of placing buffers to compare.

    Raises:
        ModelError: there is nothing to run on a chip.
        UnsupportedError: the input is quantised in more than one way.
    """
    _check(graph)
    graph = optimise(without_edges(graph), options)
    choices = assign(graph, options)
    if options.input == "rows":
        _check_rows(graph, choices)
    arrangement = arrange(graph, choices, options, tries)
    found = {name: buffer for buffer in arrangement.buffers for name in (buffer.request.name, *buffer.request.tensors)}
    layouts = tensor_layouts(graph, choices)

    def place(name: str) -> Place:
        rows, row_bytes = map_rows(graph.tensors[name].shape), tensor_row_bytes(graph, name, layouts[name])
        buffer = found.get(name)
        slots = arrangement.timeline.rings.get(name, rows)
        slots = buffer.request.slots if buffer is not None and slots < rows else rows
        return Place(
            graph.tensors[name], buffer.offset if buffer is not None else None, layouts[name], rows, slots, row_bytes
        )

    steps = []
    for index, (layer, choice) in enumerate(zip(graph.layers, choices, strict=True)):
        scratch = found.get(scratch_name(index))
        steps.append(
            Step(
                index=index,
                layer=layer,
                kernel=choice.kernel,
                inputs=tuple(place(name) for name in layer.inputs),
                output=place(layer.output),
                scratch=scratch.offset if scratch is not None else None,
                scratch_bytes=choice.scratch_bytes,
                over_read=choice.over_read,
                options=options,
            )
        )
    counters = found.get(COUNTERS)
    plan = Plan(
        graph=graph,
        options=options,
        sha256=sha256,
        steps=tuple(steps),
        segments=arrangement.timeline.segments,
        buffers=arrangement.buffers,
        arena_bytes=max(arrangement.arena_bytes, *map(_reach, steps)),
        counters=counters.offset if counters is not None else None,
        input=place(graph.input),
        outputs=tuple(place(name) for name in graph.outputs),
    )
    check_plan(plan)
    return plan


def _reach(step: Step) -> int:
    """Up to where the arena is read."""
    return max((p.offset + p.bytes + step.over_read for p in step.inputs if p.offset is not None), default=0)


def _check_rows(graph: Graph, choices: Sequence[Choice]) -> None:
    first = graph.layers[0]
    if len(graph.input_tensor.shape) != 3 or first.inputs[0] != graph.input or not choices[0].rows:
        raise UnsupportedError(
            f'model {graph.name!r}: its first layer, "{first.name}" ({first.kind}), does not take the input row by '
            "row; leave out --input rows"
        )


def _check(graph: Graph) -> None:
    if not any(True for _ in graph.int8_layers()):
        raise ModelError(f"model {graph.name!r}: it has no int8 layers; there is nothing to run on a chip")
    edges = [layer.output for layer in graph.layers if isinstance(layer, Quantize)]
    if len(edges) > 1:
        raise UnsupportedError(f"model {graph.name!r}: its input is quantised {len(edges)} times; expected once")
    if graph.input in graph.outputs and edges:
        raise UnsupportedError(f'model {graph.name!r}: output "{graph.input}" is its input before quantisation')
