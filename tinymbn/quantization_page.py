"""A page about a quantised model that needs nothing but itself: each layer's values, and what int8 keeps of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
import numpy as np

from tinymbn import __version__
from tinymbn.graph import Graph
from tinymbn.quantization import LayerQuality
from tinymbn.quantize import Calibration, Histogram
from tinymbn.summary import kind_text

_WIDTH, _HEIGHT = 360, 90  # of a plot
_BARS = 120


@dataclass(frozen=True)
class _Row:
    """A layer, as the template shows it."""

    name: str
    kind: str
    low: str
    high: str
    scale: str
    clipped: str
    sqnr: str
    bars: str
    kept: tuple[float, float]


def page(
    quantized: Graph, calibration: Calibration, qualities: Sequence[LayerQuality], pictures: int, method: str
) -> str:
    """The page's HTML, layers worst first."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        (resources.files("tinymbn") / "quantization.html.j2").read_text(encoding="utf-8")
    )
    worst = sorted(qualities, key=lambda quality: quality.sqnr_db)
    return template.render(
        name=quantized.name,
        version=__version__,
        pictures=pictures,
        method=method,
        scaled=sum(calibration.scaled_channels(tensor) for tensor in calibration.factors),
        width=_WIDTH,
        height=_HEIGHT,
        rows=[_row(quality, calibration.seen[quality.layer.output].histogram) for quality in worst],
    )


def _row(quality: LayerQuality, histogram: Histogram) -> _Row:
    first, last = min(histogram.low, quality.low), max(histogram.high, quality.high)
    span = max(last - first, 1e-30)

    def place(value: float) -> float:
        return round((value - first) / span * _WIDTH, 1)

    return _Row(
        name=quality.layer.name,
        kind=kind_text(quality.layer),
        low=f"{quality.low:.4g}",
        high=f"{quality.high:.4g}",
        scale=f"{quality.scale:.4g}",
        clipped=f"{quality.clipped:.3%}",
        sqnr=f"{quality.sqnr_db:.1f}",
        bars=_bars(histogram, first, span),
        kept=(place(quality.low), place(quality.high)),
    )


def _bars(histogram: Histogram, first: float, span: float) -> str:
    """The histogram as an SVG path; heights are logarithms, for most values are near zero."""
    places = np.clip(((histogram.centres - first) / span * _BARS).astype(int), 0, _BARS - 1)
    counts = np.bincount(places, histogram.counts, _BARS)
    heights = np.log1p(counts) / max(np.log1p(counts.max()), 1e-9) * (_HEIGHT - 4)
    bar = _WIDTH / _BARS
    return "".join(
        f"M{k * bar:.1f} {_HEIGHT}v{-height:.1f}h{bar:.1f}v{height:.1f}z"
        for k, height in enumerate(heights)
        if height > 0
    )
