"""Shows estimates: values for JSON, and text for people; beside what a profile measured, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinymbn.profile import Profile
from tinymbn_codegen.estimate import Amount, Estimate


def estimate_values(estimate: Estimate | None) -> dict[str, Any] | None:
    """For JSON; None where there is no estimate."""
    if estimate is None:
        return None
    return {
        "instructions": estimate.instructions,
        "cycles": estimate.cycles,  # as all that follows from them, null where nothing gives them
        "cycles_per_instruction": estimate.factor,
        "cycles_reason": estimate.reason,
        "clock_hz": estimate.clock_hz,
        "seconds": estimate.seconds,
        "error": estimate.error,
        "schedule": _values(estimate.schedule),
        "layers": [_values(amount) for amount in estimate.layers],
    }


def estimate_lines(estimate: Estimate | None) -> list[str]:
    """What ``tinymbn plan`` says below its tables."""
    if estimate is None:
        return []
    within = f"within {estimate.error:.1%} on the models that were measured"
    if estimate.seconds is None:
        return [
            f"work  about {estimate.instructions:,} instructions (estimate; {within})",
            f"      time is not known: {estimate.reason}",
        ]
    return [
        f"time  about {_milliseconds(estimate.seconds)} ms at {estimate.clock_hz / 1e6:g} MHz: "
        f"{estimate.instructions:,} instructions x {estimate.factor:.2f} cycles each "
        f"(estimate; instructions {within})",
        f"      cycles: {estimate.reason}; without wait states",
    ]


def instruction_cells(estimate: Estimate | None) -> list[str]:
    """Of each layer, for a column; none where there is no estimate."""
    return [f"{amount.instructions:,}" for amount in estimate.layers] if estimate is not None else []


def estimated_counts(estimate: Estimate | None, profile: Profile) -> list[int] | None:
    """Of each layer in the profile's unit, then of the whole run; None where it has no estimate."""
    if estimate is None or profile.unit == "nanoseconds":
        return None
    amounts: Sequence[Amount] = (*estimate.layers, Amount(estimate.instructions, estimate.cycles))
    if profile.unit == "instructions":
        return [amount.instructions for amount in amounts]
    cycles = [amount.cycles for amount in amounts if amount.cycles is not None]
    return cycles if len(cycles) == len(amounts) else None


def difference_cells(estimated: Sequence[int], profile: Profile) -> list[str]:
    """How far each layer's estimate is from its count."""
    counts = [cost.count for cost in profile.layers]
    return [difference(guess, count) for guess, count in zip(estimated, counts, strict=False)]


def difference(estimated: int, measured: int) -> str:
    """Relative; nothing where nothing was estimated."""
    return f"{estimated / measured - 1:+.1%}" if estimated and measured else ""


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f}" if seconds >= 0.1 else f"{seconds * 1e3:.3g}"


def _values(amount: Amount) -> dict[str, int | None]:
    return {"instructions": amount.instructions, "cycles": amount.cycles}
