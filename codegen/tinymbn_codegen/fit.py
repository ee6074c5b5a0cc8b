"""Does a model fit a board, and if not, which smaller one of its kind would."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from tinymbn.board import Board
from tinymbn.errors import ModelError, PlanError
from tinymbn.graph import Graph
from tinymbn_codegen.budget import Budget, make_budget
from tinymbn_codegen.names import plain
from tinymbn_codegen.options import Options
from tinymbn_codegen.plan import Plan, make_plan
from tinymbn_codegen.rescale import rescale, smaller_sizes

_WIDTHS = tuple(Fraction(eighths, 8) for eighths in range(8, 0, -1))
_TRIES = 8  # of placing buffers, for each size


@dataclass(frozen=True)
class Size:
    """A network of the same kind: a factor for the channels, and the input's height and width."""

    width: Fraction
    height: int
    columns: int

    @property
    def text(self) -> str:
        """``0.5 of its channels at 96x96``."""
        channels = "its channels" if self.width == 1 else f"{float(self.width):g} of its channels"
        return f"{channels} at {self.height}x{self.columns}"


def largest_sizes(graph: Graph, board: Board, options: Options) -> tuple[Size, ...]:
    """The sizes that fit and beat each other in one of the two: wide and coarse, ..., narrow and fine.

    Found by planning this graph's shapes again; empty where none fits or the graph does not scale.
    """
    if len(graph.input_tensor.shape) != 3:
        return ()
    found: list[Size] = []
    for width in _WIDTHS:
        finest = found[-1].height if found else 0
        for height, columns in smaller_sizes(graph).items():
            if height <= finest:
                break
            if _fits(graph, board, options, Size(width, height, columns)):
                found.append(Size(width, height, columns))
                break
    return tuple(found)


def _fits(graph: Graph, board: Board, options: Options, size: Size) -> bool:
    try:
        smaller = rescale(graph, size.width, size.height, size.columns)
        # Its weights are zeros: which channels would be dead is not known, and all are here.
        options = replace(options, without=options.without | {"dead_channels"})
        plan = make_plan(smaller, options, "", tries=_TRIES)
    except ModelError:
        return False
    return make_budget(plan, board).missing is None


def require_fit(graph: Graph, plan: Plan, board: Board, budget: Budget) -> None:
    """Nothing where the plan fits the board.

    Raises:
        PlanError: it does not; the text says by how much, and what would.
    """
    if not budget.short:
        return
    lacks = "; ".join(
        f"{room.memory.name} ({room.memory.kind}): does not fit by {room.missing:,} bytes: "
        f"{room.used:,} of {room.memory.size:,}"
        for room in budget.short
    )
    advice = _advice(graph, board, plan.options, budget)
    raise PlanError(f"{plain(graph.name)} on {board.name}: {lacks}; {advice}")


def _advice(graph: Graph, board: Board, options: Options, budget: Budget) -> str:
    if all(room.missing <= room.only_link for room in budget.rooms):
        frame = sum(room.only_link for room in budget.rooms)
        return (
            f"{frame:,} of these are the whole frame that verify sends, which a product fed row by row does "
            "not keep: codegen --library has none; verify on a board with more RAM"
        )
    sizes = largest_sizes(graph, board, options)
    if not sizes:
        return "no smaller one of its kind would"
    return f"largest that would: {'; '.join(size.text for size in sizes)}"
