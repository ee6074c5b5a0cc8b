"""Commands that ask a firmware: verify, profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tinymbn.commands import arguments
from tinymbn.terminal import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tinymbn.stimuli import Stimulus
    from tinymbn.workbench import Request

    Wanted = Callable[[Path | None], Request]

EXIT_DIFFERS = 9

_SEED = click.option("--seed", type=click.IntRange(min=0), default=0, metavar="S", help="Of made inputs. Default: 0.")


@click.command()
@click.argument("files", nargs=-1, type=arguments.FILE, metavar="[MODEL] [IMAGE]...")
@click.option("-n", "count", type=click.IntRange(min=0), default=3, metavar="N", help="Made inputs. Default: 3.")
@_SEED
@click.option("--report", type=arguments.FILE, metavar="FILE.json", help="Write what was compared, and with what.")
@arguments.as_json
@arguments.firmware_options
def verify(
    files: tuple[Path, ...],
    count: int,
    seed: int,
    report: Path | None,
    as_json: bool,
    quiet: bool,
    wanted: Wanted,
) -> int:
    """Compare every byte of every layer on a board with the reference.

    Inputs are the IMAGEs, then N made ones: all-min, all-max, then noise, smooth fields and checkerboards in turn. An
    emulated board gets its firmware generated and built, or takes the one in --firmware DIR. A real board is asked
    what it holds.

    Exit code 0: equal. 9: bytes differ; the first layer that does is named. 10: another board, model or version.
    """
    from tinymbn.inference import find_pictures
    from tinymbn.stimuli import stimuli
    from tinymbn_codegen.project import PLAN_FILE

    model, images = arguments.split_model(files)
    if count == 0 and not images:
        raise arguments.usage("there is nothing to compare: no IMAGE, and -n 0")
    pictures = find_pictures(images)
    if report is not None:
        arguments.require_other_file(report, [model or arguments.MODEL_HERE, *pictures])
    request = wanted(model)
    if report is not None and request.folder is not None:
        arguments.require_other_file(report, [request.folder / PLAN_FILE, *request.folder.glob("*.elf")])
    inputs = stimuli(request.graph, pictures, count, seed)
    return run_verification(request, inputs, report=report, as_json=as_json, quiet=quiet or as_json)


def run_verification(
    request: Request,
    inputs: Iterable[Stimulus],
    *,
    report: Path | None = None,
    as_json: bool = False,
    quiet: bool = False,
) -> int:
    """Verify, print, and give the exit code."""
    from tinymbn import bench_report
    from tinymbn.files import write_file
    from tinymbn.verify import identify
    from tinymbn.verify import verify as compare
    from tinymbn.workbench import open_bench

    with Status(quiet=quiet) as status, open_bench(request, progress=status.tell) as bench:
        identity = identify(bench.connection, request.graph, request.board)
        layers = len(identity.plan.steps)

        def tell(what: str, done: int, layer: int) -> None:
            status.tell(f"{done} inputs equal; {what}: layer {layer} of {layers}")

        verdict = compare(bench.connection, identity, inputs, tell)
        values = bench_report.verdict_values(verdict, identity, bench.connection, request.board, bench.compiler)
    if report is not None:
        write_file(report, (json.dumps(values, indent=2) + "\n").encode())
    if as_json:
        click.echo(json.dumps(values, indent=2))
    else:
        bench_report.print_verdict(verdict, identity, bench.connection, request.board, bench.compiler)
    return 0 if verdict.equal else EXIT_DIFFERS


@click.command()
@click.argument("files", nargs=-1, type=arguments.FILE, metavar="[MODEL] [IMAGE]")
@click.option("-n", "runs", type=click.IntRange(min=1, max=1000), default=1, metavar="N", help="Runs. Default: 1.")
@_SEED
@arguments.as_json
@arguments.firmware_options
def profile(
    files: tuple[Path, ...],
    runs: int,
    seed: int,
    as_json: bool,
    quiet: bool,
    wanted: Wanted,
) -> None:
    """Show what each layer takes on a board: cycles; in an emulator instructions."""
    from tinymbn import bench_report
    from tinymbn.profile import ICOUNT_SHIFT
    from tinymbn.profile import profile as measure
    from tinymbn.stimuli import stimuli
    from tinymbn.verify import identify
    from tinymbn.workbench import open_bench
    from tinymbn_codegen.estimate import estimate

    model, images = arguments.split_model(files)
    if len(images) > 1:
        raise arguments.usage("one IMAGE at most: what a network takes does not depend on it")
    request = wanted(model)
    stimulus = list(stimuli(request.graph, images, 3 - 3 * len(images), seed))[-1]
    with (
        Status(quiet=quiet or as_json) as status,
        open_bench(request, icount_shift=ICOUNT_SHIFT, progress=status.tell) as bench,
    ):
        identity = identify(bench.connection, request.graph, request.board)
        layers = len(identity.plan.steps)

        def tell(done: int, layer: int) -> None:
            status.tell(f"run {done + 1} of {runs}: layer {layer} of {layers}")

        result = measure(bench.connection, identity, stimulus, runs, tell)
    estimated = estimate(identity.plan, request.board)
    if as_json:
        click.echo(json.dumps(bench_report.profile_values(result, request.board, estimated), indent=2))
        return
    bench_report.print_profile(result, request.board, estimated)
