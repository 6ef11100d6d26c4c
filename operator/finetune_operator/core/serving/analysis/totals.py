"""What the analysis reads: totals of one revision since the analysis window began.

Everything here is a plain sum over the revision's pods of positive counter differences, so that a pod's restart (its
counters begin at zero again) and an operator's restart lose nothing that was already added. The statistics need
totals only, never the single looks: that is what lets the operator die between two of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from finetune_api.rollout import AnalysisMetric, MetricName

DEFAULT_PERCENTILE = 90


@dataclass(frozen=True)
class Histogram:
    """A Prometheus histogram: `counts[i]` is how many observations were <= `bounds[i]` seconds (**cumulative**, as
    `_bucket{le=...}` says it); the last bound is +Inf. `sum` is the total of all observations in seconds (`_sum`)."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    def __post_init__(self) -> None:
        if len(self.bounds) != len(self.counts) or not self.bounds:
            raise ValueError(
                f"a histogram needs one count per bound: {len(self.bounds)} bounds, {len(self.counts)} counts"
            )
        if self.bounds[-1] != math.inf:
            raise ValueError(f"a histogram's last bound is +Inf, not {self.bounds[-1]}")
        if any(a >= b for a, b in zip(self.bounds, self.bounds[1:], strict=False)):
            raise ValueError(f"a histogram's bounds must ascend: {self.bounds}")
        if self.counts[0] < 0 or any(a > b for a, b in zip(self.counts, self.counts[1:], strict=False)):
            raise ValueError(f"a histogram's counts are cumulative and must not fall: {self.counts}")

    @property
    def total(self) -> int:
        return self.counts[-1]


@dataclass(frozen=True)
class Totals:
    """`requests` are all that ended in the window, `errors` those of them that failed."""

    requests: int
    errors: int = 0
    histograms: Mapping[MetricName, Histogram] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.errors <= self.requests:
            raise ValueError(f"errors are part of the requests: {self.errors} of {self.requests}")


@dataclass(frozen=True)
class MetricRule:
    """One entry of `spec.rollout.analysis.metrics` in numbers: `max` in seconds (a share for ErrorRate)."""

    name: MetricName
    percentile: int = DEFAULT_PERCENTILE
    max: float | None = None
    max_regression_percent: int | None = None
    confidence_percent: int = 95


def rule_of(metric: AnalysisMetric) -> MetricRule:
    return MetricRule(
        name=metric.name,
        percentile=DEFAULT_PERCENTILE if metric.percentile is None else metric.percentile,
        max=None if metric.max is None else float(metric.max),
        max_regression_percent=metric.max_regression_percent,
        confidence_percent=metric.confidence_percent,
    )
