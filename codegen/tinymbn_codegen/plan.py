"""Graph + Board -> Plan: every kernel, offset and size decided. After this nothing computes an address."""

from __future__ import annotations

from dataclasses import dataclass

from tinymbn.errors import ModelError, UnsupportedError
from tinymbn.graph import Graph, Tensor
from tinymbn.layers import AnyLayer, Quantize
from tinymbn_codegen.kernels import Kernel, choose
from tinymbn_codegen.memory import Buffer, plan_memory
from tinymbn_codegen.options import Options
from tinymbn_codegen.passes import optimise, without_edges


@dataclass(frozen=True)
class Place:
    """Where a tensor is while a layer runs.

    Attributes:
        tensor: which it is.
        offset: from the arena's start; None for a constant, which is in flash.
    """

    tensor: Tensor
    offset: int | None


@dataclass(frozen=True, eq=False)
class Step:
    """One layer as the chip runs it.

    Attributes:
        index: its number, from 0; the same in the reference, on the board and on the link.
        layer: what it computes.
        kernel: which kernel does; None where the bytes are in their place already.
        inputs: what it reads.
        output: what it makes.
        rows: in how many pieces of ``row_bytes`` the output is made, in the order of its bytes.
        row_bytes: of one piece.
    """

    index: int
    layer: AnyLayer
    kernel: Kernel | None
    inputs: tuple[Place, ...]
    output: Place
    rows: int
    row_bytes: int

    @property
    def macs(self) -> int:
        """Multiplications of an activation with a weight."""
        return self.layer.macs(self.output.tensor.shape)


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything about a model on a chip but the text of its C.

    Attributes:
        graph: int8 alone, after the passes; what the reference runs when it is compared with the chip.
        options: what was asked for.
        sha256: of the model before the passes, ``model_file.fingerprint``, hexadecimal.
        steps: one a layer.
        buffers: of the arena.
        arena_bytes: RAM for all activations, the frame included.
        input: where the frame is put.
        outputs: the int8 tensors that are handed out, one after the other.
    """

    graph: Graph
    options: Options
    sha256: str
    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]
    arena_bytes: int
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
    buffers, arena_bytes = plan_memory(graph, options, tries)
    offsets = {name: buffer.offset for buffer in buffers for name in buffer.tensors}
    moves = {name: buffer.tensors[0] for buffer in buffers for name in buffer.tensors}

    def place(name: str) -> Place:
        return Place(graph.tensors[name], offsets.get(name))

    steps = []
    for index, layer in enumerate(graph.layers):
        made = graph.tensors[layer.output]
        in_place = moves[layer.output] != layer.output
        rows = made.shape[0] if len(made.shape) == 3 else 1
        steps.append(
            Step(
                index=index,
                layer=layer,
                kernel=None if in_place else choose(layer, graph, options),
                inputs=tuple(place(name) for name in layer.inputs),
                output=place(layer.output),
                rows=rows,
                row_bytes=made.elements // rows,
            )
        )
    return Plan(
        graph=graph,
        options=options,
        sha256=sha256,
        steps=tuple(steps),
        buffers=buffers,
        arena_bytes=arena_bytes,
        input=place(graph.input),
        outputs=tuple(place(name) for name in graph.outputs),
    )


def _check(graph: Graph) -> None:
    if not any(True for _ in graph.int8_layers()):
        raise ModelError(f"model {graph.name!r}: it has no int8 layers; there is nothing to run on a chip")
    edges = [layer.output for layer in graph.layers if isinstance(layer, Quantize)]
    if len(edges) > 1:
        raise UnsupportedError(f"model {graph.name!r}: its input is quantised {len(edges)} times; expected once")
    if graph.input in graph.outputs and edges:
        raise UnsupportedError(f'model {graph.name!r}: output "{graph.input}" is its input before quantisation')
