"""What several commands take: files, models, boards, options of the generator."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tinymbn.errors import OptionError, TinymbnError
from tinymbn.paths import SAMPLE_PICTURES, SHIPPED_MODEL

if TYPE_CHECKING:
    from tinymbn.board import Board
    from tinymbn.graph import Graph
    from tinymbn.interpreter import EngineName, Interpreter
    from tinymbn.preprocessing import Preprocessing
    from tinymbn.toolchain import CompilerName
    from tinymbn.workbench import Request
    from tinymbn_codegen.options import Options

MODEL_SUFFIXES = (".npz", ".tflite", ".onnx", ".keras", ".h5", ".pt2", ".pt", ".pth")
MODEL_HERE = Path("model.npz")  # what a command takes when no model is named

# Whether a file can be read is told by what reads it, with the exit code of its kind.
FILE = click.Path(path_type=Path, readable=False)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quiet = click.option("-q", "--quiet", is_flag=True, help="No progress and no remarks on standard error.")
labels = click.option("--labels", "labels_file", type=FILE, metavar="FILE", help="Class names, one a line.")
resize = click.option(
    "--resize", type=click.Choice(["squash", "crop"]), help="Squash a picture to the input's shape, or crop its centre."
)
engine = click.option(
    "--engine",
    type=click.Choice(["fast", "plain"]),
    default="fast",
    help="Vector kernels, or the plain loops that specify them: the same bytes. Default: fast.",
)
board = click.option("--board", "board_name", metavar="B", help="See tinymbn boards; or a folder with a board.toml.")
port = click.option("--port", metavar="P", help="Of the board. Default: $TINYMBN_PORT, else by its USB ids.")
emulate = click.option("--emulate", is_flag=True, help="Run in the board's emulator.")
runner = click.option("--runner", metavar="TOOL", help="Default: the first of the board's that is installed.")
compiler = click.option("--compiler", type=click.Choice(["gcc", "zig"]), help="Default: gcc, else zig.")
level = click.option(
    "--level",
    type=click.Choice(["-O0", "-O1", "-O2", "-O3", "-Os"]),
    default="-O2",
    help="Of the compiler. Default: -O2.",
)


def generator_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hands the command ``options``: what is asked of the generator."""

    @functools.wraps(command)
    def gather(
        *,
        name: str,
        without: Sequence[str],
        keep_dead_channels: bool,
        kernels: Any,
        optimize: Any,
        rows: Any,
        **others: Any,
    ) -> Any:
        from tinymbn_codegen.options import Options

        off = {*without, "dead_channels"} if keep_dead_channels else without
        options = Options(name, frozenset(off), kernels, optimize, rows)
        return command(options=options, **others)

    return _with_options(
        gather,
        click.option("--name", default="model", metavar="NAME", help="Prefix of files and symbols. Default: model."),
        click.option("--without", multiple=True, metavar="PASS", help="Switch off a pass: see docs/codegen.md."),
        click.option(
            "--optimize",
            type=click.Choice(["speed", "balanced", "ram"]),
            default="balanced",
            help="What matters most where speed and RAM are at odds. Default: balanced.",
        ),
        click.option(
            "--input",
            "rows",
            type=click.Choice(["frame", "rows"]),
            default="frame",
            help="Whether the input lies in RAM as a whole or comes row by row, as from a camera. Default: frame.",
        ),
        click.option(
            "--kernels",
            type=click.Choice(["chosen", "mve", "dsp", "armv7m", "armv6m", "plain"]),
            default="chosen",
            help="Default: chosen, the fastest for the core.",
        ),
        click.option("--keep-dead-channels", is_flag=True, help="The same as --without dead_channels."),
    )


Prepared = Callable[["Preprocessing"], "Preprocessing"]


def preprocessing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hands the command ``prepared``: what the user says of pictures, over what was known before."""

    @functools.wraps(command)
    def gather(
        *,
        input_range: tuple[float, ...] | None,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        channel_order: Any,
        resize: Any,
        **others: Any,
    ) -> Any:
        if (mean is None) != (std is None):
            raise usage("--mean and --std go together")
        if input_range is not None and (mean is not None or len(input_range) != 2):
            problem = "--input-range takes two numbers, and no --mean and --std beside it"
            raise usage(problem)

        def prepared(before: Preprocessing) -> Preprocessing:
            from tinymbn.preprocessing import Preprocessing

            after = before  # only the values of pixels may be a guess
            if input_range is not None:
                low, high = input_range
                try:
                    after = Preprocessing.of_range(low, high)
                except TinymbnError as error:
                    raise usage(str(error)) from None
            elif mean is not None:
                after = Preprocessing(mean=mean, std=std, origin="user")
            return replace(after, channel_order=channel_order or before.channel_order, resize=resize or before.resize)

        return command(prepared=prepared, **others)

    return _with_options(
        gather,
        click.option("--input-range", type=_numbers, metavar="LOW,HIGH", help="Real values of pixels 0 and 255."),
        click.option(
            "--mean", type=_numbers, metavar="A,B,C", help="Taken from a pixel of 0..255; one, or one a channel."
        ),
        click.option("--std", type=_numbers, metavar="A,B,C", help="By which the difference is divided."),
        click.option("--channel-order", type=click.Choice(["rgb", "bgr"]), help="Of the three channels."),
        resize,
    )


def _numbers(text: str) -> tuple[float, ...]:
    """Real numbers with commas between them: ``123.7,116.3,103.5``."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r}; expected numbers with commas between them") from None


def firmware_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hands the command ``wanted``: a function from the model's file to the Request for a firmware that answers."""

    @functools.wraps(command)
    def gather(
        *,
        board_name: str | None,
        folder: Path | None,
        options: Options,
        quiet: bool,
        emulate: bool,
        port: str | None,
        baud: int | None,
        compiler: CompilerName | None,
        level: str,
        **others: Any,
    ) -> Any:
        def wanted(model: Path | None) -> Request:
            from tinymbn.project_file import made_for
            from tinymbn.workbench import Request

            if board_name is None and folder is not None:
                chosen = load_board_of(folder, made_for(folder))
            else:
                chosen = load_board(board_name)
            return Request(
                board=chosen,
                graph=load(model, quiet=quiet),
                options=options,
                folder=folder,
                emulate=emulate,
                port=port,
                baud=baud,
                level=level,
                compiler=compiler,
            )

        return command(wanted=wanted, quiet=quiet, **others)

    return generator_options(
        _with_options(
            gather,
            board,
            click.option(
                "--firmware", "folder", type=FILE, metavar="DIR", help="Run the .elf in DIR as it lies there."
            ),
            emulate,
            port,
            click.option("--baud", type=click.IntRange(1200, 10_000_000), metavar="N", help="Default: the fastest."),
            compiler,
            level,
            quiet,
        )
    )


def _with_options(command: Callable[..., Any], *options: Callable[..., Any]) -> Callable[..., Any]:
    """The command with options, in the order of its help."""
    for option in reversed(options):
        command = option(command)
    return command


def usage(problem: str) -> click.UsageError:
    """A complaint with the hint where help is."""
    return click.UsageError(problem, click.get_current_context())


def split_model(files: Sequence[Path]) -> tuple[Path | None, Sequence[Path]]:
    """MODEL, if the first file is one, and the pictures."""
    is_model = [file.suffix.lower() in MODEL_SUFFIXES and not os.path.isdir(file) for file in files]
    if any(is_model[1:]):
        raise usage(f"{files[is_model.index(True, 1)]}: a model comes first, and there is one")
    return (files[0], files[1:]) if any(is_model) else (None, files)


def model_and_pictures(files: Sequence[Path]) -> tuple[Path | None, Sequence[Path]]:
    """MODEL and pictures; with nothing given, the samples that ship."""
    model, images = split_model(files)
    if not files and not MODEL_HERE.is_file():
        return None, [SAMPLE_PICTURES]
    if not images:
        raise usage("no IMAGE is given")
    return model, images


def load(path: Path | None, *, quiet: bool = True) -> Graph:
    """The model at the path, else the default one, with a remark which that is."""
    from tinymbn.load import load_model

    if path is None:
        path = MODEL_HERE if MODEL_HERE.is_file() else SHIPPED_MODEL
        if not quiet:
            where = "in this folder" if path is MODEL_HERE else "which ships with tinymbn"
            click.echo(f"model: {path.name}, {where}", err=True)
    return load_model(path)


def interpreter(graph: Graph, engine: EngineName, *, quiet: bool = False) -> Interpreter:
    """What runs a graph; says so where that has to be compiled first."""
    from tinymbn.interpreter import Interpreter, is_compiled

    if not quiet and sys.stderr.isatty() and not is_compiled(engine):
        what = f"compiling the {engine} kernels for this processor"
        click.echo(f"{what}; this happens once and takes some seconds ...", err=True)
    return Interpreter(graph, engine)


def load_board(name: str | None) -> Board:
    """The board that ``--board`` names."""
    from tinymbn import board

    if name is None:
        raise usage(f"--board is missing; one of {', '.join(known.name for known in board.known_boards())}")
    return board.load_board(name)


def load_board_of(folder: Path, name: str | None) -> Board:
    """The board that a generated folder was made for, by its name or by ``--board``."""
    from tinymbn.errors import BoardError

    try:
        return load_board(name)
    except BoardError as error:
        if name is None or os.sep in name:
            raise
        raise BoardError(
            f'{folder}: made for "{name}": {error}; of a board of your own name the folder with --board'
        ) from None


def new_model(output: Path | None) -> Path:
    """Where a model is written: model.npz in this folder if nothing else is said and it is not there yet."""
    if output is None:
        output = MODEL_HERE
        if output.exists():
            problem = f"{output} exists; to replace it, say so: -o {output}"
            raise usage(problem)
    return output


def require_output(path: Path, inputs: Sequence[Path | None]) -> None:
    """Refuse an output before long work: one that cannot be written, or would replace what is read.

    A ``.npz`` model may be replaced by itself with other labels.
    """
    if path.suffix.lower() != ".npz":
        raise usage(f"{path}: expected a name that ends in .npz")
    require_other_file(path, inputs)


def require_other_file(path: Path, inputs: Sequence[Path | None]) -> None:
    """Refuse, before long work, an output that cannot be written or would replace an input."""
    from tinymbn.files import require_writable

    require_writable(path)
    for other in inputs:
        try:
            same = other is not None and path.exists() and path.samefile(other)
        except OSError:
            continue  # the input's own error comes when it is read
        if same:
            raise usage(f"{path}: it is read, and would be replaced")


def firmware_folder(folder: Path | None) -> Path:
    """The folder that was named, else this one, else the only ``firmware-*`` in it.

    Raises:
        OptionError: none was named and it cannot be guessed.
    """
    from tinymbn.project_file import is_project

    if folder is not None:
        return folder
    here = Path()
    if is_project(here):
        return here
    found = [path for path in sorted(here.glob("firmware-*")) if is_project(path)]
    if len(found) != 1:
        names = ", ".join(map(str, found)) or "none"
        raise OptionError(f"no DIR is given; folders of tinymbn codegen here: {names}; name one")
    return found[0]
