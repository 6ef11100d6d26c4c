"""Is the canary slower than stable by more than a factor? One e-value from all that two histograms show.

A regression may move everything a little, only the slow end, or too little to cross a bucket's bound; nobody knows
beforehand which. So four questions are asked, each answered by an e-value, and their weighted average is one again,
without a correction for having asked four times:

- everything: are the canary's requests later in the order of all requests? (Scores: mid-ranks over the buckets.)
- percentile: does a larger share of them exceed the bound next to stable's percentile, the one the rule names?
- bounds: does a larger share exceed any other bound? (An average over the bounds that split the requests.)
- mean: where nearly all requests lie in at most three buckets, is their mean higher? vLLM's buckets are wide (100 to
  250 ms, 10 to 25 ms); a slow-down within one shows in the histogram's sum and nowhere else.

"By more than a factor" is put into the data: stable's latencies are stretched by it first (stretch.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from operator import add

from finetune_operator.core.serving.analysis.buckets import common, per_bucket
from finetune_operator.core.serving.analysis.sequential import NONE, two_samples
from finetune_operator.core.serving.analysis.stretch import stretched
from finetune_operator.core.serving.analysis.totals import Histogram

WEIGHTS = {"everything": 0.4, "percentile": 0.2, "bounds": 0.2, "mean": 0.2}
MEAN_BUCKETS = 3
MEAN_OUTSIDE = 0.01
"""Share of the requests that may lie below, and above, the buckets in which the mean is compared."""


@dataclass(frozen=True)
class Slower:
    log_evidence: float
    bound: float | None
    """Seconds: where the two differ most tellingly, None where their means do."""


@dataclass(frozen=True)
class _Side:
    histogram: Histogram
    unit: float
    """What one observation counts."""

    def scaled(self, counts: list[float]) -> list[float]:
        return [n * self.unit for n in counts]


def slower(
    stable: Histogram, canary: Histogram, factor: float, percentile: float, units: tuple[float, float] = (1.0, 1.0)
) -> Slower:
    """`factor` >= 1. `units`: what one observation of stable and of the canary counts, below 1 where many belong to
    one request."""
    stable, canary = common(stable, canary)
    s, c = _Side(stable, units[0]), _Side(canary, units[1])
    of_stable = s.scaled(stretched(stable, factor))
    of_canary = c.scaled([float(n) for n in per_bucket(canary)])
    both = [a + b for a, b in zip(of_stable, of_canary, strict=True)]
    total = sum(both)
    if total <= 0:
        return Slower(NONE, None)
    ranks = [(upto - n / 2) / total for upto, n in zip(accumulate(both), both, strict=True)]
    splitting = [i for i, n in enumerate(map(add, stable.counts, canary.counts)) if 0 < n < stable.total + canary.total]
    at_bounds = {stable.bounds[i]: _exceeding(i, of_stable, of_canary) for i in splitting}
    mean = _mean(s, c, factor)
    nearest = _nearest(stable, list(at_bounds), percentile)
    evidence = {
        "everything": two_samples(ranks, of_canary, of_stable),
        "percentile": NONE if nearest is None else at_bounds[nearest],
        "bounds": _log_sum((x, 1 / len(at_bounds)) for x in at_bounds.values()),
        "mean": mean,
    }
    telling = max(at_bounds, key=lambda t: at_bounds[t], default=None)
    return Slower(
        log_evidence=_log_sum((evidence[k], w) for k, w in WEIGHTS.items()),
        bound=None if telling is None or mean > at_bounds[telling] else telling,
    )


def _log_sum(terms: Iterable[tuple[float, float]]) -> float:
    """log(sum(w * exp(x))) over (x, w)."""
    values = [x + math.log(w) for x, w in terms]
    top = max(values, default=NONE)
    return top if math.isinf(top) else top + math.log(sum(math.exp(x - top) for x in values))


def _exceeding(i: int, stable: list[float], canary: list[float]) -> float:
    """Log e-value that a larger share of the canary's requests lies above the bucket `i`."""
    upto = i + 1
    return two_samples((0.0, 1.0), (sum(canary[:upto]), sum(canary[upto:])), (sum(stable[:upto]), sum(stable[upto:])))


def _nearest(stable: Histogram, bounds: list[float], percentile: float) -> float | None:
    """The bound whose share of stable's requests above it is nearest, in odds, to the percentile's."""
    upto = dict(zip(stable.bounds, stable.counts, strict=True))
    odds = math.log(percentile / (100 - percentile))

    def distance(bound: float) -> float:
        return abs(math.log((upto[bound] + 0.5) / (stable.total - upto[bound] + 0.5)) - odds)

    return min(bounds, key=distance, default=None)


def _mean(stable: _Side, canary: _Side, factor: float) -> float:
    """Log e-value that the canary's mean is higher than `factor` times stable's, where both lie in a few buckets.

    A request is worth its place between the lowest and the highest possible latency, as that fraction of an
    exceedance; only sums of places are known, and only they are needed. Requests outside the buckets count as at
    their edge, what they add to the sum is bounded by their own buckets, in favour of the canary.
    """
    both = [a + b for a, b in zip(per_bucket(stable.histogram), per_bucket(canary.histogram), strict=True)]
    outside = MEAN_OUTSIDE * sum(both)
    upto = list(accumulate(both))
    first = next(i for i, n in enumerate(upto) if n > outside)
    last = next(i for i, n in enumerate(upto) if n >= upto[-1] - outside)
    if last - first >= MEAN_BUCKETS or both[-1] > 0:
        return NONE
    low = 0.0 if first == 0 else stable.histogram.bounds[first - 1]
    high = stable.histogram.bounds[last]
    top = factor * high

    def places(side: _Side, stretch: float, *, at_least: bool) -> tuple[float, float]:
        n = side.histogram.total
        place = (stretch * _clipped_sum(side.histogram, first, last, at_least=at_least) - low * n) / (top - low)
        return side.unit * (n - place), side.unit * place

    return two_samples((0.0, 1.0), places(canary, 1.0, at_least=True), places(stable, factor, at_least=False))


def _clipped_sum(histogram: Histogram, first: int, last: int, *, at_least: bool) -> float:
    """The smallest, or largest, possible sum of all latencies when those outside the buckets `first` to `last` are
    moved to their edges."""
    counts = per_bucket(histogram)
    lower = (0.0, *histogram.bounds[:-1])
    upper = histogram.bounds
    others = upper if at_least else lower
    outside = [i for i, n in enumerate(counts) if n and not first <= i <= last]
    inside = range(first, last + 1)
    rest = histogram.sum - sum(counts[i] * others[i] for i in outside)
    rest = max(rest, sum(counts[i] * lower[i] for i in inside))
    rest = min(rest, sum(counts[i] * upper[i] for i in inside))
    return rest + sum(counts[i] * (lower[first] if i < first else upper[last]) for i in outside)
