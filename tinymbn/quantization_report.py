"""Shows how well each layer was quantised: a table for people, values for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinymbn.columns import Column, new_console, print_columns
from tinymbn.graph import Graph
from tinymbn.quantization import LayerQuality
from tinymbn.quantize import Calibration
from tinymbn.summary import SCHEMA, kind_text


def print_qualities(qualities: Sequence[LayerQuality], most: int) -> None:
    """The layers whose int8 output is furthest from the float one first."""
    worst = sorted(qualities, key=lambda quality: quality.sqnr_db)[:most]
    print_columns(
        new_console(),
        Column("layer", [quality.layer.name for quality in worst], rank=2),
        Column("kind", [kind_text(quality.layer) for quality in worst]),
        Column("from", [f"{quality.low:.4g}" for quality in worst], right=True),
        Column("to", [f"{quality.high:.4g}" for quality in worst], right=True),
        Column("clipped", [f"{quality.clipped:.3%}" for quality in worst], right=True),
        Column("SQNR dB", [f"{quality.sqnr_db:.1f}" for quality in worst], right=True),
        numbered=False,
    )
    if len(worst) < len(qualities):
        rest = len(qualities) - len(worst)
        print(f"... and {rest} that {'is' if rest == 1 else 'are'} nearer")


def values(
    graph: Graph,
    calibration: Calibration,
    qualities: Sequence[LayerQuality],
    pictures: int,
    skipped: int,
    method: str,
) -> dict[str, Any]:
    """For JSON."""
    return {
        "schema": SCHEMA,
        "model": graph.name,
        "pictures": pictures,
        "skipped": skipped,
        "method": method,
        "macs": graph.macs,
        "parameters": graph.parameters,
        "layers": [
            {
                "name": quality.layer.name,
                "kind": quality.layer.kind,
                "low": quality.low,
                "high": quality.high,
                "scale": quality.scale,
                "clipped": quality.clipped,
                "scaled_channels": calibration.scaled_channels(quality.layer.output),
                "sqnr_db": quality.sqnr_db if math.isfinite(quality.sqnr_db) else None,
            }
            for quality in qualities
        ],
    }
