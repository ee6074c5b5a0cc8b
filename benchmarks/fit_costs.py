"""Measures what every kernel takes on every class of cores, and fits the formulas of the estimate to it.

    python benchmarks/fit_costs.py                        # everything: half an hour
    python benchmarks/fit_costs.py --quick                # small networks, and three models to check with
    python benchmarks/fit_costs.py --classes helium       # what the others have stays
    python benchmarks/fit_costs.py --measured FILE.json   # what the file has of the same C is not measured again

Writes codegen/tinymbn_codegen/costs.toml and docs/estimates.md, and prints errors. The exit code is 1 if a model that
nothing was fitted on is more than 10 % off, or if a firmware failed; then nothing is written. To be run again whenever
a kernel has changed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a script, too

from benchmarks.fit_formulas import Fit, Run, costs_text, document, fit, read_fit
from benchmarks.fit_measure import BOARDS, Cache, Case, measure_all, plan_of, read_measured, write_measured
from benchmarks.fit_networks import fitting_networks
from benchmarks.networks import NETWORKS, mobilenet_v1, mobilenet_v2
from benchmarks.shared import CHECKOUT, model_file
from tinymbn import load_model
from tinymbn.errors import TinymbnError
from tinymbn.files import write_file
from tinymbn.graph import Graph
from tinymbn.paths import SHIPPED_MODEL
from tinymbn.terminal import complain
from tinymbn_codegen.estimate import COSTS_FILE
from tinymbn_codegen.loops import CoreClass
from tinymbn_codegen.options import KernelSet

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

COSTS = CHECKOUT / "codegen" / "tinymbn_codegen" / COSTS_FILE
DOCUMENT = CHECKOUT / "docs" / "estimates.md"

LIMIT = 0.10  # of the error of a model that nothing was fitted on

Make = Callable[[], Graph]
Cases = Iterator[tuple[Case, Make]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, fit, write; the exit code."""
    parser = argparse.ArgumentParser(description="Fit the formulas of the estimate to measured counts.")
    parser.add_argument("--measured", type=Path, metavar="FILE", help="what has been measured; completed")
    parser.add_argument("--classes", nargs="+", choices=BOARDS, default=list(BOARDS), help="of cores; default: all")
    parser.add_argument("--quick", action="store_true", help="small networks, and three models to check with")
    parser.add_argument("--dry-run", action="store_true", help="write neither file")
    wanted = parser.parse_args(arguments)
    try:
        return _run(wanted.measured, wanted.classes, quick=wanted.quick, dry_run=wanted.dry_run)
    except TinymbnError as error:
        complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _run(file: Path | None, classes: Sequence[CoreClass], *, quick: bool, dry_run: bool) -> int:
    cache = read_measured(file) if file is not None else {}

    def keep() -> None:
        if file is not None:
            write_measured(file, cache)

    runs: list[Run] = []
    failed = 0
    for core in classes:
        for held_out, cases in ((False, list(_fitting(core, quick))), (True, list(_held_out(core, quick)))):
            failed += measure_all(cases, cache, keep, _say)
            runs += _runs(cases, cache, core, held_out=held_out)
    costs = costs_text(fit(runs, _earlier() if set(classes) != set(BOARDS) else None))
    found = read_fit(tomllib.loads(costs))  # rounded as it is written, so that the document says the same
    text = document(found)
    print(text, end="")
    if dry_run or failed:
        _say("nothing written")
    else:
        write_file(COSTS, costs.encode())
        write_file(DOCUMENT, text.encode())
        _say(f"{COSTS} and {DOCUMENT}: written")
    unseen = [check for core in classes for check in found.provenance[core].checks]
    for check in unseen:
        if abs(check.error) > LIMIT:
            _say(f"{check.network}; {check.board}: {check.error:+.1%}, more than {LIMIT:.0%}")
    return 0 if not failed and all(abs(check.error) <= LIMIT for check in unseen) else 1


def _earlier() -> Fit:
    return read_fit(tomllib.loads(COSTS.read_text(encoding="utf-8")))


def _runs(cases: Sequence[tuple[Case, Make]], cache: Cache, core: CoreClass, *, held_out: bool) -> Iterator[Run]:
    for case, make in cases:
        measured = cache.get(case.key)
        if measured is not None:
            yield Run(case, core, plan_of(case, make()), measured, held_out)


def _sets(core: CoreClass) -> tuple[KernelSet, ...]:
    """The core's own set of kernels first."""
    if core == "armv6m" or core == "armv7m":
        return (core, "plain")
    return ("mve", "dsp", "armv7m", "plain") if core == "helium" else ("dsp", "armv7m", "plain")


def _fitting(core: CoreClass, quick: bool) -> Cases:
    own, *others = _sets(core)
    for name, small, make in fitting_networks():
        if small or not (quick or core == "armv6m"):
            yield Case(name, BOARDS[core], own), make
        for kernels in others:
            if small:
                yield Case(name, BOARDS[core], kernels), make


def _held_out(core: CoreClass, quick: bool) -> Cases:
    """Three models or four; more where those are there that lie beside the project."""
    models: dict[str, Make] = {"digits": partial(load_model, SHIPPED_MODEL)}
    if core == "armv6m":
        models["mobilenet_v1_0.1_32x32x1"] = partial(mobilenet_v1, 0.1, 32, 32, 1, 10)
        models["mobilenet_v2_0.05_24x24x3"] = partial(mobilenet_v2, 0.05, 24, 24, 3, 4)
    else:
        models |= NETWORKS
        for name in ("person_detect", "vww_96_int8"):
            if model_file(name).is_file() and not quick:
                models[name] = partial(load_model, model_file(name))
    for name, make in models.items():
        yield Case(name, BOARDS[core], _sets(core)[0]), make


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
