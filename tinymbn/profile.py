"""How long each layer takes on a board: cycles on hardware, instructions in an emulator, and says which."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from tinymbn.connection import Connection
from tinymbn.link.messages import unwrapped
from tinymbn.stimuli import Stimulus
from tinymbn.verify import Identity, expected_run_s
from tinymbn_codegen.plan import Step

Unit = Literal["cycles", "instructions", "nanoseconds"]

# Nanoseconds of guest time for each instruction, as a power of two: 64 resolve every instruction with a counter of
# 16 MHz and more, and one of 32 bits lasts for a thousand million.
ICOUNT_SHIFT = 6


@dataclass(frozen=True)
class LayerCost:
    """What one layer took."""

    step: Step
    count: int


@dataclass(frozen=True)
class Profile:
    """What a network took.

    Attributes:
        unit: of all counts.
        layers: each by itself, from the traced run, what it reports not counted.
        total: of the plain run, from call to return.
        clock_hz: of the core, for seconds; 0 where cycles are not what was counted.
        runs: of which these are the medians.
    """

    unit: Unit
    layers: tuple[LayerCost, ...]
    total: int
    clock_hz: int
    runs: int


def profile(
    connection: Connection,
    identity: Identity,
    stimulus: Stimulus,
    runs: int,
    progress: Callable[[int, int], None] = lambda done, layer: None,
) -> Profile:
    """Run a network with counters.

    Args:
        connection: with the firmware; an emulator has to count instructions.
        identity: of it.
        stimulus: the input; what a network takes does not depend on it, but for softmax.
        runs: how often; more than one says something on hardware alone.
        progress: called with the runs done and the layer that computes.
    """
    session, steps = connection.session, identity.plan.steps
    data, expected_s = stimulus.values.tobytes(), expected_run_s(identity)
    totals, ticks = [], []
    for done in range(runs):

        def tell(layer: int, done: int = done) -> None:
            progress(done, layer)

        session.infer(data, traced=True, expected_s=expected_s, on_progress=tell)
        ticks.append([record.ticks for record in session.records(len(steps))])
        totals.append(session.infer(data, traced=False, expected_s=expected_s, on_progress=tell).ticks)
    unit, per_tick = _unit(connection)
    medians = [statistics.median_low(of_layer) for of_layer in zip(*ticks, strict=True)]
    total = unwrapped(statistics.median_low(totals), connection.hello.counter_bits, sum(medians))
    return Profile(
        unit=unit,
        layers=tuple(LayerCost(step, round(count * per_tick)) for step, count in zip(steps, medians, strict=True)),
        total=round(total * per_tick),
        clock_hz=connection.hello.clock_hz if unit == "cycles" else 0,
        runs=runs,
    )


def _unit(connection: Connection) -> tuple[Unit, Fraction]:
    """What is counted, and how much of it a tick of the board's counter is."""
    hello, machine = connection.hello, connection.machine
    if machine is not None and machine.counts_instructions:
        return "instructions", machine.instructions(1, hello.counter_hz)
    if machine is not None or hello.clock_hz == 0:
        return "nanoseconds", Fraction(1_000_000_000, hello.counter_hz)
    return "cycles", Fraction(hello.clock_hz, hello.counter_hz)
