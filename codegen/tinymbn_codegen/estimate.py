"""How long a plan would take on a core, before anything is compiled: from what its loops do, see ``loops``.

Instructions follow from formulas that ``benchmarks/fit_costs.py`` fits to measured counts and writes to ``costs.toml``;
cycles are instructions times a factor of the core, without wait states. Both are estimates, and their errors are said.
Of a core with Helium there are no cycles: no table has them for each instruction, and no emulator counts them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from tinymbn.board import Board
from tinymbn_codegen.loops import CoreClass, Turns, core_class, turns
from tinymbn_codegen.plan import Plan

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

COSTS_FILE = "costs.toml"
SCHEMA = 2

SCHEDULE = "schedule"
"""In the file beside the kernels: what a run does between them."""


@dataclass(frozen=True)
class Formula:
    """What a kernel takes on a class of cores.

    Attributes:
        coefficients: instructions for each turn of each loop.
        cycles: for each instruction, on the core that the class is measured on; None where nothing gives them.
        samples: layers it was fitted on.
        median: relative error over these, half are below.
        worst: the largest of them.
    """

    coefficients: Mapping[str, float]
    cycles: float | None
    samples: int
    median: float
    worst: float

    def instructions(self, counts: Turns) -> float:
        """For so many turns of the loops."""
        return sum(self.coefficients.get(name, 0.0) * count for name, count in counts.items())


@dataclass(frozen=True)
class CoreFactor:
    """How the cycles of a core compare with those of the core that its class is measured on.

    Attributes:
        times: as many; None where there are none to compare.
        reason: why, and how sure it is.
    """

    times: float | None
    reason: str


@dataclass(frozen=True)
class Costs:
    """The file.

    Attributes:
        formulas: by class of cores, then by kernel; ``SCHEDULE`` among them.
        errors: by class, the largest relative error of a whole model: of all that it was fitted on or checked with.
        cores: by name.
    """

    formulas: Mapping[str, Mapping[str, Formula]]
    errors: Mapping[str, float]
    cores: Mapping[str, CoreFactor]


@dataclass(frozen=True)
class Amount:
    """Instructions, and the cycles they take without wait states; None where those are not known."""

    instructions: int
    cycles: int | None


@dataclass(frozen=True)
class Estimate:
    """What a plan would take on a board.

    Attributes:
        layers: each.
        schedule: what is done between them.
        clock_hz: of the core.
        error: the largest relative error of the instructions of a whole model that was measured.
        reason: where the cycles come from, or why there are none.
    """

    layers: tuple[Amount, ...]
    schedule: Amount
    clock_hz: int
    error: float
    reason: str

    @property
    def instructions(self) -> int:
        """Of the whole run."""
        return sum(amount.instructions for amount in (*self.layers, self.schedule))

    @property
    def cycles(self) -> int | None:
        """Of the whole run, without wait states; None where those of a layer are not known."""
        every = [amount.cycles for amount in (*self.layers, self.schedule)]
        known = [cycles for cycles in every if cycles is not None]
        return sum(known) if len(known) == len(every) else None

    @property
    def factor(self) -> float | None:
        """Cycles for each instruction."""
        return self.cycles / self.instructions if self.cycles is not None else None

    @property
    def seconds(self) -> float | None:
        """Of the whole run."""
        return self.cycles / self.clock_hz if self.cycles is not None else None


def estimate(plan: Plan, board: Board) -> Estimate | None:
    """What a plan would take on a board; None where nobody has measured: on ``host``, kernels without a formula."""
    core = core_class(board.core)
    if core is None or not board.clock_hz:
        return None
    costs = load_costs()
    formulas = costs.formulas.get(core, {})
    names = {step.kernel.name for step in plan.steps if step.kernel is not None}
    if not formulas.keys() >= names | {SCHEDULE}:
        return None
    factor = costs.cores[board.core]

    def amount(count: float, name: str) -> Amount:
        cycles = formulas[name].cycles
        if cycles is None or factor.times is None:
            return Amount(round(count), None)
        return Amount(round(count), round(count * cycles * factor.times))

    layers, schedule = instructions_of(plan, core, formulas)
    if any(step.kernel is not None and count <= 0 for step, count in zip(plan.steps, layers, strict=True)):
        return None  # a kernel as another class has it, none of whose loops was measured on this one
    return Estimate(
        layers=tuple(
            amount(count, step.kernel.name if step.kernel is not None else SCHEDULE)
            for step, count in zip(plan.steps, layers, strict=True)
        ),
        schedule=amount(schedule, SCHEDULE),
        clock_hz=board.clock_hz,
        error=costs.errors[core],
        reason=factor.reason,
    )


def instructions_of(plan: Plan, core: CoreClass, formulas: Mapping[str, Formula]) -> tuple[list[float], float]:
    """Of each layer, and of what lies between them."""
    layers = [
        formulas[step.kernel.name].instructions(turns(step, core)) if step.kernel is not None else 0.0
        for step in plan.steps
    ]
    return layers, formulas[SCHEDULE].instructions(schedule_turns(plan))


def schedule_turns(plan: Plan) -> Turns:
    """How often a run does what belongs to no layer."""
    streams = [segment for segment in plan.segments if segment.source is not None]
    copied = plan.output_bytes + (plan.input_bytes if plan.options.input == "rows" else 0)
    return {
        "runs": 1,
        "asked": sum(segment.passes * len(segment.layers) for segment in streams),
        "copied": copied,
    }


@cache
def load_costs() -> Costs:
    """The file, read once."""
    text = resources.files("tinymbn_codegen").joinpath(COSTS_FILE).read_text(encoding="utf-8")
    return parse_costs(tomllib.loads(text))


def parse_costs(values: Mapping[str, Any]) -> Costs:
    """What the file says."""
    if values["schema"] != SCHEMA:
        raise ValueError(f"{COSTS_FILE}: schema {values['schema']}; expected {SCHEMA}")
    formulas = {
        core: {
            name: Formula(
                coefficients=dict(entry["instructions"]),
                cycles=_number(entry, "cycles"),
                samples=int(entry["samples"]),
                median=float(entry["median"]),
                worst=float(entry["worst"]),
            )
            for name, entry in of_class["kernels"].items()
        }
        for core, of_class in values["classes"].items()
    }
    return Costs(
        formulas=formulas,
        errors={core: float(of_class["error"]) for core, of_class in values["classes"].items()},
        cores={name: CoreFactor(_number(c, "times"), str(c["reason"])) for name, c in values["cores"].items()},
    )


def _number(entry: Mapping[str, Any], name: str) -> float | None:
    return float(entry[name]) if name in entry else None
