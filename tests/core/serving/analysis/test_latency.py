"""Which differences between two histograms are evidence, and which are not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from finetune_operator.core.serving.analysis.latency import WEIGHTS, Slower, slower
from finetune_operator.core.serving.analysis.sequential import NONE
from finetune_operator.core.serving.analysis.totals import Histogram
from tests.core.serving.analysis.simulate import ITL, TTFT

SURE = math.log(20)


def histogram(seconds: np.ndarray, bounds: tuple[float, ...] = TTFT) -> Histogram:
    counts = np.bincount(np.searchsorted(bounds, seconds), minlength=len(bounds)).cumsum().tolist()
    return Histogram(bounds, tuple(counts), float(seconds.sum()))


def drawn(seed: int, n: int, median: float = 0.15, sigma: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(math.log(median), sigma, n)


def test_the_weights_make_an_average() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1)


def test_the_same_latencies_are_no_evidence_and_slower_ones_are() -> None:
    stable = histogram(drawn(1, 2000))
    assert slower(stable, histogram(drawn(2, 500)), 1.0, 90).log_evidence < SURE / 2
    assert slower(stable, histogram(1.3 * drawn(2, 500)), 1.0, 90).log_evidence > SURE
    assert slower(stable, histogram(drawn(2, 500) / 1.3), 1.0, 90).log_evidence < 0


def test_a_tolerance_takes_evidence_away() -> None:
    stable, canary = histogram(drawn(1, 2000)), histogram(1.3 * drawn(2, 500))
    found = [slower(stable, canary, factor, 90).log_evidence for factor in (1.0, 1.1, 1.2, 1.5)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0


def test_a_slow_end_alone_is_found_and_named() -> None:
    """Every fifteenth request of the canary hangs for two seconds."""
    seconds = drawn(2, 600)
    seconds[::15] += 2
    found = slower(histogram(drawn(1, 2000)), histogram(seconds), 1.1, 95)
    assert found.log_evidence > SURE
    assert found.bound == 1.0


def test_a_slow_down_within_one_bucket_shows_in_the_mean() -> None:
    """12 and 15.6 ms per token both lie between 10 and 25 ms."""
    stable, canary = (histogram(drawn(s, 500, m, 0.03), ITL) for s, m in ((1, 0.012), (2, 0.0156)))
    assert stable.counts == canary.counts
    found = slower(stable, canary, 1.1, 90)
    assert found.log_evidence > SURE
    assert found.bound is None


def test_a_sum_that_outliers_made_is_no_evidence() -> None:
    """Three of a thousand took a minute: the sum grows by 90 %, the requests are the same."""
    seconds = drawn(2, 1000, 0.15, 0.05)
    seconds[:3] = 60
    assert slower(histogram(drawn(1, 1000, 0.15, 0.05)), histogram(seconds), 1.0, 90).log_evidence < SURE


def test_observations_that_count_less_are_less_evidence() -> None:
    stable, canary = histogram(drawn(1, 2000)), histogram(1.3 * drawn(2, 500))
    whole = slower(stable, canary, 1.0, 90).log_evidence
    tenth = slower(stable, canary, 1.0, 90, units=(0.1, 0.1)).log_evidence
    assert 0.05 * whole < tenth < 0.2 * whole


def test_nothing_seen_is_no_evidence() -> None:
    empty = Histogram(TTFT, (0,) * len(TTFT), 0.0)
    assert slower(empty, empty, 1.1, 90) == Slower(NONE, None)
    assert slower(empty, histogram(drawn(1, 50)), 1.1, 90).log_evidence == NONE


def test_bounds_that_only_one_side_has_do_not_matter() -> None:
    fewer = tuple(b for b in TTFT if b != 0.25)
    stable, canary = histogram(drawn(1, 2000), fewer), histogram(1.3 * drawn(2, 500))
    assert slower(stable, canary, 1.0, 90).log_evidence > SURE
