"""Shows an exploration: a table for people, values for programs, and a picture of accuracy against time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinymbn.columns import Column, new_console, print_columns
from tinymbn.errors import OptionError, OutputError, ToolError
from tinymbn.exploration.explore import OPTIMIZE, Candidate, Choice, Task
from tinymbn.summary import SCHEMA

PICTURE_SUFFIXES = (".png", ".svg")


def values(candidates: Sequence[Candidate], task: Task) -> dict[str, Any]:
    """For JSON."""
    return {
        "schema": SCHEMA,
        "classes": task.classes,
        "channels": task.channels,
        "max_ms": task.max_ms,
        "accuracy": "ImageNet top-1 of the float network with 1000 classes, per cent, as published",
        "candidates": [_candidate_values(candidate) for candidate in candidates],
    }


def _candidate_values(candidate: Candidate) -> dict[str, Any]:
    point = candidate.point
    return {
        "board": candidate.board,
        "arch": point.arch,
        "alpha": point.alpha,
        "resolution": point.resolution,
        "macs": candidate.macs,
        "parameters": candidate.parameters,
        "accuracy": candidate.accuracy,
        "fits": candidate.fits,
        "too_slow_by_ms": candidate.too_slow,
        "pareto": candidate.best,
        "optimize": {
            name: {
                "ram_bytes": choice.ram_bytes,
                "flash_bytes": choice.flash_bytes,
                "missing_bytes": choice.missing_bytes,
                "memory": choice.memory or None,
                "instructions": choice.instructions,
                "cycles_per_instruction": choice.cycles_per_instruction,
                "milliseconds": None if choice.seconds is None else choice.seconds * 1e3,
            }
            for name, choice in zip(OPTIMIZE, candidate.choices, strict=True)
        },
    }


def print_table(candidates: Sequence[Candidate], *, several_boards: bool) -> None:
    """What ``tinymbn explore`` shows."""
    shown = [_shown(candidate) for candidate in candidates]
    boards = [Column("board", [candidate.board for candidate in candidates])] if several_boards else []
    print_columns(
        new_console(),
        Column("", ["*" if candidate.best else "" for candidate in candidates]),
        *boards,
        Column("network", [candidate.point.name for candidate in candidates]),
        Column("MMACs", [f"{candidate.macs / 1e6:,.1f}" for candidate in candidates], right=True),
        Column("weights", [f"{candidate.parameters:,}" for candidate in candidates], rank=3, right=True),
        *(
            Column(f"RAM, {name}", [f"{c.choices[k].ram_bytes:,}" for c in candidates], rank=2 if k else 0, right=True)
            for k, name in enumerate(OPTIMIZE)
        ),
        Column("flash", [f"{choice.flash_bytes:,}" for choice in shown], right=True),
        Column("ms", [_milliseconds(choice) for choice in shown], right=True),
        Column("instructions", [_instructions(choice) for choice in shown], rank=1, right=True),
        Column("ImageNet", [f"{c.accuracy:.1f} %" if c.accuracy is not None else "" for c in candidates], right=True),
        Column("fits", [_verdict(candidate, choice) for candidate, choice in zip(candidates, shown, strict=True)]),
        numbered=False,
    )
    print()
    for line in _remarks(candidates, shown):
        print(line)


def _milliseconds(choice: Choice) -> str:
    if choice.seconds is None:
        return ""
    milliseconds = choice.seconds * 1e3
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def _instructions(choice: Choice) -> str:
    return f"{choice.instructions:,}" if choice.instructions is not None else ""


def _verdict(candidate: Candidate, choice: Choice) -> str:
    if choice.missing_bytes:
        return f"no: {choice.memory} lacks {choice.missing_bytes:,} bytes"
    return f"no: too slow by {candidate.too_slow:,.0f} ms" if candidate.too_slow is not None else "yes"


def _remarks(candidates: Sequence[Candidate], shown: Sequence[Choice]) -> list[str]:
    fitting = sum(candidate.fits for candidate in candidates)
    lines = [f"{fitting} of {len(candidates)} fit; * none that fits is as accurate and faster"]
    timed = sorted({f"{c.cycles_per_instruction:.2f}" for c in shown if c.cycles_per_instruction is not None})
    if timed:
        spread = timed[0] if len(timed) == 1 else f"{timed[0]} to {timed[-1]}"
        lines.append(
            f"ms: of the fastest that fits: estimated instructions x {spread} cycles each, without wait states"
        )
    if any(choice.seconds is None for choice in shown):
        reasons = sorted({choice.reason for choice in shown if choice.seconds is None})
        lines.append(f"time is not known: {'; '.join(reasons)}")
    lines.append("ImageNet: top-1 of the float network with 1000 classes, as published; yours will differ")
    return lines


def require_picture(path: Path) -> None:
    """Refuse, before long work, a picture that could not be drawn.

    Raises:
        OptionError: its name ends in something else.
        ToolError: matplotlib is not installed.
    """
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise OptionError(f"{path}: expected a name that ends in {' or '.join(PICTURE_SUFFIXES)}")
    try:
        import matplotlib as _  # noqa: F401
    except ImportError:
        raise ToolError("--plot: matplotlib is not installed: pip install 'tinymbn[plots]'") from None


def draw(candidates: Sequence[Candidate], path: Path) -> None:
    """A picture of accuracy against time, or instructions where time is not known; PNG or SVG by the path's name.

    Raises:
        OptionError: no candidate has both.
        OutputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = [candidate for candidate in candidates if candidate.accuracy is not None]
    timed = all(_shown(candidate).seconds is not None for candidate in known)
    known = [candidate for candidate in known if timed or _shown(candidate).instructions is not None]
    if not known:
        raise OptionError("--plot: no network among these has a published accuracy and a time")
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    colours = {board: f"C{k}" for k, board in enumerate(sorted({candidate.board for candidate in known}))}
    for board, colour in colours.items():
        own = [candidate for candidate in known if candidate.board == board]
        front = sorted((_place(c, timed=timed) for c in own if c.best), key=lambda place: place[0])
        axes.plot([x for x, _ in front], [y for _, y in front], color=colour, linewidth=1, zorder=1)
        for fits in (True, False):
            places = [_place(candidate, timed=timed) for candidate in own if candidate.fits == fits]
            label = f"{board}{'' if fits else ', does not fit'}"
            if places:
                xs, ys = zip(*places, strict=True)
                filled = colour if fits else "none"
                axes.scatter(xs, ys, s=36, facecolor=filled, edgecolor=colour, label=label, zorder=2)
        for candidate in own:
            if len(colours) == 1 or candidate.best:
                axes.annotate(
                    candidate.point.name,
                    _place(candidate, timed=timed),
                    xytext=(5, -10),
                    size=7,
                    textcoords="offset points",
                )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel("milliseconds, estimated" if timed else "instructions, estimated")
    axes.set_ylabel("ImageNet top-1 of the float network, %")
    axes.grid(visible=True, which="both", linewidth=0.3)
    axes.legend(loc="lower right")
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None


def _shown(candidate: Candidate) -> Choice:
    """The fastest choice that fits, else the one that lacks least."""
    return candidate.fitting or min(candidate.choices, key=lambda choice: choice.missing_bytes)


def _place(candidate: Candidate, *, timed: bool) -> tuple[float, float]:
    choice = _shown(candidate)
    work = choice.seconds * 1e3 if timed and choice.seconds is not None else choice.instructions
    assert work is not None
    assert candidate.accuracy is not None
    return work, candidate.accuracy
