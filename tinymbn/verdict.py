"""What a verification found: equal, or the first byte that differs and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tinymbn.link.messages import StackUse

Cause = Literal["constants", "kernel", "memory", "run", "unsteady"]


@dataclass(frozen=True)
class Difference:
    """The first thing that is not as the reference has it.

    Attributes:
        index: of the layer.
        layer: its own name.
        kind: of layer, with its geometry.
        cause: "constants" in flash are not those of the model; the "kernel" is wrong by itself, on the reference's
            input; the kernel is right, and "memory" changes under it; "run" differs where the traced run is right;
            "unsteady": the same input gave other bytes the second time.
        input: which input shows it; empty for constants.
        different: bytes that differ.
        total: bytes of the layer's output.
        largest: the largest difference of two bytes.
        position: of the first, in the output's shape.
        board: its value there.
        reference: its value here.
    """

    index: int
    layer: str
    kind: str
    cause: Cause
    input: str = ""
    different: int = 0
    total: int = 0
    largest: int = 0
    position: tuple[int, ...] = ()
    board: int = 0
    reference: int = 0

    @property
    def text(self) -> str:
        """One line."""
        where = f"layer {self.index} {self.layer} ({self.kind})"
        if self.cause == "constants":
            crcs = f"CRC {self.board:08x}, expected {self.reference:08x}"
            return f"{where}: its constants on the board are not those of the model ({crcs})"
        if self.cause == "unsteady":
            return f"{where}: its bytes differed once and were right the next time: memory, power or clock are unsteady"
        axes = {1: "c", 3: "yxc"}.get(len(self.position), "abcd"[: len(self.position)])
        first = ", ".join(f"{axis} {number}" for axis, number in zip(axes, self.position, strict=True))
        why = {
            "kernel": "the kernel is wrong by itself, not its input",
            "memory": "alone, on the reference's input, the layer is right: something else writes into its memory",
            "run": "the traced run is right: only the plain one differs",
        }[self.cause]
        return (
            f"{where}: {self.different:,} of {self.total:,} bytes differ, largest difference {self.largest}, "
            f"first at ({first}): board {self.board}, reference {self.reference}; {why}"
        )


@dataclass(frozen=True)
class InputResult:
    """One input, equal in all layers.

    Attributes:
        name: of the input.
        crc32: of each layer's output.
        output_crc32: of what ``run`` gave out.
    """

    name: str
    crc32: tuple[int, ...]
    output_crc32: int


@dataclass(frozen=True)
class Verdict:
    """What a verification found.

    Attributes:
        first_difference: None: all is equal.
        layers: of the network, each compared whole on every input.
        bytes_compared: of layer outputs, and of what ``run`` gave out.
        inputs: those that were equal.
        stack: of the firmware, painted; None where it was not asked.
        remarks: what else there is to say, a line each.
    """

    first_difference: Difference | None
    layers: int
    bytes_compared: int
    inputs: tuple[InputResult, ...]
    stack: StackUse | None = None
    remarks: tuple[str, ...] = field(default=())

    @property
    def equal(self) -> bool:
        """Whether every byte was."""
        return self.first_difference is None
