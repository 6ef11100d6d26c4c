"""A histogram as it would be, had every observation taken longer by a factor.

How many observations cross a bound then depends on where in its bucket they lie, which a histogram does not say. The
cumulative counts are interpolated over the logarithm of the latency by monotone cubics (Fritsch & Carlson 1980): the
density at a bound lies between those of the buckets on its two sides. An even spread over each bucket, as in
Prometheus' percentiles, is off by half of a bucket's content where the density rises or falls steeply, and vLLM's
buckets are up to 2.5 times as wide as they begin.

Nothing is interpolated for the factor 1, and counts only move up for a larger one: a canary that equals stable never
looks worse for a tolerance.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import pairwise

from finetune_operator.core.serving.analysis.buckets import per_bucket
from finetune_operator.core.serving.analysis.totals import Histogram

FIRST_BUCKET = 2.0
"""The first bucket begins at 0, which has no logarithm; its content is taken to lie in its upper half."""


def stretched(histogram: Histogram, factor: float) -> list[float]:
    """Counts per bucket; `factor` >= 1. The content of the last bucket stays there."""
    if factor == 1 or len(histogram.bounds) == 1:
        return [float(n) for n in per_bucket(histogram)]
    logs = [math.log(bound) for bound in histogram.bounds[:-1]]
    knots = [logs[0] - math.log(FIRST_BUCKET), *logs]
    counts = [0, *histogram.counts[:-1]]
    steps = [(n - m) / (b - a) for (a, b), (m, n) in zip(pairwise(knots), pairwise(counts), strict=True)]
    density = [0.0, *(min((a + b) / 2, 3 * a, 3 * b) for a, b in pairwise(steps)), 0.0]
    shift = math.log(factor)

    def at_most(log: float) -> float:
        i = bisect_right(knots, log) - 1
        if i < 0:
            return 0.0
        if i + 1 == len(knots) or counts[i] == counts[i + 1]:
            return float(counts[i])
        width = knots[i + 1] - knots[i]
        t = (log - knots[i]) / width
        return (
            counts[i]
            + (counts[i + 1] - counts[i]) * t * t * (3 - 2 * t)
            + width * t * (1 - t) * (density[i] * (1 - t) - density[i + 1] * t)
        )

    upto = [at_most(log - shift) for log in logs]
    return [max(b - a, 0.0) for a, b in pairwise((0.0, *upto, float(histogram.total)))]
