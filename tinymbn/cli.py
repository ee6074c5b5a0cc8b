"""The command line: parses, calls what does the work, prints.

Commands import what they need when they run, so that ``--help`` and ``--version`` answer at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from tinymbn import __version__
from tinymbn.errors import ImageError, OutputError, TinymbnError
from tinymbn.paths import SAMPLE_PICTURES, SHIPPED_MODEL

if TYPE_CHECKING:
    from tinymbn.graph import Graph
    from tinymbn.preprocessing import Preprocessing

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

_MODEL_SUFFIXES = (".npz", ".tflite")
_MODEL_HERE = Path("model.npz")  # what a command takes when no model is named


def _numbers(text: str) -> tuple[float, ...]:
    """Real numbers with commas between them: ``123.7,116.3,103.5``."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r}; expected numbers with commas between them") from None


# Whether a file can be read is told by what reads it, with the exit code of its kind.
_FILE = click.Path(path_type=Path, readable=False)
_RESIZE = click.Choice(["squash", "crop"])
_LABELS = click.option("--labels", "labels_file", type=_FILE, metavar="FILE", help="Class names, one a line.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: the one place where an error becomes a line and an exit code.

    Args:
        arguments: those of the process, if None.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: what is printed goes nowhere
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open until the process ends
    for stream in (sys.stdout, sys.stderr):
        # A label or file name that the terminal has no letters for is no reason to stop.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _invoke(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except click.ClickException as error:
        _complain(error.format_message())
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(f"Hint: {error.ctx.command_path} --help", err=True)
        code = error.exit_code
    except TinymbnError as error:
        _complain(str(error))
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted")
        code = EXIT_INTERRUPTED
    except OSError as error:
        if error.filename is not None:
            raise
        # Standard output. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            code = EXIT_BROKEN_PIPE
        else:
            _complain(f"standard output: cannot be written: {error.strerror}")
            code = OutputError.exit_code
    sys.exit(code)


def _invoke(arguments: Sequence[str]) -> int:
    try:
        with cli.make_context("tinymbn", list(arguments)) as context:
            code: int | None = cli.invoke(context)
            return code or 0
    except click.exceptions.Exit as early:  # --help, --version
        return early.exit_code


def _complain(text: str) -> None:
    from tinymbn.terminal import printable

    click.echo(f"tinymbn: {printable(text)}", err=True)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """From a trained MobileNet to a microcontroller, every byte proven equal to the reference.

    Exit codes: 0 fine, 1 a bug of tinymbn, 2 wrong usage, 3 model or picture invalid or unsupported,
    130 interrupted.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@click.argument("files", nargs=-1, type=_FILE, metavar="[MODEL] IMAGE...")
@click.option("--top", type=click.IntRange(min=1), metavar="K", help="Classes to show: 5, of several pictures 1.")
@_LABELS
@click.option("--resize", type=_RESIZE, help="Squash a picture to the input's shape, or crop its centre.")
@click.option("--layers", is_flag=True, help="Show each layer's output: shape, range, CRC-32.")
@click.option("--profile", is_flag=True, help="Show how long each layer takes on this computer.")
@click.option("--output", type=_FILE, metavar="FILE.npz", help="Write the raw outputs of all pictures.")
@_JSON
@click.option("-q", "--quiet", is_flag=True, help="No progress and no remarks on standard error.")
def run(
    files: tuple[Path, ...],
    top: int | None,
    labels_file: Path | None,
    resize: Any,
    layers: bool,
    profile: bool,
    output: Path | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run a MODEL on pictures.

    IMAGE is a PNG, JPEG or BMP file, a .npy array, or a folder of them. MODEL is a .npz or .tflite file.
    Left out, it is model.npz in this folder, else the model that ships with tinymbn, which reads handwritten
    digits.

    A picture is turned upright as its EXIF data say, what is transparent becomes white, and it is squashed to
    the input's size unless the model or --resize says crop.
    """
    model, images = _split_model(files)
    if output is not None:
        _require_output(output, [model or _MODEL_HERE, labels_file, *images])
    from tinymbn import inference, report, terminal
    from tinymbn.interpreter import Interpreter
    from tinymbn.kernels.jit import is_compiled
    from tinymbn.labels import with_labels

    graph = _load(model, quiet=quiet)
    if resize is not None:
        graph = replace(graph, preprocessing=replace(graph.preprocessing, resize=resize))
    if labels_file is not None:
        graph = with_labels(graph, labels_file)
    pictures = inference.find_pictures(images)
    interpreter = Interpreter(graph)
    if not quiet and sys.stderr.isatty() and not is_compiled():
        click.echo("compiling the kernels; this happens once and takes some seconds ...", err=True)

    out = report.JsonReport(graph, top) if as_json else report.TextReport(graph, pictures, top)
    done: list[inference.PictureResult] = []
    failed = False
    results = inference.run_pictures(interpreter, pictures, layers=layers)
    with closing(terminal.with_progress(results, len(pictures), quiet=quiet)) as shown:
        for result in shown:
            if isinstance(result, inference.PictureError):
                _complain(str(result.error))
                failed = True
            elif output is not None or not done:  # --profile needs one; thousands need not be kept for nothing
                done.append(result)
            out.add(result)
    if profile and done:
        out.add_times(inference.layer_times(interpreter, done[0].input))
    out.finish()
    if output is not None and done:
        inference.save_outputs(output, graph, done)
    return ImageError.exit_code if failed else 0


@cli.command("import")
@click.argument("model", type=_FILE)
@click.option("-o", "--output", type=_FILE, metavar="FILE.npz", help="Default: a new model.npz.")
@_LABELS
@click.option("--input-range", type=_numbers, metavar="LOW,HIGH", help="Real values of pixels 0 and 255.")
@click.option("--mean", type=_numbers, metavar="A,B,C", help="Taken from a pixel of 0..255; one, or one a channel.")
@click.option("--std", type=_numbers, metavar="A,B,C", help="By which the difference is divided.")
@click.option("--channel-order", type=click.Choice(["rgb", "bgr"]), help="Of the three channels.")
@click.option("--resize", type=_RESIZE, help="Squash a picture to the input's shape, or crop its centre.")
def import_model(
    model: Path,
    output: Path | None,
    labels_file: Path | None,
    input_range: tuple[float, ...] | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    channel_order: Any,
    resize: Any,
) -> None:
    """Write a .tflite MODEL as .npz.

    Labels, and what is to be done to a picture, go with it. A .npz MODEL is taken as well, to change these.
    Mean and std are in the order in which the model takes the channels.
    """
    if (mean is None) != (std is None):
        raise click.UsageError("--mean and --std go together", click.get_current_context())
    if input_range is not None and (mean is not None or len(input_range) != 2):
        problem = "--input-range takes two numbers, and no --mean and --std beside it"
        raise click.UsageError(problem, click.get_current_context())
    if output is None:
        output = _MODEL_HERE
        if output.exists():
            problem = f"{output} exists; to replace it, say so: -o {output}"
            raise click.UsageError(problem, click.get_current_context())
    _require_output(output, [labels_file, model if model.suffix.lower() != ".npz" else None])
    from tinymbn.labels import with_labels
    from tinymbn.model_file import save_model
    from tinymbn.summary import preprocessing_text

    graph = _load(model)
    graph = replace(
        graph, preprocessing=_preprocessing(graph.preprocessing, input_range, mean, std, channel_order, resize)
    )
    if labels_file is not None:
        graph = with_labels(graph, labels_file)
    picture = preprocessing_text(graph)  # complains of a mean that does not fit the input
    save_model(graph, output)
    size = f"{len(graph.layers)} layers, {graph.macs:,} MACs, {graph.parameters:,} weights and biases"
    click.echo(f"{output}: {size}, {output.stat().st_size:,} bytes")
    click.echo(f"picture: {picture}")


@cli.command()
@click.argument("model", type=_FILE, required=False)
@_JSON
def info(model: Path | None, as_json: bool) -> None:
    """Show a MODEL's layers, cost and input.

    MODEL is a .npz or .tflite file. Left out, it is model.npz in this folder, else the model that ships.
    """
    graph = _load(model)
    if as_json:
        from tinymbn.summary import model_values

        click.echo(json.dumps(model_values(graph), indent=2))
        return
    from tinymbn.tables import print_model

    print_model(graph)


def _split_model(files: Sequence[Path]) -> tuple[Path | None, Sequence[Path]]:
    """MODEL, if the first file is one, and the pictures; with nothing given, the samples that ship."""
    is_model = [file.suffix.lower() in _MODEL_SUFFIXES and not os.path.isdir(file) for file in files]
    if any(is_model[1:]):
        problem = f"{files[is_model.index(True, 1)]}: a model comes first, and there is one"
        raise click.UsageError(problem, click.get_current_context())
    model, images = (files[0], files[1:]) if any(is_model) else (None, files)
    if not files and not _MODEL_HERE.is_file():
        return None, [SAMPLE_PICTURES]
    if not images:
        raise click.UsageError("no IMAGE is given", click.get_current_context())
    return model, images


def _load(path: Path | None, *, quiet: bool = True) -> Graph:
    """The model at the path, else the default one, with a remark which that is."""
    from tinymbn.load import load_model

    if path is None:
        path = _MODEL_HERE if _MODEL_HERE.is_file() else SHIPPED_MODEL
        if not quiet:
            where = "in this folder" if path is _MODEL_HERE else "which ships with tinymbn"
            click.echo(f"model: {path.name}, {where}", err=True)
    return load_model(path)


def _preprocessing(
    before: Preprocessing,
    input_range: tuple[float, ...] | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    channel_order: Any,
    resize: Any,
) -> Preprocessing:
    """What the user says, over what was known before; only the values of pixels may be a guess."""
    from tinymbn.preprocessing import Preprocessing

    after = before
    if input_range is not None:
        low, high = input_range
        try:
            after = Preprocessing.of_range(low, high)
        except TinymbnError as error:
            raise click.UsageError(str(error), click.get_current_context()) from None
    elif mean is not None:
        after = Preprocessing(mean=mean, std=std, origin="user")
    return replace(after, channel_order=channel_order or before.channel_order, resize=resize or before.resize)


def _require_output(path: Path, inputs: Sequence[Path | None]) -> None:
    """Refuse an output before long work: one that cannot be written, or would replace what is read.

    A ``.npz`` model may be replaced by itself with other labels.
    """
    from tinymbn.files import require_writable

    if path.suffix.lower() != ".npz":
        raise click.UsageError(f"{path}: expected a name that ends in .npz", click.get_current_context())
    require_writable(path)
    for other in inputs:
        try:
            same = other is not None and path.exists() and path.samefile(other)
        except OSError:
            continue  # the input's own error comes when it is read
        if same:
            raise click.UsageError(f"{path}: it is read, and would be replaced", click.get_current_context())
