"""Plan + Board -> what the firmware takes of each memory, before anything is compiled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tinymbn.board import Board, Memory, Use
from tinymbn.layers.windowed import Windowed
from tinymbn_codegen.constants import weights_bytes
from tinymbn_codegen.link_files import link_ram_bytes
from tinymbn_codegen.plan import Plan
from tinymbn_codegen.requests import ALIGNMENT

# Estimates for what only the compiler knows exactly; a test compares them with linked firmware.
FIRMWARE_CODE_BYTES = 13_000  # start-up, board, link
SCHEDULE_CODE_BYTES = 200  # of a layer in run and in run_traced
FIRMWARE_DATA_BYTES = 384  # the board's variables, fault record, and the alignment of all sections

# The deepest path from main to a layer, with what a layer calls and an exception at its end: by gcc's account, which
# build checks; for zig, whose frames are larger, build reserves what it takes.
FIRMWARE_STACK_BYTES = 1_792

# What has to be left beside the frame of the link: the sizes above are estimates, zig takes more stack, and nothing
# that can be left out shall keep a firmware from being linked.
FRAME_BUFFER_SPARE_BYTES = 1_024


@dataclass(frozen=True)
class Part:
    """Something that takes room.

    Attributes:
        name: for people.
        use: which memory it goes to.
        bytes: how much.
        exact: known to the byte; otherwise an estimate, or a bound.
        only_link: the link needs it, for verification; a product does not.
    """

    name: str
    use: Use
    bytes: int
    exact: bool
    only_link: bool = False


@dataclass(frozen=True)
class Room:
    """A memory and what goes there."""

    memory: Memory
    parts: tuple[Part, ...]

    @property
    def used(self) -> int:
        """Bytes of all parts."""
        return sum(part.bytes for part in self.parts)

    @property
    def missing(self) -> int:
        """Bytes by which it does not fit; 0 where it does."""
        return max(0, self.used - self.memory.size)

    @property
    def only_link(self) -> int:
        """Bytes that a product does not need."""
        return sum(part.bytes for part in self.parts if part.only_link)


@dataclass(frozen=True)
class Budget:
    """What a firmware takes of a board.

    Attributes:
        parts: everything, RAM first.
        rooms: the board's memories with their parts; empty for the host, which has no limits.
    """

    parts: tuple[Part, ...]
    rooms: tuple[Room, ...]

    def bytes(self, kind: Literal["ram", "flash"]) -> int:
        """Of all parts in RAM, or in flash."""
        flash: tuple[Use, ...] = ("code", "weights")
        return sum(part.bytes for part in self.parts if (part.use in flash) == (kind == "flash"))

    @property
    def short(self) -> tuple[Room, ...]:
        """The memories that lack something, the one that lacks most first."""
        return tuple(sorted((room for room in self.rooms if room.missing), key=lambda room: -room.missing))

    @property
    def missing(self) -> Room | None:
        """The memory that lacks most; None where all fits."""
        return next(iter(self.short), None)


def make_budget(plan: Plan, board: Board) -> Budget:
    """Add up RAM and flash, the frame of the link included where there is one."""
    arena, *rest = _parts(plan, board)
    frame = frame_buffer_bytes(plan, board)
    buffer = [Part("frame of the link", "arena", -(-frame // ALIGNMENT) * ALIGNMENT, exact=True, only_link=True)]
    return _budget((arena, *(buffer if frame else []), *rest), board)


def frame_buffer_bytes(plan: Plan, board: Board) -> int:
    """Of the frame that the link keeps outside the arena, so that it lasts for any number of runs.

    Where the input comes row by row the link always needs it; else it is there if there is room, and 0 if not.
    """
    if plan.options.input == "rows" or board.is_host:
        return plan.input_bytes
    (room,) = (room for room in _budget(tuple(_parts(plan, board)), board).rooms if "arena" in room.memory.use)
    left = room.memory.size - room.used
    return plan.input_bytes if plan.input_bytes + FRAME_BUFFER_SPARE_BYTES <= left else 0


def _budget(parts: tuple[Part, ...], board: Board) -> Budget:
    rooms = []
    if not board.is_host:
        for memory in board.memory:
            own = tuple(part for part in parts if part.use in memory.use)
            if own:
                rooms.append(Room(memory, own))
    return Budget(parts, tuple(rooms))


def stack_bytes(plan: Plan, board: Board) -> int:
    """The stack that the firmware reserves, a multiple of 8: a bound of its deepest path."""
    kernels = [(step, step.kernel) for step in plan.steps if step.kernel is not None]
    layer = max((kernel.cost(board).stack_bytes for _, kernel in kernels), default=0)
    windows = (step.layer.window for step, _ in kernels if isinstance(step.layer, Windowed))
    pointers = max((4 * window.kernel[0] for window in windows), default=0)
    return -(-(FIRMWARE_STACK_BYTES + layer + pointers) // 8) * 8


def _parts(plan: Plan, board: Board) -> Iterator[Part]:
    layers = len(plan.steps)
    yield Part("activations", "arena", plan.arena_bytes, exact=True)
    yield Part("stack", "stack", stack_bytes(plan, board), exact=False)
    yield Part("link", "data", link_ram_bytes(board.link.rx_max, layers, plan.output_bytes), exact=False)
    yield Part("firmware", "data", FIRMWARE_DATA_BYTES, exact=False)
    kernels = sum(step.kernel.cost(board).code_bytes for step in plan.steps if step.kernel is not None)
    yield Part("weights", "weights", weights_bytes(plan), exact=True)
    yield Part("layers", "code", kernels + SCHEDULE_CODE_BYTES * layers, exact=False)
    yield Part("link and board", "code", FIRMWARE_CODE_BYTES, exact=False)
