"""A program: operations for the one compiled function, with constants, and memory by lifetime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymbn.host.placement import round_up
from tinymbn.kernels.fast.parameters import Code

ALIGNMENT = 64  # a line of the cache, and the widest vector


@dataclass(frozen=True)
class Address:
    """A place that is known when the program is bound to memory.

    Attributes:
        space: "constants"; "arena", by ``buffer``; or "outside", one of the arrays given to a run.
        buffer: a name in the arena, or the array's number.
        offset: bytes from its beginning.
    """

    space: str
    buffer: str | int
    offset: int = 0

    def __add__(self, offset: int) -> Address:
        return Address(self.space, self.buffer, self.offset + int(offset))


Parameter = int | Address


@dataclass(frozen=True)
class Operation:
    """One call of a kernel.

    Attributes:
        code: of the kernel.
        record: its parameters' names.
        parameters: by name; those left out are 0.
        units: rows, pixels or runs that may be shared among threads.
    """

    code: Code
    record: np.dtype[Any]
    parameters: Mapping[str, Parameter]
    units: int


@dataclass
class Buffer:
    """Memory in the arena, from the first layer that writes it to the last that reads it."""

    size_bytes: int
    first: int
    last: int
    offset: int = -1


@dataclass(frozen=True, eq=False)
class Program:
    """What is fixed before memory is.

    Attributes:
        table: int64, (operations, 3): code, offset of the parameters in words, units.
        words: int64, the parameters, addresses as offsets within their space.
        constant_words, arena_words: where addresses stand in ``words``.
        outside_words: where those of outside arrays stand, by the array's number.
        constants: bytes.
        arena_bytes: to be set aside.
        offsets: of buffers in the arena.
    """

    table: NDArray[np.int64]
    words: NDArray[np.int64]
    constant_words: NDArray[np.int64]
    arena_words: NDArray[np.int64]
    outside_words: tuple[tuple[int, ...], ...]
    constants: NDArray[np.uint8]
    arena_bytes: int
    offsets: Mapping[str, int]


@dataclass
class ProgramBuilder:
    """Collects operations, constants and buffers, layer by layer."""

    threads: int
    layer: int = 0
    operations: list[Operation] = field(default_factory=list)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    _constants: list[NDArray[np.uint8]] = field(default_factory=list)
    _constant_bytes: int = 0

    def add(self, code: Code, record: np.dtype[Any], units: int, **parameters: Parameter) -> None:
        """Add an operation to the current layer."""
        assert set(parameters) <= set(record.names or ()), parameters.keys()
        self.operations.append(Operation(code, record, parameters, units))

    def constant(self, values: NDArray[Any]) -> Address:
        """Keep an array, aligned."""
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        address = Address("constants", "", self._constant_bytes)
        padded = np.zeros(round_up(data.size + ALIGNMENT, ALIGNMENT), np.uint8)
        padded[: data.size] = data
        self._constants.append(padded)
        self._constant_bytes += padded.size
        return address

    def table(self, values: NDArray[Any]) -> Address:
        """Keep whole numbers as int32."""
        assert np.abs(values).max(initial=0) < 2**31
        return self.constant(values.astype(np.int32))

    def scratch(self, size_bytes: int) -> Address:
        """Memory for the current layer alone."""
        name = f"scratch {len(self.buffers)}"
        self.buffers[name] = Buffer(size_bytes, self.layer, self.layer)
        return Address("arena", name)

    def finish(self, outside: int) -> Program:
        """Place everything.

        Args:
            outside: how many arrays a run is given.
        """
        arena_bytes = _place(self.buffers)
        words: list[int] = []
        table = np.zeros((len(self.operations), 3), np.int64)
        spaces: dict[str, list[int]] = {"constants": [], "arena": []}
        arrays: list[list[int]] = [[] for _ in range(outside)]
        for row, operation in zip(table, self.operations, strict=True):
            row[:] = operation.code, len(words), operation.units
            for name in operation.record.names or ():
                value = operation.parameters.get(name, 0)
                if isinstance(value, Address):
                    if value.space == "outside":
                        arrays[int(value.buffer)].append(len(words))
                        assert value.offset == 0
                    else:
                        spaces[value.space].append(len(words))
                    inside = self.buffers[str(value.buffer)].offset if value.space == "arena" else 0
                    value = inside + value.offset
                words.append(int(value))
        return Program(
            table=table,
            words=np.array(words, np.int64),
            constant_words=np.array(spaces["constants"], np.int64),
            arena_words=np.array(spaces["arena"], np.int64),
            outside_words=tuple(tuple(places) for places in arrays),
            constants=np.concatenate([np.zeros(0, np.uint8), *self._constants]),
            arena_bytes=arena_bytes,
            offsets={name: buffer.offset for name, buffer in self.buffers.items()},
        )


def _place(buffers: Mapping[str, Buffer]) -> int:
    """Give each buffer an offset, so that none overlaps another that lives at the same time; the bytes of all.

    The largest first, each at the lowest offset that is free as long as it lives.
    """
    placed: list[Buffer] = []
    for buffer in sorted(buffers.values(), key=lambda each: -each.size_bytes):
        offset = 0
        for other in sorted(placed, key=lambda each: each.offset):
            if other.first <= buffer.last and buffer.first <= other.last and other.offset < offset + buffer.size_bytes:
                offset = max(offset, round_up(other.offset + other.size_bytes, ALIGNMENT))
        buffer.offset = offset
        placed.append(buffer)
    return max((buffer.offset + buffer.size_bytes for buffer in placed), default=0)
