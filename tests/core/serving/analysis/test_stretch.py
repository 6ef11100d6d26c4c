"""Stretching keeps every observation, moves them only up, and is close to the truth for smooth latencies."""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from finetune_operator.core.serving.analysis.buckets import per_bucket
from finetune_operator.core.serving.analysis.stretch import stretched
from finetune_operator.core.serving.analysis.totals import Histogram
from tests.core.serving.analysis.simulate import E2E, TTFT

COUNTS = st.lists(st.integers(0, 500), min_size=len(TTFT), max_size=len(TTFT))


def histogram(bounds: tuple[float, ...], counts: list[int]) -> Histogram:
    return Histogram(bounds, tuple(accumulate(counts)), 0.0)


@given(COUNTS, st.floats(1, 11))
@example([3] * len(TTFT), math.nextafter(1, 2))
def test_nothing_is_lost_and_nothing_gets_faster(counts: list[int], factor: float) -> None:
    before = histogram(TTFT, counts)
    after = stretched(before, factor)
    assert min(after) >= 0
    assert sum(after) == pytest.approx(before.total)
    assert all(upto <= n + 1e-6 for upto, n in zip(accumulate(after), before.counts, strict=True))


@given(COUNTS)
def test_a_factor_of_one_changes_nothing(counts: list[int]) -> None:
    assert stretched(histogram(TTFT, counts), 1.0) == counts


@pytest.mark.parametrize(("bounds", "median", "sigma"), [(TTFT, 0.15, 0.5), (TTFT, 0.05, 0.3), (E2E, 4.0, 0.5)])
def test_ten_percent_are_found_within_two_points_at_every_bound(
    bounds: tuple[float, ...], median: float, sigma: float
) -> None:
    seconds = np.random.default_rng(1).lognormal(math.log(median), sigma, 100_000)
    before, truth = (
        histogram(bounds, np.bincount(np.searchsorted(bounds, x), minlength=len(bounds)).tolist())
        for x in (seconds, 1.1 * seconds)
    )
    for found, true in zip(accumulate(stretched(before, 1.1)), truth.counts, strict=True):
        assert abs(found - true) <= 0.02 * 100_000


def test_without_finite_bounds_there_is_nothing_to_stretch() -> None:
    h = Histogram((math.inf,), (5,), 1.0)
    assert stretched(h, 1.1) == per_bucket(h)
