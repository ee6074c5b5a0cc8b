"""The command line: gathers the commands, and turns an error into a line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from tinymbn import __version__
from tinymbn.commands import devices, evaluation, exploration, firmware, model, network, verification
from tinymbn.errors import InterruptError, OutputError, TinymbnError
from tinymbn.terminal import complain

EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


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
        complain(error.format_message())
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(f"Hint: {error.ctx.command_path} --help", err=True)
        code = error.exit_code
    except TinymbnError as error:
        complain(str(error))
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        complain("interrupted")
        code = InterruptError.exit_code
        # Python would die of an interrupt that came while it ran exec(), as making a dataclass does, although it has
        # been caught; it forgets that when it runs the next.
        exec("")  # noqa: S102
    except OSError as error:
        if error.filename is not None:
            complain(f"{error.filename}: {error.strerror}")
            sys.exit(OutputError.exit_code)
        # Standard output. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            code = EXIT_BROKEN_PIPE
        else:
            complain(f"standard output: cannot be written: {error.strerror}")
            code = OutputError.exit_code
    sys.exit(code)


def _invoke(arguments: Sequence[str]) -> int:
    try:
        with cli.make_context("tinymbn", list(arguments)) as context:
            code: int | None = cli.invoke(context)
            return code or 0
    except click.exceptions.Exit as early:  # --help, --version
        return early.exit_code


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """From a trained MobileNet to a microcontroller, every byte proven equal to the reference.

    Exit codes: 0 fine or equal, 1 a bug of tinymbn, 2 wrong usage, 3 model, picture or data set invalid or
    unsupported, 4 does not fit, 5 build failed or tool missing, 6 no device or several, 7 flashing failed,
    8 no answer over the link, 9 bytes differ, 10 wrong firmware or model, 130 interrupted.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    *(model.run, evaluation.evaluate, model.info, model.import_model),
    *(network.new, network.quantize, exploration.explore),
    *(firmware.plan, firmware.codegen, firmware.build, firmware.flash, firmware.deploy),
    *(verification.verify, verification.profile),
    *(devices.boards, devices.ports, devices.doctor),
):
    cli.add_command(_command)
