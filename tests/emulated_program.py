"""Runs the fast engine's program of a graph in Bochs, on a processor with AVX-512 VNNI."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from tests import bochs
from tests.shared import CHECKOUT
from tinymbn.graph import Graph
from tinymbn.host import program
from tinymbn.host.lowering import Lowered, lower
from tinymbn.host.placement import round_up
from tinymbn.host.program import Buffer
from tinymbn.kernels.fast import native
from tinymbn.kernels.fast.instruction_set import AVX512_VNNI
from tinymbn.layers import AnyLayer, Dequantize

FEATURES = (
    "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2,"
    "+avx512f,+avx512cd,+avx512bw,+avx512dq,+avx512vl,+avx512vnni"
)
_PAGE = 4096


@cache
def object_file() -> native.ObjectFile:
    """The kernels for AVX-512 VNNI, compiled in a process that takes this computer for one that has it."""
    environment = {**os.environ, "NUMBA_CPU_NAME": "icelake-client", "NUMBA_CPU_FEATURES": FEATURES}
    command = "from tinymbn.kernels.fast import native; native.execute(); print(native.folder())"
    done = subprocess.run(
        [sys.executable, "-c", command], env=environment, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE, text=True
    )
    found = native.read_object(Path(done.stdout.strip()) / native.FILE_NAME)
    assert found is not None
    return found


def _apart(buffers: dict[str, Buffer]) -> int:
    """Places buffers so that nothing is overwritten, and each layer's output can be looked at in the end."""
    end = 0
    for buffer in buffers.values():
        buffer.offset = end
        end += round_up(buffer.size_bytes, program.ALIGNMENT)
    return end


def run_layers(graph: Graph, x: NDArray[Any]) -> Iterator[tuple[AnyLayer, NDArray[np.int8]]]:
    """Each int8 layer with its output, in running order; the graph's input is int8 or uint8."""
    with mock.patch.object(program, "_place", _apart):
        lowered = lower(graph, AVX512_VNNI, 1)
    made = lowered.program
    sizes = {
        "constants": made.constants.size,
        "arena": made.arena_bytes,
        "words": made.words.nbytes,
        "table": made.table.nbytes,
        "input": x.nbytes,
        "outputs": sum(graph.tensors[name].elements + 64 for name in lowered.outputs),
        "barrier": 8,
    }
    places, end = {}, bochs.MEMORY
    for name, size in sizes.items():
        places[name] = end
        end = round_up(end + size + 1, _PAGE) + _PAGE  # an unmapped page after each
    words = made.words.copy()
    words[made.constant_words] += places["constants"]
    words[made.arena_words] += places["arena"]
    out = places["outputs"]
    for number, outside in enumerate(made.outside_words):
        is_input = number < len(lowered.inputs)
        words[list(outside)] = places["input"] if is_input else out
        if not is_input:
            out += graph.tensors[lowered.outputs[number - len(lowered.inputs)]].elements + 64
    table = made.table.copy()
    table[:, 1] = table[:, 1] * 8 + places["words"]
    memory = {
        places["constants"]: made.constants.tobytes(),
        places["arena"]: bytes([0xA5]) * made.arena_bytes,
        places["words"]: words.tobytes(),
        places["table"]: table.tobytes(),
        places["input"]: x.tobytes(),
        places["outputs"]: bytes(sizes["outputs"]),
        places["barrier"]: bytes(8),
    }
    scratch = places["outputs"]  # Numba's result and exception: neither is there
    arguments = [scratch, scratch, places["table"], 0, len(table), 0, 1, places["barrier"], 0]
    found = object_file()
    results = [(places["arena"], made.arena_bytes)]
    (arena,) = bochs.call(found.code, found.symbol, arguments, memory, results, timeout_s=600)
    for layer in graph.layers:
        if not isinstance(layer, Dequantize):
            yield layer, _tensor(lowered, layer.output, np.frombuffer(arena, np.uint8))


def _tensor(lowered: Lowered, name: str, arena: NDArray[np.uint8]) -> NDArray[np.int8]:
    address, place = lowered.bases[name], lowered.placements[name]
    memory, start = lowered.program.constants, address.offset
    if address.space == "arena":
        memory, start = arena, start + lowered.program.offsets[str(address.buffer)]
    elements: NDArray[np.int8] = (memory[start + place.offsets()] ^ 0x80).view(np.int8)
    return elements
