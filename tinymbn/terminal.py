"""Text on a terminal: its width, letters that are no commands, a progress bar."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

_BEFORE_PROGRESS_S = 0.5  # what is quicker needs no bar


def terminal_width() -> int | None:
    """Columns of the terminal that standard output goes to; None where it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def printable(text: str) -> str:
    r"""A text that cannot steer a terminal: control characters as ``\x1b``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def complain(text: str) -> None:
    """One line on standard error."""
    print(f"tinymbn: {printable(text)}", file=sys.stderr, flush=True)


def shape_text(shape: Sequence[int]) -> str:
    """``96x96x3``."""
    return "x".join(map(str, shape))


def shorten(text: str, width: int) -> str:
    """The text, cut short of its middle where it is longer than the width; most of the end stays."""
    if len(text) <= width:
        return text
    head = width // 4
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def with_progress(items: Iterator[Item], total: int, *, quiet: bool) -> Generator[Item, None, None]:
    """The same items, with a bar, rate and time left on standard error if that is a terminal and they take a while."""
    if quiet or total < 2 or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    progress = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False, markup=False, emoji=False),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # so that lines scroll above the bar; a file gets them as they are
    )
    begin = time.monotonic()
    task = progress.add_task("", total=total, rate="")
    try:
        for done, item in enumerate(items, 1):
            if done < total and time.monotonic() - begin > _BEFORE_PROGRESS_S:
                progress.start()
            yield item
            rate = done / max(time.monotonic() - begin, 1e-3)
            progress.update(task, completed=done, rate=f"{rate:.3g}/s" if rate < 100 else f"{rate:,.0f}/s")
    finally:
        progress.stop()


class Status:
    """A line on standard error that says what is going on, if that is a terminal; use it in a ``with`` statement.

    Args:
        quiet: say nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._shown = not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._begin = time.monotonic()

    def tell(self, what: str) -> None:
        """Replace the line."""
        if self._shown:
            text = shorten(f"{printable(what)} ... {time.monotonic() - self._begin:.0f} s", self._columns() - 1)
            print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)

    @staticmethod
    def _columns() -> int:
        return shutil.get_terminal_size().columns

    def __enter__(self) -> Status:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
