"""Runs a program: binds it to memory, one copy for each input that is under way, and calls the compiled function."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.graph import Graph
from tinymbn.host.lowering import Lowered, lower
from tinymbn.host.program import ALIGNMENT
from tinymbn.kernels.fast import host, native
from tinymbn.kernels.quantize import dequantize, quantize, to_uint8
from tinymbn.layers import Dequantize

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Array = NDArray[Any]


def _aligned(size_bytes: int) -> NDArray[np.uint8]:
    raw = np.zeros(size_bytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size_bytes]


def _address(values: Array) -> int:
    address: int = values.__array_interface__["data"][0]
    return address


def _thread_pool(threads: int) -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # not before it is needed: it takes its time

    return ThreadPoolExecutor(threads, "tinymbn")


class Workspace:
    """Memory for one inference at a time.

    Args:
        lowered: what is to be run.
        constants: the program's, aligned.
    """

    def __init__(self, lowered: Lowered, constants: NDArray[np.uint8]) -> None:
        program = lowered.program
        self._outside = program.outside_words
        self.arena = _aligned(program.arena_bytes)
        self._words = program.words.copy()
        self._words[program.constant_words] += _address(constants)
        self._words[program.arena_words] += _address(self.arena)
        table = program.table.copy()
        table[:, 1] = table[:, 1] * self._words.itemsize + _address(self._words)
        self._table, self._barrier = table, np.zeros(1, np.int64)
        self.operations, self.barrier = _address(table), _address(self._barrier)

    def connect(self, arrays: list[Array]) -> None:
        """Read and write these arrays from now on; whoever calls keeps them alive."""
        for places, values in zip(self._outside, arrays, strict=True):
            for place in places:
                self._words[place] = _address(values)

    def open_barrier(self) -> None:
        """Begin to count arrivals anew."""
        self._barrier[0] = 0


class Machine:
    """A graph on this computer's vector instructions.

    Args:
        graph: what to compute.
        threads: that share an inference, and the inputs of a batch.
    """

    def __init__(self, graph: Graph, threads: int) -> None:
        self._graph, self._threads = graph, threads
        self._lowered = lower(graph, host.SET, threads)
        self._constants = _aligned(self._lowered.program.constants.size)
        self._constants[:] = self._lowered.program.constants
        self._quantized_outputs = {
            layer.output: graph.tensors[layer.inputs[0]] for layer in graph.layers if isinstance(layer, Dequantize)
        }
        self._execute = native.execute()
        self._idle: list[Workspace] = []
        self._helpers = _thread_pool(threads - 1) if threads > 1 else None
        self._sharing = threading.Lock()

    def run(self, x: Array) -> tuple[Array, ...]:
        """The outputs of one input, which has been checked."""
        workspace = self._take()
        arrays, made = self._arrays(x)
        workspace.connect(arrays)
        self._all(workspace)
        self._idle.append(workspace)
        return self._outputs(x, made)

    def run_batch(self, batch: Array) -> list[tuple[Array, ...]]:
        """The outputs of each of several inputs, shared among the threads."""
        if self._helpers is None or len(batch) == 1:
            return [self.run(x) for x in batch]
        results: list[tuple[Array, ...]] = [()] * len(batch)
        numbers = iter(range(len(batch)))
        turn = threading.Lock()

        def work() -> None:
            workspace = self._take()
            while True:
                with turn:
                    number = next(numbers, None)
                if number is None:
                    break
                x = np.ascontiguousarray(batch[number])
                arrays, made = self._arrays(x)
                workspace.connect(arrays)
                self._execute(workspace.operations, 0, self._count, 0, 1, workspace.barrier)
                results[number] = self._outputs(x, made)
            self._idle.append(workspace)

        others = [self._helpers.submit(work) for _ in range(min(self._threads, len(batch)) - 1)]
        work()
        for other in others:
            other.result()
        return results

    def steps(self, x: Array) -> Iterator[Array]:
        """The output of each layer of one input, in running order."""
        workspace = self._take()
        arrays, _ = self._arrays(x)
        workspace.connect(arrays)
        graph = self._graph
        first = 0
        for layer, end in zip(graph.layers, self._lowered.ends, strict=True):
            self._execute(workspace.operations, first, end, 0, 1, workspace.barrier)
            first = end
            if isinstance(layer, Dequantize):
                values = self._tensor(workspace, layer.inputs[0])
                unsigned = graph.tensors[layer.output].dtype == "uint8"
                yield to_uint8(values) if unsigned else self._real(layer.output, values)
            else:
                yield self._tensor(workspace, layer.output)
        self._idle.append(workspace)

    def seconds(self, x: Array) -> list[float]:
        """How long each layer takes on one input; those of the edges are in the conversion of arrays, and count 0."""
        workspace = self._take()
        arrays, _ = self._arrays(x)
        workspace.connect(arrays)
        times = [time.perf_counter()]
        first = 0
        for end in self._lowered.ends:
            self._execute(workspace.operations, first, end, 0, 1, workspace.barrier)
            times.append(time.perf_counter())
            first = end
        self._idle.append(workspace)
        return [after - before for before, after in pairwise(times)]

    @property
    def _count(self) -> int:
        return len(self._lowered.program.table)

    def _take(self) -> Workspace:
        try:
            return self._idle.pop()
        except IndexError:
            return Workspace(self._lowered, self._constants)

    def _all(self, workspace: Workspace) -> None:
        if self._helpers is None or not self._sharing.acquire(blocking=False):
            self._execute(workspace.operations, 0, self._count, 0, 1, workspace.barrier)
            return
        try:
            workspace.open_barrier()
            arguments = workspace.operations, 0, self._count
            others = [
                self._helpers.submit(self._execute, *arguments, thread, self._threads, workspace.barrier)
                for thread in range(1, self._threads)
            ]
            self._execute(*arguments, 0, self._threads, workspace.barrier)
            for other in others:
                other.result()
        finally:
            self._sharing.release()

    def _arrays(self, x: Array) -> tuple[list[Array], list[Array]]:
        """The arrays that a program reads and writes, and of these those that it writes."""
        tensors = self._graph.tensors
        read = []
        for layer in self._lowered.inputs:
            if layer is None or x.dtype == np.uint8:
                read.append(x)
            else:
                made = tensors[layer.output]
                read.append(quantize(x, made.scale, made.zero_point))
        written = [
            np.empty(tensors[name].shape, np.uint8 if tensors[name].dtype == "uint8" else np.int8)
            for name in self._lowered.outputs
        ]
        return read + written, written

    def _outputs(self, x: Array, written: list[Array]) -> tuple[Array, ...]:
        """All outputs, from those that the program wrote."""
        made = dict(zip(self._lowered.outputs, written, strict=True))
        # An output that is the input itself is a copy, so that no two are one memory.
        return tuple(x.copy() if name not in made else self._real(name, made[name]) for name in self._graph.outputs)

    def _real(self, name: str, values: Array) -> Array:
        if self._graph.tensors[name].dtype != "float32":
            return values
        source = self._quantized_outputs[name]
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
