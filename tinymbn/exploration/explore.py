"""Plans a MobileNet for each alpha and resolution on each board; nothing is trained, built or run."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

from tinymbn.architectures import architecture
from tinymbn.board import Board, load_board
from tinymbn.errors import OptionError
from tinymbn.exploration.published import TOP_1
from tinymbn.graph import Graph
from tinymbn.quantize import FloatGraph, Range, build, convert, fold
from tinymbn_codegen.budget import make_budget
from tinymbn_codegen.estimate import Estimate, estimate
from tinymbn_codegen.options import Options
from tinymbn_codegen.plan import Plan, make_plan

Optimize = Literal["speed", "balanced", "ram"]
OPTIMIZE: tuple[Optimize, ...] = get_args(Optimize)

# What activations of trained networks range over, about: it decides multipliers, which decide no sizes.
_RELU6 = Range(0.0, 6.0)
_LINEAR = Range(-6.0, 6.0)
_PICTURE = Range(-1.0, 1.0)


@dataclass(frozen=True)
class Point:
    """A network to be looked at.

    Attributes:
        arch: "mobilenet_v1" or "mobilenet_v2".
        alpha: the width multiplier.
        resolution: of the square picture.
    """

    arch: str
    alpha: float
    resolution: int

    @property
    def name(self) -> str:
        """``v1 0.25 96``."""
        return f"{self.arch.removeprefix('mobilenet_')} {self.alpha:g} {self.resolution}"


@dataclass(frozen=True)
class Task:
    """What the networks are for.

    Attributes:
        classes: of the dense layer.
        channels: of the picture.
        max_ms: what takes longer does not count as fitting; None: whatever it takes.
    """

    classes: int
    channels: int
    max_ms: float | None = None


@dataclass(frozen=True)
class Choice:
    """What a network takes with one choice of ``--optimize``.

    Attributes:
        ram_bytes, flash_bytes: of all parts, as ``tinymbn plan`` says them.
        missing_bytes: of the memory that lacks most; 0 where all fits.
        memory: its name; empty where all fits.
        instructions: of a run, None where nobody has measured that core.
        cycles_per_instruction: None where nothing gives cycles.
        seconds: of a run without wait states; None where there are no cycles.
        reason: where the cycles come from, or why there are none.
    """

    ram_bytes: int
    flash_bytes: int
    missing_bytes: int
    memory: str
    instructions: int | None
    cycles_per_instruction: float | None
    seconds: float | None
    reason: str


@dataclass(frozen=True)
class Candidate:
    """A network on a board.

    Attributes:
        point: which network.
        board: the board's name.
        macs: of convolutions and the dense layer.
        parameters: weights and biases.
        accuracy: ImageNet top-1 of the float network, per cent, where it was published for 1000 classes; else None.
        choices: by ``OPTIMIZE``.
        too_slow: by how many milliseconds the fastest that fits is over the limit; None if there is none, or no time.
        best: on the Pareto front of its board: none that fits is as accurate and faster, or as fast and more accurate.
    """

    point: Point
    board: str
    macs: int
    parameters: int
    accuracy: float | None
    choices: tuple[Choice, ...]
    too_slow: float | None = None
    best: bool = False

    @property
    def fitting(self) -> Choice | None:
        """The fastest choice whose memories are large enough; None if there is none."""
        fitting = [choice for choice in self.choices if not choice.missing_bytes]
        return min(fitting, key=_work, default=None)

    @property
    def fits(self) -> bool:
        """In RAM, flash and time."""
        return self.fitting is not None and self.too_slow is None


def _work(choice: Choice) -> float:
    return math.inf if choice.instructions is None else choice.instructions


def explore(points: Sequence[Point], boards: Sequence[Board], task: Task, jobs: int) -> Iterator[tuple[Candidate, ...]]:
    """Each point on all boards, as they come; in processes of their own.

    Raises:
        OptionError: a point is no network, or there is a limit of time on a board whose time is not known.
    """
    plan = partial(_candidates, boards=tuple(board.name for board in boards), task=task)
    if jobs == 1 or len(points) == 1:
        yield from map(plan, points)
        return
    # Not forked: a copy of a process with threads may wait for a lock that none of them holds.
    with ProcessPoolExecutor(min(jobs, len(points)), multiprocessing.get_context("spawn")) as pool:
        # The largest first, so that none is left to one process at the end.
        order = sorted(points, key=lambda point: -point.alpha * point.resolution)
        futures = [pool.submit(plan, point) for point in order]
        try:
            for done in as_completed(futures):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def mark_best(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The same, sorted by board and size, with the Pareto front of each board marked.

    A front is of accuracy against time, or instructions where no time is known; those without an accuracy are on none.
    """
    ordered = sorted(candidates, key=_order)
    marked = []
    for candidate in ordered:
        rivals = [each for each in ordered if each.board == candidate.board and each is not candidate]
        marked.append(replace(candidate, best=_is_best(candidate, rivals)))
    return tuple(marked)


def _order(candidate: Candidate) -> tuple[str, str, float, int]:
    """By board; the widest and finest first."""
    return candidate.board, candidate.point.arch, -candidate.point.alpha, -candidate.point.resolution


def _is_best(candidate: Candidate, rivals: Sequence[Candidate]) -> bool:
    if not candidate.fits or candidate.accuracy is None:
        return False
    mine = candidate.fitting
    assert mine is not None
    for rival in rivals:
        theirs = rival.fitting
        if not rival.fits or rival.accuracy is None or theirs is None:
            continue
        as_good = rival.accuracy >= candidate.accuracy and _work(theirs) <= _work(mine)
        if as_good and (rival.accuracy > candidate.accuracy or _work(theirs) < _work(mine)):
            return False
    return True


def untrained(point: Point, task: Task) -> Graph:
    """The int8 graph of a network with random weights: of the size that it has once it is trained."""
    graph = fold(build(architecture(point.arch, point.alpha), point.resolution, task.classes, channels=task.channels))
    return convert(graph, _typical_ranges(graph))


def _typical_ranges(graph: FloatGraph) -> dict[str, Range]:
    ranges = {graph.input: _PICTURE}
    for layer in graph.layers:
        ranges[layer.output] = _RELU6 if getattr(layer, "activation", "none") == "relu6" else _LINEAR
    return ranges


def _candidates(point: Point, boards: Sequence[str], task: Task) -> tuple[Candidate, ...]:
    """One network on all boards."""
    graph = untrained(point, task)
    known = [load_board(name) for name in boards]
    # Which channels of a trained network are dead is not known before it is trained.
    options = Options(without=frozenset({"dead_channels"}))
    plans: dict[tuple[str, Optimize], Plan] = {}
    candidates = []
    for board in known:
        choices = []
        for optimize in OPTIMIZE:
            key = board.core, optimize
            if key not in plans:
                plans[key] = make_plan(graph, replace(options, optimize=optimize).on(board.core), "")
            choices.append(_choice(plans[key], board))
        accuracy = TOP_1.get((point.arch, point.alpha, point.resolution))
        candidate = Candidate(point, board.name, graph.macs, graph.parameters, accuracy, tuple(choices))
        candidates.append(replace(candidate, too_slow=_too_slow(candidate, task)))
    return tuple(candidates)


def _choice(plan: Plan, board: Board) -> Choice:
    budget, work = make_budget(plan, board), estimate(plan, board)
    room = budget.missing
    return Choice(
        ram_bytes=budget.bytes("ram"),
        flash_bytes=budget.bytes("flash"),
        missing_bytes=room.missing if room is not None else 0,
        memory=room.memory.name if room is not None else "",
        instructions=work.instructions if work is not None else None,
        cycles_per_instruction=work.factor if work is not None else None,
        seconds=work.seconds if work is not None else None,
        reason=_reason(work),
    )


def _reason(work: Estimate | None) -> str:
    return work.reason if work is not None else "nobody has measured its core"


def _too_slow(candidate: Candidate, task: Task) -> float | None:
    if task.max_ms is None or candidate.fitting is None:
        return None
    seconds = candidate.fitting.seconds
    if seconds is None:
        raise OptionError(f"--max-ms: the time of board {candidate.board} is not known: {candidate.fitting.reason}")
    over = seconds * 1e3 - task.max_ms
    return over if over > 0 else None
