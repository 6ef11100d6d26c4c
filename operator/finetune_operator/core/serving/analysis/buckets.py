"""Reading histograms: counts per bucket, what surely lies above a time, percentiles as Prometheus computes them."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from finetune_operator.core.serving.analysis.totals import Histogram


def per_bucket(histogram: Histogram) -> list[int]:
    """Observations in (bounds[i-1], bounds[i]]."""
    return [b - a for a, b in pairwise((0, *histogram.counts))]


def surely_above(histogram: Histogram, seconds: float) -> int:
    """Observations that were longer than `seconds` wherever in their bucket they lie."""
    return histogram.total - histogram.counts[bisect_left(histogram.bounds, seconds)]


def common(a: Histogram, b: Histogram) -> tuple[Histogram, Histogram]:
    """Both with the bounds that both have: two engine versions may measure with different ones."""
    if a.bounds == b.bounds:
        return a, b
    shared = set(a.bounds) & set(b.bounds)
    return _only(a, shared), _only(b, shared)


def _only(histogram: Histogram, bounds: set[float]) -> Histogram:
    kept = [(b, n) for b, n in zip(histogram.bounds, histogram.counts, strict=True) if b in bounds]
    return Histogram(tuple(b for b, _ in kept), tuple(n for _, n in kept), histogram.sum)


def percentile(histogram: Histogram, p: float) -> float | None:
    """The `p`-th percentile (0 < p <= 100) in seconds, as Prometheus' `histogram_quantile` has it: even spread within
    a bucket, the first begins at 0, and whatever lies in the last is said to be at the last finite bound. None
    without observations or finite bounds."""
    if not 0 < p <= 100:
        raise ValueError(f"a percentile lies above 0 and up to 100, not at {p}")
    if histogram.total == 0 or len(histogram.bounds) < 2:
        return None
    rank = p / 100 * histogram.total
    i = bisect_left(histogram.counts, rank)
    if i >= len(histogram.bounds) - 1:
        return histogram.bounds[-2]
    lower, below = (histogram.bounds[i - 1], histogram.counts[i - 1]) if i else (0.0, 0)
    return lower + (histogram.bounds[i] - lower) * (rank - below) / (histogram.counts[i] - below)
