"""Columns of text for people, as wide as the terminal allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tinymbn.terminal import printable, shorten, terminal_width

_PIPED_WIDTH = 1000  # so that nothing is cut where no one looks at columns
_GAP = 2  # between columns
_LEAST_NAME = 14  # a shorter one says nothing


@dataclass(frozen=True)
class Column:
    """A column of a table, with its heading."""

    heading: str
    cells: Sequence[str]
    rank: int = 0  # columns of the highest rank go first where room is short; 0 never goes
    right: bool = False

    @property
    def width(self) -> int:
        """With the gap to the next column."""
        return max(map(len, (self.heading, *self.cells))) + _GAP


def print_columns(console: Console, *columns: Column, numbered: bool = True) -> None:
    """A table, its rows numbered from 0; names of layers give way first, then the columns by their rank."""
    numbers = Column("#", [str(i) for i in range(len(columns[0].cells))], right=True)
    kept = [numbers, *columns] if numbered else list(columns)

    def room_for_names() -> int:
        return console.width + _GAP - sum(column.width for column in kept if column.heading != "layer")

    for rank in (3, 2, 1):
        if room_for_names() < _GAP + (_LEAST_NAME if any(column.heading == "layer" for column in kept) else 0):
            kept = [column for column in kept if column.rank != rank]

    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    rows = []
    for column in kept:
        table.add_column(column.heading, justify="right" if column.right else "left", no_wrap=True)
        cells = [printable(cell) for cell in column.cells]
        rows.append([shorten(cell, room_for_names() - _GAP) for cell in cells] if column.heading == "layer" else cells)
    for row in zip(*rows, strict=True):
        table.add_row(*row)
    show(console, table)


def new_console() -> Console:
    """Standard output, as wide as the terminal or as wide as it takes."""
    return Console(width=terminal_width() or _PIPED_WIDTH, highlight=False, markup=False, emoji=False)


def show(console: Console, table: Table) -> None:
    """Print a table without the blanks that fill the last column, which would wrap in a terminal made narrower."""
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())
