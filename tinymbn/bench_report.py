"""Shows plans, builds, verdicts and profiles: values for JSON, and text for people."""

from __future__ import annotations

from typing import Any

from tinymbn import __version__
from tinymbn.board import Board
from tinymbn.build import BuildResult
from tinymbn.columns import Column, new_console, print_columns
from tinymbn.connection import Connection
from tinymbn.estimate_report import (
    difference,
    difference_cells,
    estimate_lines,
    estimate_values,
    estimated_counts,
    instruction_cells,
)
from tinymbn.profile import Profile
from tinymbn.summary import SCHEMA, kind_text
from tinymbn.terminal import printable, shape_text
from tinymbn.verdict import Verdict
from tinymbn.verify import Identity
from tinymbn_codegen.budget import Budget, frame_buffer_bytes
from tinymbn_codegen.estimate import Estimate, estimate
from tinymbn_codegen.fit import Size
from tinymbn_codegen.plan import Place, Plan
from tinymbn_codegen.project import layer_values

_BAR_CELLS = 20


def board_values(board: Board) -> dict[str, Any]:
    """A board for JSON."""
    return {
        "name": board.name,
        "title": board.title,
        "core": board.core,
        "clock_hz": board.clock_hz,
        "ram_bytes": board.ram_bytes,
        "flash_bytes": board.flash_bytes,
        "emulator": board.emulator.kind if board.emulator is not None else None,
        "tested": board.tested,
    }


def print_boards(boards: tuple[Board, ...]) -> None:
    """What ``tinymbn boards`` shows."""
    print_columns(
        new_console(),
        Column("board", [board.name for board in boards]),
        Column("core", [board.core for board in boards]),
        Column("MHz", [f"{board.clock_hz / 1e6:g}" if board.clock_hz else "" for board in boards], right=True),
        Column("RAM", [_size_text(board.ram_bytes) for board in boards], right=True),
        Column("flash", [_size_text(board.flash_bytes) for board in boards], right=True),
        Column("tested", [board.tested for board in boards]),
        numbered=False,
    )


def plan_values(plan: Plan, budget: Budget, board: Board, sizes: tuple[Size, ...]) -> dict[str, Any]:
    """A plan for JSON."""
    room = budget.missing
    return {
        "schema": SCHEMA,
        "model": {"name": plan.graph.name, "sha256": plan.sha256},
        "board": board.name,
        "options": plan.options.text,
        "fits": room is None,
        "missing_bytes": room.missing if room is not None else 0,
        "largest": [{"width": float(s.width), "height": s.height, "columns": s.columns} for s in sizes],
        "activation_bytes": plan.arena_bytes,
        "frame_buffer_bytes": frame_buffer_bytes(plan, board),
        "input_bytes": plan.input_bytes,
        "output_bytes": plan.output_bytes,
        "ram_bytes": budget.bytes("ram"),
        "flash_bytes": budget.bytes("flash"),
        "parts": [{"name": p.name, "use": p.use, "bytes": p.bytes, "exact": p.exact} for p in budget.parts],
        "memories": [
            {"name": r.memory.name, "kind": r.memory.kind, "used": r.used, "size": r.memory.size} for r in budget.rooms
        ],
        "macs": plan.graph.macs,
        "estimate": estimate_values(estimate(plan, board)),
        "layers": layer_values(plan, board),
    }


def print_plan(plan: Plan, budget: Budget, board: Board) -> None:
    """What ``tinymbn plan`` shows."""
    console = new_console()
    steps, estimated = plan.steps, estimate(plan, board)
    print_columns(
        console,
        Column("layer", [step.layer.name for step in steps], rank=2),
        Column("kind", [kind_text(step.layer) for step in steps]),
        Column("kernel", [step.kernel.name if step.kernel is not None else "in place" for step in steps], rank=1),
        Column("output", [shape_text(step.output.tensor.shape) for step in steps]),
        Column("at", [str(step.output.offset) for step in steps], right=True),
        Column("bytes", [f"{step.output.bytes:,}" for step in steps], right=True),
        Column("rows", [_rows_text(step.output) for step in steps], rank=4),
        Column("MACs", [f"{step.macs:,}" if step.macs else "" for step in steps], rank=3, right=True),
        *([Column("instructions", instruction_cells(estimated), rank=3, right=True)] if estimated else []),
    )
    print()
    print_columns(
        console,
        Column("part", [part.name for part in budget.parts]),
        Column("goes to", [_place(part.use) for part in budget.parts]),
        Column("bytes", [f"{part.bytes:,}" for part in budget.parts], right=True),
        Column("", ["" if part.exact else "bound" if part.use == "stack" else "estimate" for part in budget.parts]),
        numbered=False,
    )
    print()
    for room in budget.rooms:
        print(_usage_line(room.memory.name, room.used, room.memory.size))
    if not budget.rooms:
        print(f"RAM {budget.bytes('ram'):,} bytes, flash {budget.bytes('flash'):,} bytes")
    for line in estimate_lines(estimated):
        print(line)


def _rows_text(place: Place) -> str:
    """How much of a map that streams exists at a time."""
    return f"{place.slots} of {place.rows}" if place.streams else ""


def build_values(result: BuildResult) -> dict[str, Any]:
    """A build for JSON."""
    return {
        "schema": SCHEMA,
        "target": str(result.target),
        "bytes": result.target.stat().st_size,
        "compiler": result.compiler,
        "memories": [{"name": u.name, "kind": u.kind, "used": u.used, "size": u.size} for u in result.usage],
        "stack": None
        if result.stack is None
        else {"measured": result.stack.measured, "reserved": result.stack.reserved},
        "warnings": result.warnings.splitlines(),
    }


def print_build(result: BuildResult) -> None:
    """What ``tinymbn build`` shows."""
    print(f"{result.target}: {result.target.stat().st_size:,} bytes, {result.compiler}")
    for usage in result.usage:
        print(_usage_line(usage.name, usage.used, usage.size))
    if result.stack is not None:
        deepest = "not told by this compiler" if result.stack.measured is None else f"at most {result.stack.measured:,}"
        print(f"stack: {deepest} of {result.stack.reserved:,} bytes reserved")


def verdict_values(
    verdict: Verdict, identity: Identity, connection: Connection, board: Board, compiler: str
) -> dict[str, Any]:
    """A verdict for JSON."""
    hello, first = identity.hello, verdict.first_difference
    names = [step.layer.name for step in identity.plan.steps]
    return {
        "schema": SCHEMA,
        "equal": verdict.equal,
        "layers_compared": verdict.layers if verdict.inputs else 0,
        "bytes_compared": verdict.bytes_compared,
        "first_difference": None
        if first is None
        else {
            "layer": first.index,
            "name": first.layer,
            "kind": first.kind,
            "cause": first.cause,
            "input": first.input,
            "different": first.different,
            "total": first.total,
            "largest": first.largest,
            "position": list(first.position),
            "board": first.board,
            "reference": first.reference,
            "text": first.text,
        },
        "tinymbn": __version__,
        "board": {"name": board.name, "core": hello.core, "clock_hz": hello.clock_hz, "firmware": hello.version},
        "emulated": connection.machine is not None,
        "model": {"name": identity.plan.graph.name, "sha256": identity.model.sha256},
        "options": identity.model.options,
        "compiler": compiler,
        "inputs": [
            {
                "name": result.name,
                "layers": [
                    {"index": i, "name": name, "crc32": f"{crc:08x}"}
                    for i, (name, crc) in enumerate(zip(names, result.crc32, strict=True))
                ],
                "output_crc32": f"{result.output_crc32:08x}",
            }
            for result in verdict.inputs
        ],
        "stack": None
        if verdict.stack is None
        else {"used": verdict.stack.used_bytes, "reserved": verdict.stack.reserved_bytes},
        "remarks": list(verdict.remarks),
    }


def print_verdict(verdict: Verdict, identity: Identity, connection: Connection, board: Board, compiler: str) -> None:
    """What ``tinymbn verify`` shows."""
    where = "emulated" if connection.machine is not None else "board"
    print(f"board    {board.name} ({where}), {identity.hello.core}, tinymbn {identity.hello.version}")
    if compiler:
        print(f"built    {compiler}")
    print(f"model    {printable(identity.plan.graph.name)}, SHA-256 {identity.model.sha256}")
    if verdict.stack is not None and verdict.stack.reserved_bytes:
        print(f"stack    {verdict.stack.used_bytes:,} of {verdict.stack.reserved_bytes:,} bytes used")
    for result in verdict.inputs:
        print(f"input    {printable(result.name)}: {verdict.layers} layers equal, output CRC {result.output_crc32:08x}")
    for remark in verdict.remarks:
        print(f"remark   {printable(remark)}")
    if verdict.first_difference is not None:
        print(f"DIFFERS  {printable(verdict.first_difference.text)}")
    else:
        inputs = f"{len(verdict.inputs)} input{'s' if len(verdict.inputs) != 1 else ''}"
        print(f"EQUAL    {verdict.layers} layers, {inputs}, {verdict.bytes_compared:,} bytes, every one")


def profile_values(profile: Profile, board: Board, estimate: Estimate | None) -> dict[str, Any]:
    """A profile for JSON."""
    estimated = estimated_counts(estimate, profile)
    return {
        "schema": SCHEMA,
        "board": board.name,
        "unit": profile.unit,
        "total": profile.total,
        "seconds": profile.total / profile.clock_hz if profile.clock_hz else None,
        "runs": profile.runs,
        "estimated": estimated[-1] if estimated else None,
        "estimate": estimate_values(estimate),
        "layers": [
            {
                "index": cost.step.index,
                "name": cost.step.layer.name,
                "kind": cost.step.layer.kind,
                "macs": cost.step.macs,
                "count": cost.count,
                "estimated": estimated[i] if estimated else None,
            }
            for i, cost in enumerate(profile.layers)
        ],
    }


def print_profile(profile: Profile, board: Board, estimate: Estimate | None) -> None:
    """What ``tinymbn profile`` shows."""
    layers, estimated = profile.layers, estimated_counts(estimate, profile)
    total = sum(cost.count for cost in layers) or 1
    print_columns(
        new_console(),
        Column("layer", [cost.step.layer.name for cost in layers], rank=1),
        Column("kind", [kind_text(cost.step.layer) for cost in layers]),
        Column("MACs", [f"{cost.step.macs:,}" if cost.step.macs else "" for cost in layers], rank=2, right=True),
        Column(profile.unit, [f"{cost.count:,}" for cost in layers], right=True),
        Column(
            "a MAC", [f"{cost.count / cost.step.macs:.2f}" if cost.step.macs else "" for cost in layers], right=True
        ),
        Column("share", [f"{cost.count / total:.1%}" for cost in layers], right=True),
        *([Column("estimate", difference_cells(estimated, profile), rank=3, right=True)] if estimated else []),
    )
    print()
    of = f"median of {profile.runs} runs" if profile.runs > 1 else "one run"
    print(f"{profile.total:,} {profile.unit} for the network on {board.name}, {of}")
    if estimated:
        print(f"{estimated[-1]:,} estimated, {difference(estimated[-1], profile.total)}; each layer's as a difference")
    if profile.clock_hz:
        print(f"{profile.total / profile.clock_hz * 1e3:.3f} ms at {profile.clock_hz / 1e6:g} MHz")
    elif profile.unit == "instructions":
        print("An emulator counts instructions; they are not cycles.")
        if estimate is not None and estimate.cycles is None:
            print(f"Time is not known: {estimate.reason}.")
    elif profile.unit == "nanoseconds":
        print("Time on this computer, with sanitizers; it says nothing of a chip.")


def _place(use: str) -> str:
    return {"arena": "RAM", "stack": "RAM", "data": "RAM"}.get(use, "flash")


def _size_text(size: int) -> str:
    if not size:
        return ""
    return f"{size / (1 << 20):g} MiB" if size >= 1 << 20 and size % (1 << 19) == 0 else f"{size / 1024:.0f} KiB"


def _usage_line(name: str, used: int, size: int) -> str:
    """``ram    [=====               ]  25.1 %  4,120 of 16,384 bytes``, as PlatformIO has it."""
    cells = min(_BAR_CELLS, -(-used * _BAR_CELLS // size))
    bar = "=" * cells + " " * (_BAR_CELLS - cells)
    return f"{name:13} [{bar}] {used / size:6.1%}  {used:,} of {size:,} bytes"
