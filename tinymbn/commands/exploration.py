"""The command that answers which MobileNet fits a board: explore."""

from __future__ import annotations

import json
import math
from contextlib import closing
from pathlib import Path

import click

from tinymbn.architectures import NAMES
from tinymbn.commands import arguments

_ALPHAS = "0.25,0.5,0.75,1"
_RESOLUTIONS = "96,128,160,192,224"


def _numbers(option: str, text: str, kind: type[float] | type[int]) -> tuple[float, ...]:
    """Each number once, in the order in which they are given."""
    try:
        return tuple(dict.fromkeys(kind(number) for number in text.split(",")))
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise click.BadParameter(f"{text!r}; expected {what} with commas between them", param_hint=option) from None


def _finite(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value}; expected a number of milliseconds")
    return value


@click.command()
@click.option("--board", "board_name", metavar="B", help="See tinymbn boards; all for every one.")
@click.option("--arch", type=click.Choice([*NAMES, "all"]), default=NAMES[0], help=f"Default: {NAMES[0]}.")
@click.option("--alphas", default=_ALPHAS, metavar="A,B,...", help=f"Width multipliers. Default: {_ALPHAS}.")
@click.option("--resolutions", default=_RESOLUTIONS, metavar="R,S,...", help=f"Default: {_RESOLUTIONS}.")
@click.option("--classes", type=int, default=1000, metavar="N", help="Default: 1000.")
@click.option("--channels", type=click.Choice(["1", "3"]), default="3", help="Of a picture. Default: 3.")
@click.option(
    "--max-ms",
    type=click.FloatRange(min=0, min_open=True),
    callback=_finite,
    metavar="MS",
    help="What takes longer does not fit.",
)
@click.option("--plot", type=arguments.FILE, metavar="FILE.png", help="Draw accuracy against time; .png or .svg.")
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Networks at a time. Default: one a core.")
@arguments.as_json
@arguments.quiet
def explore(
    board_name: str | None,
    arch: str,
    alphas: str,
    resolutions: str,
    classes: int,
    channels: str,
    max_ms: float | None,
    plot: Path | None,
    jobs: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show which MobileNets fit a board in RAM, flash and time, before one is trained.

    Each alpha and resolution is planned as tinymbn plan does it, with random weights and dead channels kept. RAM is
    shown for each --optimize; flash and time are of the fastest that fits.
    """
    from tinymbn import terminal
    from tinymbn.board import known_boards
    from tinymbn.evaluation import cores
    from tinymbn.exploration import report
    from tinymbn.exploration.explore import Candidate, Point, Task, mark_best
    from tinymbn.exploration.explore import explore as plan_all

    if plot is not None:
        report.require_picture(plot)
        arguments.require_other_file(plot, [])
    if board_name == "all":
        boards = [board for board in known_boards() if not board.is_host]
    else:
        boards = [arguments.load_board(board_name)]
    points = [
        Point(name, alpha, int(resolution))
        for name in (NAMES if arch == "all" else (arch,))
        for alpha in _numbers("--alphas", alphas, float)
        for resolution in _numbers("--resolutions", resolutions, int)
    ]
    task = Task(classes, int(channels), max_ms)
    found: list[Candidate] = []
    planned = plan_all(points, boards, task, jobs or cores())
    with closing(terminal.with_progress(planned, len(points), quiet=quiet)) as shown:
        for several in shown:
            found.extend(several)
    candidates = mark_best(found)
    if as_json:
        click.echo(json.dumps(report.values(candidates, task), indent=2))
    else:
        report.print_table(candidates, several_boards=len(boards) > 1)
    if plot is not None:
        report.draw(candidates, plot)
