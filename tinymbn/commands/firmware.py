"""Commands from a model to a board: plan, codegen, build, flash, deploy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tinymbn.commands import arguments
from tinymbn.terminal import Status

if TYPE_CHECKING:
    from tinymbn.board import Board
    from tinymbn.build import BuildResult
    from tinymbn.flashing import Runner
    from tinymbn.graph import Graph
    from tinymbn.toolchain import CompilerName
    from tinymbn_codegen.options import Options


@click.command()
@click.argument("model", type=arguments.FILE, required=False)
@arguments.board
@arguments.generator_options
@arguments.as_json
def plan(model: Path | None, board_name: str | None, options: Options, as_json: bool) -> None:
    """Show how a MODEL would run on a board: RAM, flash, where each layer's output lies.

    Exit code 4 where it does not fit; then it is said by how many bytes, and what would.
    """
    from tinymbn import bench_report
    from tinymbn.firmware import plan_model
    from tinymbn_codegen.fit import largest_sizes, require_fit

    board = arguments.load_board(board_name)
    graph = arguments.load(model)
    made, budget = plan_model(graph, board, options)
    if as_json:
        sizes = largest_sizes(graph, board, options) if budget.missing is not None else ()
        click.echo(json.dumps(bench_report.plan_values(made, budget, board, sizes), indent=2))
    else:
        bench_report.print_plan(made, budget, board)
    require_fit(graph, made, board, budget)


@click.command()
@click.argument("model", type=arguments.FILE, required=False)
@arguments.board
@click.option("-o", "--output", type=arguments.FILE, metavar="DIR", help="Default: firmware-<board>.")
@click.option("--library", is_flag=True, help="The model alone, without main, link and board.")
@arguments.generator_options
@arguments.as_json
@arguments.quiet
def codegen(
    model: Path | None,
    board_name: str | None,
    output: Path | None,
    library: bool,
    options: Options,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the C of a MODEL for a board.

    DIR is made; if it is there, it has to be empty or made by codegen before.
    """
    board = arguments.load_board(board_name)
    folder = _write(arguments.load(model, quiet=quiet), board, options, output, library=library)
    if as_json:
        click.echo((folder / "plan.json").read_text(encoding="utf-8"), nl=False)
        return
    click.echo(f"{folder}: {len(_files(folder))} files")
    click.echo(f"next: tinymbn build {folder}")


@click.command()
@click.argument("folder", type=arguments.FILE, metavar="[DIR]", required=False)
@arguments.compiler
@arguments.level
@arguments.as_json
@arguments.quiet
def build(folder: Path | None, compiler: CompilerName | None, level: str, as_json: bool, quiet: bool) -> None:
    """Compile and link DIR, check the stack, and show how full the memories are.

    DIR is a folder made by codegen. Left out, it is this one, or the only firmware-* in it.
    """
    from tinymbn import bench_report

    result = _build(arguments.firmware_folder(folder), compiler, level, quiet=quiet)
    if as_json:
        click.echo(json.dumps(bench_report.build_values(result), indent=2))
        return
    if result.warnings and not quiet:
        click.echo(result.warnings, err=True)
    bench_report.print_build(result)


@click.command()
@click.argument("folder", type=arguments.FILE, metavar="[DIR]", required=False)
@arguments.runner
@arguments.board
@click.option("--dry-run", is_flag=True, help="Print the command and do nothing.")
@arguments.as_json
def flash(folder: Path | None, runner: str | None, board_name: str | None, dry_run: bool, as_json: bool) -> None:
    """Bring DIR's firmware onto the board.

    --board is needed for a board of your own alone: its folder.
    """
    from tinymbn.project_file import read_project

    folder = arguments.firmware_folder(folder)
    board = arguments.load_board_of(folder, board_name or read_project(folder).board)
    values = _flash(folder, board, runner, dry_run=dry_run, quiet=as_json)
    if as_json:
        click.echo(json.dumps(values, indent=2))


@click.command()
@click.argument("files", nargs=-1, type=arguments.FILE, metavar="[MODEL] [IMAGE]...")
@arguments.board
@click.option("-o", "--output", type=arguments.FILE, metavar="DIR", help="Default: firmware-<board>.")
@arguments.port
@arguments.emulate
@arguments.runner
@arguments.generator_options
@arguments.compiler
@arguments.level
@arguments.as_json
@arguments.quiet
def deploy(
    files: tuple[Path, ...],
    board_name: str | None,
    output: Path | None,
    port: str | None,
    emulate: bool,
    runner: str | None,
    options: Options,
    compiler: CompilerName | None,
    level: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """Generate, build, flash and verify, one after the other; with --json the verdict is printed."""
    from tinymbn import bench_report
    from tinymbn.commands.verification import run_verification
    from tinymbn.inference import find_pictures
    from tinymbn.stimuli import DEFAULT_COUNT, stimuli
    from tinymbn.workbench import Request

    board = arguments.load_board(board_name)
    model, images = arguments.split_model(files)
    graph = arguments.load(model, quiet=quiet)
    inputs = stimuli(graph, find_pictures(images), DEFAULT_COUNT, 0)  # what is wrong with a picture is told first
    folder = _write(graph, board, options, output, library=False)
    result = _build(folder, compiler, level, quiet=quiet or as_json)
    if not as_json:
        click.echo(f"{folder}: {len(_files(folder))} files")
        bench_report.print_build(result)
    request = Request(graph=graph, board=board, folder=folder, emulate=emulate, port=port)
    if not request.emulated:
        _flash(folder, board, runner, dry_run=False, quiet=as_json)
    return run_verification(request, inputs, as_json=as_json, quiet=quiet or as_json)


def _write(graph: Graph, board: Board, options: Options, output: Path | None, *, library: bool) -> Path:
    from tinymbn.firmware import write_firmware

    folder = output or Path(f"{options.name}-library" if library else f"firmware-{board.name}")
    write_firmware(graph, board, options, folder, library=library)
    return folder


def _files(folder: Path) -> list[str]:
    files: list[str] = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["files"]
    return files


def _build(folder: Path, compiler: CompilerName | None, level: str, *, quiet: bool) -> BuildResult:
    from tinymbn.workbench import build_folder

    with Status(quiet=quiet) as status:
        status.tell("compiling")
        return build_folder(
            folder,
            compiler=compiler,
            level=level,
            progress=lambda done, of: status.tell(f"compiled {done} of {of}"),
        )


def _flash(folder: Path, board: Board, wanted: str | None, *, dry_run: bool, quiet: bool) -> dict[str, Any]:
    """Choose the runner, say the command, run it."""
    from tinymbn import flashing
    from tinymbn.project_file import read_project
    from tinymbn.summary import SCHEMA
    from tinymbn.workbench import find_elf

    project = read_project(folder)
    if project.build.library:
        raise arguments.usage(f"{folder}: a library; there is nothing to flash")
    elf = project.target if dry_run else find_elf(folder)
    runner = _runner(board, wanted, dry_run=dry_run, quiet=quiet)
    command = flashing.command(runner, elf)
    values: dict[str, Any] = {"schema": SCHEMA, "board": board.name, "tool": runner.tool, "command": command}
    if not quiet:
        click.echo(command)
    if dry_run:
        return values | {"dry_run": True}
    with Status(quiet=quiet) as status:
        status.tell(f"flashing with {runner.tool}")
        result = flashing.flash(board, elf, runner)
    if not quiet:
        click.echo(f"{result.image}: {result.image_bytes:,} bytes, SHA-256 {result.sha256}")
        click.echo(f"{result.outcome}, {result.seconds:.1f} s")
    return values | {
        "dry_run": False,
        "image": str(result.image),
        "image_bytes": result.image_bytes,
        "sha256": result.sha256,
        "seconds": result.seconds,
        "outcome": result.outcome,
    }


def _runner(board: Board, wanted: str | None, *, dry_run: bool, quiet: bool) -> Runner:
    """The runner that is here; for a dry run any, with a remark where its tool is not."""
    from tinymbn import flashing
    from tinymbn.errors import ToolError

    try:
        return flashing.choose_runner(board, wanted=wanted)
    except ToolError as error:
        if not dry_run:
            raise
        if not quiet:
            click.echo(f"remark: {error}", err=True)
        return next(runner for runner in flashing.runners(board) if wanted in (None, runner.tool))
