"""Writes measurements as Markdown: of Cortex-M what was asked for, then all that was measured, and with what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases import Case
from benchmarks.measurement import Measurement
from benchmarks.networks import Statistics
from benchmarks.targets import TARGETS, Measured, Target
from tinymbn.board import load_board

_PART = "<!-- part: "
_CYCLES_CORE = "cortex-m4"  # of which the estimate is
_NOTHING = "-"


@dataclass(frozen=True)
class MadeNetwork:
    """One of the networks that no file provides.

    Attributes:
        name: of it.
        macs: of an inference.
        weights: and biases.
        statistics: of its activations.
    """

    name: str
    macs: int
    weights: int
    statistics: Statistics


@dataclass(frozen=True)
class Run:
    """All that a run of the benchmarks found.

    Attributes:
        measured: by case.
        failed: cases that could not be measured, and why.
        networks: that were made for it.
        tools: names and versions.
    """

    measured: Measured
    failed: Mapping[Case, str]
    networks: Sequence[MadeNetwork]
    tools: Sequence[tuple[str, str]]


_INTRODUCTION = """## On Cortex-M

Written by `python benchmarks/cortex_m.py`. It generates, builds and runs every firmware in QEMU, and compares every
byte of every layer with the reference while a plugin counts. Instructions are exact; cycles are an estimate for a
Cortex-M4 without wait states, by the table in its Technical Reference Manual. Both are of one inference, from call to
return of `model_run`. Of a Cortex-M3 and a Cortex-M55 there are instructions alone; those of an M55 are not time, for
an instruction for vectors takes one cycle or several, and no emulator counts them."""

_TARGETS = """### What it must reach

CMSIS-NN's figures are of its fastest build for an M4, -O2 with its inline assembler, by the same compiler and counted
in the same way; for an M55 its fastest is -O3, with its kernels for Helium. Its RAM is the largest input and output of
one layer."""

_MEASURED = """### Everything measured

`speed`, `balanced` and `ram` are the choices of `--optimize`. MACs are those that are still done after all
optimisations. Activations are all bytes that a model keeps in RAM by its plan: frame, tensors, scratch and output;
RAM is what of it was linked, with all other variables of the model. Code and constants are the model's own; flash is
all that the firmware takes of it; kernels is what of the code is the layers' functions. Stack is the deepest that the
firmware went, the link included."""

_NETWORKS = """### Networks made for this

`benchmarks/networks.py` makes them of random weights. Inactive and saturated are values of all convolutions at the
lower and the upper end of the activation, on pictures that were not calibrated with; dead are channels that have one
value on all of them."""


def replace_part(path: Path, name: str, text: str) -> str:
    """The document at a path, if there is one, with its part of this name replaced, or added at the end.

    Each part is what one program writes, from a comment that names it to the next such comment.
    """
    document = path.read_text() if path.is_file() else "# Benchmarks\n"
    before, *parts = document.split(_PART)
    texts = dict(part.split(" -->\n", 1) for part in parts)
    texts[name] = f"\n{text.strip()}\n\n"
    return before + "".join(f"{_PART}{each} -->\n{texts[each]}" for each in texts).rstrip() + "\n"


def write_document(run: Run) -> str:
    """The part about Cortex-M."""
    sections = [_INTRODUCTION, markdown(("tool", "version"), run.tools, right=2)]
    sections += [_TARGETS, target_table(run.measured), _MEASURED, measurement_table(run)]
    if run.networks:
        sections += [_NETWORKS, network_table(run.networks)]
    return "\n\n".join(sections) + "\n"


def target_table(measured: Measured, targets: Iterable[Target] = TARGETS) -> str:
    """A row for each target, with a dash for what was not measured."""
    return markdown(
        ("what", "variant", "CMSIS-NN", "must reach", "aim", "reached", "met"),
        [_target_row(target, measured) for target in targets],
        right=2,
    )


def _target_row(target: Target, measured: Measured) -> Sequence[str]:
    sign = ">=" if target.fewer else "<="
    reached = target.reached(measured)
    unequal = any(case in measured and not measured[case].equal for case in target.cases)
    verdict = _NOTHING if reached is None else "no: bytes differ" if unequal else _yes(target.is_met(reached))
    return (
        target.what,
        target.case.variant.name,
        target.peer or _NOTHING,
        f"{sign} {target.text(target.limit)}",
        target.text(target.aim) if target.aim is not None else "",
        target.text(reached) if reached is not None else _NOTHING,
        verdict,
    )


def _yes(met: bool) -> str:
    return "yes" if met else "**no**"


def measurement_table(run: Run) -> str:
    """A row for each measurement, and for each that failed."""
    header = (
        *("model", "variant", "board", "MACs", "est. cycles", "instructions", "cycles a MAC", "activations", "RAM"),
        *("code", "kernels", "constants", "flash", "stack", "equal"),
    )
    rows = [_measurement_row(measurement) for measurement in run.measured.values()]
    rows += [
        (case.model, case.variant.name, case.board, *("",) * (len(header) - 4), f"**no**: {_cell(why)}")
        for case, why in run.failed.items()
    ]
    return markdown(header, rows, right=3)


def _measurement_row(measurement: Measurement) -> Sequence[str]:
    case, counts, footprint = measurement.case, measurement.counts, measurement.footprint
    has_cycles = counts is not None and load_board(case.board).core == _CYCLES_CORE
    return (
        case.model,
        case.variant.name,
        case.board,
        f"{measurement.macs:,}",
        f"{counts.cycles:,}" if counts is not None and has_cycles else _NOTHING,
        f"{counts.instructions:,}" if counts is not None else _NOTHING,
        f"{counts.cycles / measurement.macs:.3f}" if counts is not None and has_cycles else _NOTHING,
        f"{measurement.activation_bytes:,}",
        f"{footprint.ram:,}",
        f"{footprint.code:,}",
        f"{footprint.kernels:,}",
        f"{footprint.constants:,}",
        f"{measurement.flash_bytes:,}",
        f"{measurement.stack_bytes:,}",
        "yes" if measurement.equal else f"**no**: {_cell(measurement.difference)}",
    )


def network_table(networks: Iterable[MadeNetwork]) -> str:
    """A row for each network."""
    return markdown(
        ("network", "MACs", "weights", "inactive", "saturated", "dead"),
        [
            (
                network.name,
                f"{network.macs:,}",
                f"{network.weights:,}",
                f"{network.statistics.low:.1%}",
                f"{network.statistics.high:.2%}",
                f"{network.statistics.dead:.2%}",
            )
            for network in networks
        ],
        right=1,
    )


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: int) -> str:
    """A table; columns from ``right`` on are aligned to the right."""
    rows = list(rows)
    assert all(len(row) == len(header) for row in rows)
    rule = "|".join("--:" if column >= right else "---" for column in range(len(header)))
    return "\n".join([_line(header), f"|{rule}|", *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """Text that stays in its cell."""
    return text.replace("|", "\\|").replace("\n", " ")
