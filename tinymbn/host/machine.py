"""Runs a program: binds it to memory, one copy for each input that is under way, and calls the compiled function."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.graph import Graph
from tinymbn.host.lowering import Lowered, lower
from tinymbn.host.program import ALIGNMENT
from tinymbn.host.team import Team
from tinymbn.kernels.fast import host, native
from tinymbn.kernels.quantize import dequantize, quantize, to_uint8
from tinymbn.layers import Dequantize, Layer, Quantize

Array = NDArray[Any]


def _aligned(size_bytes: int) -> NDArray[np.uint8]:
    raw = np.zeros(size_bytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size_bytes]


def _address(values: Array) -> int:
    address: int = values.__array_interface__["data"][0]
    return address


class Workspace:
    """Memory for one inference at a time.

    Args:
        lowered: what is to be run.
        constants: the program's, aligned.
        outputs: arrays of the types and shapes of those that the program writes.
    """

    def __init__(self, lowered: Lowered, constants: NDArray[np.uint8], outputs: list[Array]) -> None:
        program = lowered.program
        self.arena, self.outputs = _aligned(program.arena_bytes), outputs
        self._words = program.words.copy()
        self._words[program.constant_words] += _address(constants)
        self._words[program.arena_words] += _address(self.arena)
        self._input_words = program.outside_words[: len(lowered.inputs)]
        for places, values in zip(program.outside_words[len(lowered.inputs) :], outputs, strict=True):
            self._words[list(places)] = _address(values)
        table = program.table.copy()
        table[:, 1] = table[:, 1] * self._words.itemsize + _address(self._words)
        self._table, self._barrier, self._expected = table, np.zeros(1, np.int64), 0
        self.operations, self.barrier = _address(table), _address(self._barrier)

    def read(self, inputs: list[Array]) -> None:
        """Read these arrays in the next inference."""
        self._inputs = inputs  # so that they stay where they are
        for places, values in zip(self._input_words, inputs, strict=True):
            for place in places:
                self._words[place] = _address(values)

    def expect(self, arrivals: int) -> int:
        """How many arrivals the barrier will have counted before so many more.

        It counts on and on: a thread that leaves it late must not see it begin anew.
        """
        before = self._expected
        self._expected += arrivals
        return before


class Machine:
    """A graph on this computer's vector instructions.

    Args:
        graph: what to compute.
        threads: that share an inference, and the inputs of a batch.
    """

    def __init__(self, graph: Graph, threads: int) -> None:
        self._graph, self._threads = graph, threads
        self._lowered = lower(graph, host.SET, threads)
        self._count = len(self._lowered.program.table)
        self._constants = _aligned(self._lowered.program.constants.size)
        self._constants[:] = self._lowered.program.constants
        # Of a float output the int8 tensor that it is made of; and where among the written arrays an output stands.
        self._quantized = {
            layer.output: graph.tensors[layer.inputs[0]] for layer in graph.layers if isinstance(layer, Dequantize)
        }
        places = {name: place for place, name in enumerate(self._lowered.outputs)}
        self._outputs = tuple((name, places.get(name)) for name in graph.outputs)
        self._execute = native.execute()
        self._idle: list[Workspace] = []
        self._helpers = Team(threads - 1) if threads > 1 else None
        self._helpers_are_busy = threading.Lock()

    def run(self, x: Array) -> tuple[Array, ...]:
        """The outputs of one input, which has been checked."""
        workspace = self._begin(x)
        if self._helpers is not None and self._helpers_are_busy.acquire(blocking=False):
            try:
                self._share(workspace, self._helpers)
            finally:
                self._helpers_are_busy.release()
        else:
            self._run_alone(workspace)
        return self._end(workspace, x)

    def run_batch(self, batch: Array) -> list[tuple[Array, ...]]:
        """The outputs of each of several inputs, shared among the threads."""
        if self._helpers is None or len(batch) == 1 or not self._helpers_are_busy.acquire(blocking=False):
            return [self.run(np.ascontiguousarray(x)) for x in batch]
        results: list[tuple[Array, ...]] = [()] * len(batch)
        numbers = iter(range(len(batch)))
        turn = threading.Lock()

        def work() -> None:
            while True:
                with turn:
                    number = next(numbers, None)
                if number is None:
                    return
                x = np.ascontiguousarray(batch[number])
                workspace = self._begin(x)
                self._run_alone(workspace)
                results[number] = self._end(workspace, x)

        try:
            self._helpers.all_do(work, min(self._helpers.count, len(batch) - 1))
        finally:
            self._helpers_are_busy.release()
        return results

    def steps(self, x: Array) -> Iterator[Array]:
        """The output of each layer of one input, in running order."""
        workspace = self._begin(x)
        for layer in self._run_layers(workspace):
            if isinstance(layer, Dequantize):
                values = self._tensor(workspace, layer.inputs[0])
                unsigned = self._graph.tensors[layer.output].dtype == "uint8"
                yield to_uint8(values) if unsigned else self._real(layer.output, values)
            else:
                yield self._tensor(workspace, layer.output)
        self._idle.append(workspace)

    def seconds(self, x: Array) -> list[float]:
        """How long each layer takes on one input, copies of arrays from and to outside left out."""
        workspace = self._begin(x)
        times = [time.perf_counter(), *(time.perf_counter() for _ in self._run_layers(workspace))]
        self._idle.append(workspace)
        return [after - before for before, after in pairwise(times)]

    def _begin(self, x: Array) -> Workspace:
        """A workspace that reads this input."""
        try:
            workspace = self._idle.pop()
        except IndexError:
            tensors = [self._graph.tensors[name] for name in self._lowered.outputs]
            outputs = [np.empty(tensor.shape, np.uint8 if tensor.dtype == "uint8" else np.int8) for tensor in tensors]
            workspace = Workspace(self._lowered, self._constants, outputs)
        workspace.read([x if layer is None else self._quantized_by(layer, x) for layer in self._lowered.inputs])
        return workspace

    def _quantized_by(self, layer: Quantize, x: Array) -> Array:
        """What a program reads of an input that is not int8: the same bytes where it is uint8."""
        if x.dtype == np.uint8:
            return x
        made = self._graph.tensors[layer.output]
        return quantize(x, made.scale, made.zero_point)

    def _end(self, workspace: Workspace, x: Array) -> tuple[Array, ...]:
        """The outputs; no two are one memory, even if one is the input itself."""
        outputs = tuple(
            x.copy() if place is None else self._real(name, workspace.outputs[place]) for name, place in self._outputs
        )
        self._idle.append(workspace)
        return outputs

    def _run_alone(self, workspace: Workspace) -> None:
        """Run all operations on this thread."""
        self._execute(workspace.operations, 0, self._count, 0, 1, workspace.barrier, 0)

    def _run_layers(self, workspace: Workspace) -> Iterator[Layer]:
        """Each layer in turn, once its operations have run on this thread."""
        first = 0
        for layer, end in zip(self._graph.layers, self._lowered.ends, strict=True):
            self._execute(workspace.operations, first, end, 0, 1, workspace.barrier, 0)
            yield layer
            first = end

    def _share(self, workspace: Workspace, helpers: Team) -> None:
        """Run with all threads at once; none is ahead of the others by more than an operation, also at the end."""
        arrived = workspace.expect(self._threads * self._count)
        for thread in range(1, self._threads):
            helpers.begin(partial(self._execute_share, workspace, thread, arrived))
        self._execute_share(workspace, 0, arrived)

    def _execute_share(self, workspace: Workspace, thread: int, arrived: int) -> None:
        """One thread's share; until it ends it holds the workspace, which another's end would let go."""
        self._execute(workspace.operations, 0, self._count, thread, self._threads, workspace.barrier, arrived)

    def _real(self, name: str, values: Array) -> Array:
        """A copy of an output that a program wrote, as float32 if that is its type."""
        source = self._quantized.get(name)
        if source is None or self._graph.tensors[name].dtype != "float32":
            return values.copy()
        return dequantize(values, source.scale, source.zero_point)

    def _tensor(self, workspace: Workspace, name: str) -> Array:
        """An int8 tensor, out of the arena or the constants."""
        address, place = self._lowered.bases[name], self._lowered.placements[name]
        memory, start = self._constants, address.offset
        if address.space == "arena":
            memory, start = workspace.arena, start + self._lowered.program.offsets[str(address.buffer)]
        element = host.SET.element
        strides = tuple(count * element.itemsize for count in (place.row, place.pixel, 1))
        elements = np.ndarray(
            (place.rows, place.columns, place.channels),
            element,
            memory,
            start + place.first * element.itemsize,
            strides,
        )
        return (elements.astype(np.int16) - host.SET.offset).astype(np.int8).reshape(place.shape)
