"""Fits formulas to what was measured, and writes them down: ``costs.toml`` for the estimate, a document for people."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.fit_measure import BOARDS, Case, Measured
from benchmarks.least_squares import Array, fit_relative, nonnegative_least_squares
from tinymbn_codegen.estimate import (
    SCHEDULE,
    SCHEMA,
    CoreFactor,
    Costs,
    Formula,
    instructions_of,
    parse_costs,
    schedule_turns,
)
from tinymbn_codegen.loops import CoreClass, Turns, turns
from tinymbn_codegen.plan import Plan

_DIGITS = 5  # of a coefficient

# CoreMark for each MHz as published for each core: what is left where nobody has measured.
_COREMARK = {"cortex-m4": 3.40, "cortex-m7": 5.01, "cortex-m33": 4.02}

# No table has the cycles of each of their instructions, and the ratio of CoreMark says nothing of vectors.
_UNKNOWN = {
    core: CoreFactor(None, f"no emulator counts cycles of a {core.title()}, and instructions are not cycles")
    for core in ("cortex-m55", "cortex-m85")
}


@dataclass(frozen=True)
class Run:
    """A network that was measured, with its plan."""

    case: Case
    core: CoreClass
    plan: Plan
    measured: Measured
    held_out: bool


@dataclass(frozen=True)
class Check:
    """What was estimated of a whole run that nothing was fitted on, and what was measured."""

    network: str
    board: str
    kernels: str
    estimated: int
    measured: int

    @property
    def error(self) -> float:
        """Relative."""
        return self.estimated / self.measured - 1


@dataclass(frozen=True)
class Provenance:
    """How a class of cores was fitted.

    Attributes:
        compilers: that built its firmwares.
        networks: that it was fitted on.
        firmwares: of these.
        checks: with others.
    """

    compilers: tuple[str, ...]
    networks: tuple[str, ...]
    firmwares: int
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Fit:
    """All that ``costs.toml`` says."""

    costs: Costs
    provenance: Mapping[str, Provenance]


def fit(runs: Sequence[Run], earlier: Fit | None) -> Fit:
    """Formulas for every kernel that was measured, on every class; runs that are held out say what they are worth.

    Args:
        runs: measured.
        earlier: what stays of classes that no run is of.
    """
    formulas = dict(earlier.costs.formulas) if earlier else {}
    errors = dict(earlier.costs.errors) if earlier else {}
    provenance = dict(earlier.provenance) if earlier else {}
    for core in BOARDS:
        of_class = [run for run in runs if run.core == core]
        if of_class:
            formulas[core] = _fit_class([run for run in of_class if not run.held_out], core)
            checks = [_check(run, formulas[core]) for run in of_class]
            errors[core] = max(abs(check.error) for check in checks)
            provenance[core] = _provenance(of_class, checks)
    armv6m = [run for run in runs if run.core == "armv6m"]
    cores = _cores(armv6m) if armv6m or earlier is None else {**earlier.costs.cores, **_UNKNOWN}
    return Fit(Costs(formulas, errors, cores), provenance)


def _check(run: Run, formulas: Mapping[str, Formula]) -> Check:
    layers, schedule = instructions_of(run.plan, run.core, formulas)
    case = run.case
    return Check(case.network, case.board, case.kernels, round(sum(layers) + schedule), run.measured.total)


def _provenance(runs: Sequence[Run], checks: Sequence[Check]) -> Provenance:
    fitted = [run for run in runs if not run.held_out]
    return Provenance(
        compilers=tuple(sorted({run.measured.compiler for run in runs})),
        networks=tuple(dict.fromkeys(run.case.network for run in fitted)),
        firmwares=len(fitted),
        checks=tuple(check for run, check in zip(runs, checks, strict=True) if run.held_out),
    )


def _fit_class(runs: Sequence[Run], core: CoreClass) -> dict[str, Formula]:
    reporting, schedule = _fit_schedule(runs)
    samples: dict[str, list[tuple[Turns, float]]] = defaultdict(list)
    cycles: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        for step, count in zip(run.plan.steps, run.measured.layers, strict=True):
            if step.kernel is not None:
                own = count - reporting * step.calls
                samples[step.kernel.name].append((turns(step, core), own))
        for name, (instructions, of_core, _) in run.measured.cycles.items():
            cycles[name].append(of_core / instructions)
    everywhere = statistics.fmean(statistics.fmean(each) for each in cycles.values()) if cycles else None
    factors = {name: _rounded(statistics.fmean(each)) for name, each in cycles.items()}
    found = {name: _fit_kernel(each, factors.get(name, everywhere)) for name, each in sorted(samples.items())}
    found[SCHEDULE] = Formula(schedule, everywhere, len(runs), 0.0, 0.0)
    return found


def _fit_kernel(samples: Sequence[tuple[Turns, float]], cycles: float | None) -> Formula:
    names = sorted({name for counts, _ in samples for name in counts})
    matrix = np.array([[counts.get(name, 0) for name in names] for counts, _ in samples], float)
    target = np.array([count for _, count in samples])
    coefficients = fit_relative(matrix, target)
    errors = np.abs(matrix @ coefficients / target - 1)
    kept = {name: _rounded(x) for name, x in zip(names, coefficients.tolist(), strict=True) if x > 0}
    return Formula(kept, cycles, len(samples), float(np.median(errors)), float(errors.max()))


def _fit_schedule(runs: Sequence[Run]) -> tuple[float, dict[str, float]]:
    """What reporting a row takes, which is no part of a run but of the layers' counts; and what a run takes besides."""
    totals = np.array([run.measured.total for run in runs], float)
    layers = np.array([sum(run.measured.layers) for run in runs], float)
    reports = [sum(step.calls for step in run.plan.steps) for run in runs]
    others = [[-schedule_turns(run.plan)[name] for name in _SCHEDULE] for run in runs]
    matrix: Array = np.column_stack([np.array(reports, float), np.array(others, float)]) / totals[:, None]
    reporting, *found = nonnegative_least_squares(matrix, layers / totals - 1).tolist()
    return reporting, {name: _rounded(x) for name, x in zip(_SCHEDULE, found, strict=True)}


_SCHEDULE = ("runs", "asked", "copied")


def _cores(armv6m: Sequence[Run]) -> dict[str, CoreFactor]:
    looked = [each for run in armv6m for each in run.measured.cycles.values() if each[2] > 0]
    cycles, branches = sum(each[1] for each in looked), sum(each[2] for each in looked)
    plus = (cycles - branches) / cycles if cycles else 1.0
    cores = {
        "cortex-m0": CoreFactor(1.0, "Cortex-M0's table of cycles, over the instructions that QEMU ran"),
        "cortex-m0plus": CoreFactor(_rounded(plus), "as the Cortex-M0, each branch a cycle less"),
        "cortex-m3": CoreFactor(1.0, "Cortex-M3's table of cycles, over the instructions that QEMU ran"),
        "cortex-m4": CoreFactor(1.0, "Cortex-M4's table of cycles, over the instructions that QEMU ran"),
    }
    base = _COREMARK["cortex-m4"]
    for core in ("cortex-m7", "cortex-m33"):
        own = _COREMARK[core]
        reason = f"not measured: the Cortex-M4's, times {base:g}/{own:g}, the ratio of their CoreMark for each MHz"
        cores[core] = CoreFactor(_rounded(base / own), reason)
    return cores | _UNKNOWN


def _rounded(x: float) -> float:
    return float(f"{x:.{_DIGITS}g}")


def read_fit(values: Mapping[str, Any]) -> Fit:
    """What ``costs.toml`` says."""
    return Fit(
        parse_costs(values),
        {
            core: Provenance(
                compilers=tuple(of_class["compilers"]),
                networks=tuple(of_class["networks"]),
                firmwares=of_class["firmwares"],
                checks=tuple(Check(**check) for check in of_class["checks"]),
            )
            for core, of_class in values["classes"].items()
        },
    )


def costs_text(found: Fit) -> str:
    """``costs.toml``."""
    costs = found.costs
    lines = ["# Written by benchmarks/fit_costs.py from measured counts; not edited by hand.", f"schema = {SCHEMA}", ""]
    for name, core in costs.cores.items():
        times = [] if core.times is None else [f"times = {core.times}"]
        lines += [f"[cores.{name}]", *times, f'reason = "{core.reason}"', ""]
    for name, formulas in costs.formulas.items():
        own = found.provenance[name]
        lines += [f"[classes.{name}]", f'board = "{BOARDS[_class(name)]}"', f"error = {costs.errors[name]:.4f}"]
        lines += [f"firmwares = {own.firmwares}", _array("compilers", own.compilers), _array("networks", own.networks)]
        lines += [""]
        for check in own.checks:
            lines += [f"[[classes.{name}.checks]]", f'network = "{check.network}"', f'board = "{check.board}"']
            lines += [f'kernels = "{check.kernels}"', f"estimated = {check.estimated}", f"measured = {check.measured}"]
            lines += [""]
        for kernel, formula in formulas.items():
            lines += [f"[classes.{name}.kernels.{kernel}]", f"samples = {formula.samples}"]
            lines += [f"median = {formula.median:.4f}", f"worst = {formula.worst:.4f}"]
            lines += [] if formula.cycles is None else [f"cycles = {formula.cycles}"]
            lines += ["", f"[classes.{name}.kernels.{kernel}.instructions]"]
            lines += [f'"{turn}" = {x}' for turn, x in formula.coefficients.items()]
            lines += [""]
    return "\n".join(lines)


def _class(name: str) -> CoreClass:
    return next(core for core in BOARDS if core == name)


def _array(name: str, values: Iterable[str]) -> str:
    return f"{name} = [" + "".join(f'\n  "{value}",' for value in values) + "\n]"


def document(found: Fit) -> str:
    """``docs/estimates.md``."""
    costs, provenance = found.costs, found.provenance.values()
    lines = [*_HEAD.splitlines(), ""]
    lines += [*_checked([check for own in provenance for check in own.checks]), ""]
    lines += ["## Kernels", "", *_KERNELS_TEXT.splitlines(), ""]
    lines += ["| kernel | " + " | ".join(BOARDS) + " |", "|---|" + "--:|" * len(BOARDS)]
    names = sorted({kernel for formulas in costs.formulas.values() for kernel in formulas} - {SCHEDULE})
    for name in names:
        cells = [_cell(costs.formulas.get(core, {}).get(name)) for core in BOARDS]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    lines += ["", "## Cycles", "", *_CYCLES_TEXT.splitlines(), "", "| core | factor | why |", "|---|--:|---|"]
    lines += [f"| {name} | {_times(core.times)} | {core.reason} |" for name, core in costs.cores.items()]
    lines += ["", "## What it was fitted on", ""]
    fitted = sum(own.firmwares for own in provenance)
    lines += [f"{fitted} firmwares, of the networks of `benchmarks/fit_networks.py`, and built with:", ""]
    compilers = sorted({compiler for own in provenance for compiler in own.compilers})
    return "\n".join([*lines, *(f"* {compiler}" for compiler in compilers), ""])


def _times(times: float | None) -> str:
    return "not known" if times is None else f"{times:.3g}"


def _checked(checks: Iterable[Check]) -> Iterator[str]:
    yield "| model | board | kernels | estimated | measured | error |"
    yield "|---|---|---|--:|--:|--:|"
    for check in checks:
        yield (
            f"| {check.network} | {check.board} | {check.kernels} | {check.estimated:,} | {check.measured:,} "
            f"| {check.error:+.1%} |"
        )


def _cell(formula: Formula | None) -> str:
    if formula is None:
        return ""
    cycles = "" if formula.cycles is None else f", {formula.cycles:.2f}"
    return f"{formula.median:.1%} / {formula.worst:.1%} ({formula.samples}){cycles}"


_HEAD = """\
# Estimates

`tinymbn plan` says how long a network would take on a board before anything is compiled, and `tinymbn profile` shows
each layer's count beside its estimate. For each layer it counts how often the loops of its kernel turn, which depends
on shapes alone, and multiplies each number with a coefficient; a few numbers more stand for what a run does between
the layers. The coefficients lie in `codegen/tinymbn_codegen/costs.toml`. They are fitted to counts of `tinymbn profile`
in QEMU, for each kernel and each class of cores:

* `armv6m`: Cortex-M0 and M0+;
* `armv7m`: Cortex-M3;
* `dsp`: Cortex-M4, M7 and M33;
* `helium`: Cortex-M55 and M85.

Kernels for Helium are mostly assembler that the generator writes, so the instructions of it are counted in its text;
the coefficients of these kernels are for the C around it.

`python benchmarks/fit_costs.py` measures, fits, and writes that file and this document; it is to be run again whenever
a kernel has changed. On the computer itself there is no estimate, nor where a kernel has not been measured on the
class of a board's core.

What weights are is not known to it, for an untrained network has none. Where a kernel has a shorter requantisation for
numbers that allow it, the estimate takes it that they do; kernels for Helium are taken to move ties below zero wherever
an output can lie below its zero point.

## Models it has not seen

Instructions of whole networks that no formula was fitted on. `plan` says the largest error of all that were measured on
the class of the core."""

_KERNELS_TEXT = """\
The relative error of the instructions of a layer, median and worst, and in brackets of how many layers; then cycles for
each instruction, where they are known."""

_CYCLES_TEXT = """\
Milliseconds follow from cycles, and cycles from instructions: each kernel has a factor of its own, since loads and
branches take more than multiplications. It comes from the instructions that ran in QEMU and the table in the reference
manual of the core that the class was measured on. What a chip adds is not in it: wait states of flash, caches, a bus
that is shared. `profile` on the board is what counts.

Of a Cortex-M55 and a Cortex-M85 `plan` and `profile` tell instructions and no time. QEMU counts the instructions of an
M55, but no emulator cycles: an instruction for vectors takes one cycle or several, by what stands beside it and which
core it is, and no table says so for each. On a board with such a core `profile` measures cycles.

Cycles are then multiplied with:"""
