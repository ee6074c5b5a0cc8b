"""Measures what formulas are fitted to: instructions of every layer and of the run, and the cycles of each kernel."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.counter import find_counter
from tinymbn.board import Board, load_board
from tinymbn.emulators.qemu import ARGUMENTS_VARIABLE
from tinymbn.errors import PlanError, ToolError
from tinymbn.firmware import plan_model, write_firmware
from tinymbn.graph import Graph
from tinymbn.image import int8_pixel_table
from tinymbn.profile import ICOUNT_SHIFT, profile
from tinymbn.stimuli import stimuli
from tinymbn.verify import identify
from tinymbn.workbench import Request, build_folder, open_bench
from tinymbn_codegen.constants import layer_symbol
from tinymbn_codegen.generate import model_files
from tinymbn_codegen.loops import CoreClass, core_class
from tinymbn_codegen.options import PASSES, KernelSet, Options
from tinymbn_codegen.plan import Plan

BOARDS: Mapping[CoreClass, str] = {"armv6m": "qemu-m0", "armv7m": "qemu-m3", "dsp": "qemu-m4", "helium": "qemu-m55"}
"""What each class of cores is measured on."""

_MOST_FUNCTIONS = 8  # that the plugin counts at a time
_WITHOUT_CYCLES: tuple[CoreClass, ...] = ("helium",)  # of which no table is known
_ENOUGH = 3  # layers of a kernel whose cycles are counted, on each board
_TIMEOUT_S = 120
_NOISE = 2  # number of the made input that is one

# Estimates count every channel of the plan they are of, so which are removed does not matter; networks of random
# weights are measured with all they have.
_WITHOUT = frozenset({"dead_channels"} & set(PASSES))


@dataclass(frozen=True)
class Case:
    """What is measured."""

    network: str
    board: str
    kernels: KernelSet

    @property
    def key(self) -> str:
        """Its name in a file."""
        return f"{self.network}; {self.board}; {self.kernels}"

    @property
    def options(self) -> Options:
        """Of the generator."""
        return Options(kernels=self.kernels, without=_WITHOUT)


@dataclass(frozen=True)
class Measured:
    """What a case takes.

    Attributes:
        layers: instructions of each, the call and pointers to its rows included.
        total: of the run.
        cycles: for one layer of each kernel that was looked at: instructions, cycles without wait states, and branches
            that were taken.
        compiler: that built it.
        sources: a digest of the C that was measured.
    """

    layers: tuple[int, ...]
    total: int
    cycles: Mapping[str, tuple[int, float, int]]
    compiler: str
    sources: str


def plan_of(case: Case, graph: Graph) -> Plan:
    """As it was measured."""
    return plan_model(graph, load_board(case.board), case.options)[0]


def sources_of(plan: Plan, graph: Graph, board: Board) -> str:
    """A digest of a plan's C and of what it is compiled with: what was measured holds as long as this is the same."""
    files = model_files(plan, int8_pixel_table(graph))
    text = "".join((*board.gcc_flags, *(files[path] for path in sorted(files))))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def measure(case: Case, graph: Graph, wanted: Iterable[str]) -> Measured | None:
    """Generate, build, run; None where it does not fit the board.

    Args:
        case: what.
        graph: the network.
        wanted: kernels whose cycles are counted, if the network has them; the first eight alone.

    Raises:
        ToolError: something is missing, or failed.
    """
    board = load_board(case.board)
    with tempfile.TemporaryDirectory(prefix="tinymbn-fit-") as scratch:
        folder, counts = Path(scratch) / "firmware", Path(scratch) / "counts.json"
        try:
            plan = write_firmware(graph, board, case.options, folder)
        except PlanError:
            return None
        built = build_folder(folder)
        symbols = _longest(plan, wanted)
        stimulus = list(stimuli(graph, [], _NOISE + 1, 0))[_NOISE]
        request = Request(graph=graph, board=board, folder=folder, emulate=True)
        with _counting(built.target, symbols, counts), open_bench(request, icount_shift=ICOUNT_SHIFT) as bench:
            result = profile(bench.connection, identify(bench.connection, graph, board), stimulus, 1)
        cycles = _read(counts, symbols, core_class(board.core)) if symbols else {}
    counts_of_layers = tuple(cost.count for cost in result.layers)
    return Measured(counts_of_layers, result.total, cycles, built.compiler, sources_of(plan, graph, board))


def _longest(plan: Plan, wanted: Iterable[str]) -> dict[str, str]:
    """Of each kernel the symbol of the layer that makes most of it."""
    found: dict[str, str] = {}
    for kernel in wanted:
        steps = [step for step in plan.steps if step.kernel is not None and step.kernel.name == kernel]
        if steps and len(found) < _MOST_FUNCTIONS:
            found[kernel] = layer_symbol(plan, max(steps, key=lambda step: step.macs + step.output.tensor.elements))
    return found


@contextmanager
def _counting(elf: Path, symbols: Mapping[str, str], counts: Path) -> Iterator[None]:
    """QEMU is given the counting plugin."""
    if not symbols:
        yield
        return
    script = find_counter().script
    command = [sys.executable, os.fspath(script), "args", os.fspath(elf), *symbols.values(), "-o", os.fspath(counts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603
    if done.returncode != 0:
        raise ToolError(f"{script}: {done.stderr.strip()}")
    before = os.environ.get(ARGUMENTS_VARIABLE)
    os.environ[ARGUMENTS_VARIABLE] = done.stdout.strip()
    try:
        yield
    finally:
        del os.environ[ARGUMENTS_VARIABLE]
        if before is not None:
            os.environ[ARGUMENTS_VARIABLE] = before


def _read(counts: Path, symbols: Mapping[str, str], core: CoreClass | None) -> dict[str, tuple[int, float, int]]:
    regions = json.loads(counts.read_text(encoding="utf-8"))["regions"]
    found = {}
    for number, kernel in enumerate(symbols, start=1):
        region = regions.get(str(number))
        if region:
            found[kernel] = region["insn"], _cycles(region, core), region["taken"]
    return found


def _cycles(region: Mapping[str, int], core: CoreClass | None) -> float:
    """By the table of the core's reference manual, without wait states.

    Armv6-M: Cortex-M0, where a load or store takes 2 cycles, of several words 1 and 1 for each, a branch 3. Armv7-M:
    Cortex-M3, whose table is the M4's but for multiplications with addition, 2. The others: Cortex-M4.
    """
    if core == "armv6m":
        several = region.get("ldm", 0) + region.get("stm", 0)
        single = region.get("ld", 0) + region.get("st", 0)
        return region["insn"] + single + _WORDS * several + 2 * region["taken"]
    if core == "armv7m":
        return region["cyc"] + region.get("mul", 0)
    return region["cyc"]


_WORDS = 4  # of a load or store of several, on average

Cache = dict[str, Measured | None]


def read_measured(path: Path) -> Cache:
    """What an earlier run measured."""
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {
        key: None
        if entry is None
        else Measured(
            tuple(entry["layers"]),
            entry["total"],
            {kernel: (three[0], three[1], three[2]) for kernel, three in entry["cycles"].items()},
            entry["compiler"],
            entry["sources"],
        )
        for key, entry in values.items()
    }


def write_measured(path: Path, measured: Cache) -> None:
    """For a later run."""
    values = {key: None if found is None else asdict(found) for key, found in measured.items()}
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def measure_all(
    cases: Iterable[tuple[Case, Callable[[], Graph]]],
    cache: Cache,
    keep: Callable[[], None],
    say: Callable[[str], None],
) -> int:
    """Measure what the cache has not, or has of other C; cycles of kernels that were seldom looked at come first.

    Returns:
        How many failed.
    """
    looked: dict[tuple[str, str], int] = {}
    failed = 0
    for case, make in cases:
        graph = make()
        plan = plan_of(case, graph)
        earlier = cache.get(case.key)
        if earlier is None or earlier.sources != sources_of(plan, graph, load_board(case.board)):
            kernels = {step.kernel.name for step in plan.steps if step.kernel is not None}
            rare = {name: looked.get((case.board, name), 0) for name in sorted(kernels)}
            wanted = sorted((name for name, times in rare.items() if times < _ENOUGH), key=lambda name: rare[name])
            if core_class(load_board(case.board).core) in _WITHOUT_CYCLES:
                wanted = []
            try:
                cache[case.key] = found = measure(case, graph, wanted)
            except ToolError as error:  # what one firmware lacks says nothing of the others
                cache.pop(case.key, None)
                say(f"{case.key}: FAILED: {error}")
                failed += 1
                continue
            say(f"{case.key}: " + (f"{found.total:,} instructions" if found else "does not fit"))
            keep()
        known = cache[case.key]
        for name in known.cycles if known is not None else ():
            looked[case.board, name] = looked.get((case.board, name), 0) + 1
    return failed
