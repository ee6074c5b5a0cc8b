"""A histogram of values that come one array at a time, and the ranges that quantise them best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 2048
LEVELS = 256  # of an int8
PERCENTILE = 99.99  # of values that the percentile's range keeps at each of its ends

Method = Literal["minmax", "percentile", "mse", "kl"]


class Range(NamedTuple):
    """The real values that a tensor takes, or those of them that are kept."""

    low: float
    high: float


class Histogram:
    """Counts of values in bins of one width; where a value lies outside, two bins become one until it fits.

    Its size does not depend on how many values there are. ``low`` and ``high`` are exact.
    """

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.counts = np.zeros(BINS, np.int64)
        self._start, self._width = 0.0, 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count finite values, of any shape."""
        low, high = float(values.min()), float(values.max())
        if self._width == 0:
            span = max(high - low, 1e-30 * max(1.0, abs(high)), 1e-30)
            self._start, self._width = low, span / (BINS - 1)
        self.low, self.high = min(self.low, low), max(self.high, high)
        while self.high >= self._start + BINS * self._width:
            self._merge(into=0)
        while self.low < self._start:
            self._start -= BINS * self._width
            self._merge(into=BINS // 2)
        places = ((values.ravel().astype(np.float64) - self._start) / self._width).astype(np.int64)
        self.counts += np.bincount(np.clip(places, 0, BINS - 1), minlength=BINS)

    def _merge(self, into: int) -> None:
        pairs = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.zeros(BINS, np.int64)
        self.counts[into : into + BINS // 2] = pairs
        self._width *= 2

    @property
    def edges(self) -> NDArray[np.float64]:
        """Where bins begin, and the last ends; (BINS + 1,), none outside the values."""
        edges: NDArray[np.float64] = np.clip(self._start + np.arange(BINS + 1) * self._width, self.low, self.high)
        return edges

    @property
    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin."""
        centres: NDArray[np.float64] = np.clip(
            self._start + (np.arange(BINS) + 0.5) * self._width, self.low, self.high
        ).astype(np.float64)
        return centres

    @property
    def range(self) -> Range:
        """From the least to the greatest value."""
        return Range(float(self.low), float(self.high))

    def clipped(self, kept: Range) -> float:
        """The share of values outside a range, to a bin."""
        outside = (self.centres < kept.low) | (self.centres > kept.high)
        return float(self.counts[outside].sum() / max(self.counts.sum(), 1))


def best_range(histogram: Histogram, method: Method) -> Range:
    """The range to be spread over int8.

    Args:
        histogram: of a tensor's values.
        method: "minmax": all values; "percentile": all but one in ten thousand at either end; "mse": that of the least
            mean squared error of rounding and clipping; "kl": that whose quantised distribution diverges least from the
            real one (Migacz 2017, 8-bit inference with TensorRT). Of fewer values than there are bins, as of a dense
            layer on some pictures, a distribution says nothing: all are kept.
    """
    if histogram.counts.sum() < BINS:
        return histogram.range
    return _METHODS[method](histogram)


def _min_max(histogram: Histogram) -> Range:
    return histogram.range


def _percentile(histogram: Histogram) -> Range:
    below = np.cumsum(histogram.counts) / histogram.counts.sum()
    rest = (100 - PERCENTILE) / 100
    first, last = int(np.searchsorted(below, rest)), min(int(np.searchsorted(below, 1 - rest)), BINS - 1)
    # Whole bins are kept: the rest may be one value that many elements have.
    edges = histogram.edges
    low = float(edges[first]) if histogram.low < 0 else float(histogram.low)
    return Range(low, float(edges[last + 1]))


def _candidates(histogram: Histogram) -> Iterator[Range]:
    """The whole range with each end drawn in step by step, zero never outside."""
    shares = np.linspace(1.0, 0.2, 65)
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    for share in shares:
        yield Range(low, high * share)
        if low < 0:
            yield Range(low * share, high)
            yield Range(low * share, high * share)


def _least(histogram: Histogram, cost: Callable[[Range], float]) -> Range:
    """The candidate of the least cost; the whole range where all values are one."""
    if histogram.high <= histogram.low:
        return histogram.range
    best = min(_candidates(histogram), key=cost)
    return Range(max(best.low, histogram.low), min(best.high, histogram.high))


def _mse(histogram: Histogram) -> Range:
    centres, weights = histogram.centres, histogram.counts / histogram.counts.sum()

    def error(kept: Range) -> float:
        step = (kept.high - kept.low) / (LEVELS - 1)
        beyond = centres - np.clip(centres, kept.low, kept.high)
        inside = weights[beyond == 0].sum()
        return float((weights * beyond**2).sum() + inside * step**2 / 12)

    return _least(histogram, error)


def _kl(histogram: Histogram) -> Range:
    centres, counts = histogram.centres, histogram.counts.astype(np.float64)
    # Behind a ReLU most values are zero, which every range keeps: they would drown all others.
    counts[np.abs(centres).argmin()] = 0
    if not counts.any():
        return histogram.range

    def divergence(kept: Range) -> float:
        if kept.high <= kept.low:
            return np.inf
        places = np.clip(centres, kept.low, kept.high)
        reference = np.bincount(_bin_of(places, kept, BINS), counts, BINS)
        levels = _bin_of((np.arange(BINS) + 0.5) / BINS * (kept.high - kept.low) + kept.low, kept, LEVELS)
        # What is inside, spread evenly over the bins of a level that hold anything.
        within = (centres >= kept.low) & (centres <= kept.high)
        inside = np.bincount(_bin_of(centres[within], kept, BINS), counts[within], BINS)
        filled = reference > 0
        totals = np.bincount(levels, inside, LEVELS)
        shared = np.bincount(levels, filled.astype(np.float64), LEVELS)
        quantized = np.where(filled, (totals / np.maximum(shared, 1))[levels], 0.0)
        p, q = reference / reference.sum(), quantized / max(quantized.sum(), 1e-30)
        return float((p[filled] * np.log(p[filled] / np.maximum(q[filled], 1e-12))).sum())

    return _least(histogram, divergence)


def _bin_of(values: NDArray[np.float64], kept: Range, bins: int) -> NDArray[np.int64]:
    share = (values - kept.low) / (kept.high - kept.low)
    return np.clip((share * bins).astype(np.int64), 0, bins - 1)


_METHODS: Mapping[Method, Callable[[Histogram], Range]] = MappingProxyType(
    {"minmax": _min_max, "percentile": _percentile, "mse": _mse, "kl": _kl}
)
