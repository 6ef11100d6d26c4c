"""Percentiles as Prometheus has them, and what can be said for sure."""

from __future__ import annotations

import math

import pytest

from finetune_operator.core.serving.analysis.buckets import common, per_bucket, percentile, surely_above
from finetune_operator.core.serving.analysis.totals import Histogram

H = Histogram((0.1, 0.2, 0.5, math.inf), (10, 30, 40, 42), 9.0)


def test_counts_per_bucket() -> None:
    assert per_bucket(H) == [10, 20, 10, 2]


@pytest.mark.parametrize(
    ("p", "seconds"),
    [
        (10, 0.042),  # rank 4.2 of 10 in the first bucket, which begins at 0
        (50, 0.155),  # rank 21: 11 of 20 in (0.1, 0.2]
        (90, 0.434),  # rank 37.8: 7.8 of 10 in (0.2, 0.5]
        (99, 0.5),  # in the bucket without an end: the last finite bound
        (100, 0.5),
    ],
)
def test_percentiles_are_those_of_histogram_quantile(p: float, seconds: float) -> None:
    assert percentile(H, p) == pytest.approx(seconds)


def test_empty_buckets_are_skipped() -> None:
    assert percentile(Histogram((0.1, 0.2, 0.5, math.inf), (0, 0, 4, 4), 1.0), 50) == pytest.approx(0.35)


def test_no_percentile_without_observations_or_bounds() -> None:
    assert percentile(Histogram((0.1, math.inf), (0, 0), 0.0), 50) is None
    assert percentile(Histogram((math.inf,), (3,), 1.0), 50) is None


@pytest.mark.parametrize("p", [0, 101])
def test_percentiles_out_of_range_are_refused(p: float) -> None:
    with pytest.raises(ValueError, match=str(p)):
        percentile(H, p)


@pytest.mark.parametrize(("seconds", "above"), [(0.05, 32), (0.1, 32), (0.11, 12), (0.5, 2), (0.6, 0)])
def test_only_what_is_longer_wherever_it_lies_in_its_bucket_is_surely_above(seconds: float, above: int) -> None:
    assert surely_above(H, seconds) == above


def test_two_engine_versions_are_compared_at_the_bounds_they_share() -> None:
    other = Histogram((0.05, 0.1, 0.5, math.inf), (1, 2, 3, 4), 2.0)
    a, b = common(H, other)
    assert a == Histogram((0.1, 0.5, math.inf), (10, 40, 42), 9.0)
    assert b == Histogram((0.1, 0.5, math.inf), (2, 3, 4), 2.0)
    assert common(H, H) == (H, H)
