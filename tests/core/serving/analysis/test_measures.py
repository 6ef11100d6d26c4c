"""What counts as a sample, what the allowances forgive, and the words of each claim."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest

from finetune_api.rollout import MetricName
from finetune_operator.core.serving.analysis.measures import above_limit, measured, worse_than_stable
from finetune_operator.core.serving.analysis.sequential import NONE
from finetune_operator.core.serving.analysis.totals import Histogram, MetricRule, Totals

SURE = math.log(20)
ERRORS = MetricRule(MetricName.ERROR_RATE)
TTFT = MetricRule(MetricName.TTFT, percentile=90)
ITL = MetricRule(MetricName.INTER_TOKEN_LATENCY, percentile=90)
BOUNDS = (0.1, 0.25, 0.5, math.inf)
MIDDLES = (0.05, 0.17, 0.35, 1.0)


def totals(name: MetricName, *counts: int, requests: int | None = None) -> Totals:
    """`counts` per bucket."""
    histogram = Histogram(BOUNDS, tuple(accumulate(counts)), sum(n * m for n, m in zip(counts, MIDDLES, strict=True)))
    return Totals(sum(counts) if requests is None else requests, 0, {name: histogram})


def test_values_and_samples() -> None:
    errors = measured(ERRORS, Totals(200, 3))
    assert (errors.value, errors.samples, errors.text) == (0.015, 200, "1.5 % (3 of 200)")
    ttft = measured(TTFT, totals(MetricName.TTFT, 50, 50, 0, 0))
    assert (ttft.value, ttft.samples, ttft.text) == (pytest.approx(0.22), 100, "220 ms (n=100)")
    assert ttft.subject == "TTFT p90"


def test_the_tokens_of_a_request_are_one_sample() -> None:
    assert measured(ITL, totals(MetricName.INTER_TOKEN_LATENCY, 900, 100, 0, 0, requests=20)).samples == 20


@pytest.mark.parametrize("rule", [ERRORS, TTFT])
def test_nothing_measured_yet(rule: MetricRule) -> None:
    nothing = measured(rule, Totals(0))
    assert nothing.value is None
    assert nothing.samples == 0
    assert "yet" in nothing.text


def test_a_limit_on_errors() -> None:
    assert above_limit(ERRORS, 0.01, Totals(200, 12)).log_evidence > SURE
    assert above_limit(ERRORS, 0.01, Totals(200, 3)).log_evidence < SURE
    assert above_limit(ERRORS, 0.01, Totals(200, 12)).text == "above the limit of 1 %"


def test_a_limit_inside_a_bucket_counts_only_what_is_surely_above() -> None:
    """All lie between 100 and 250 ms, perhaps all above 200 ms, perhaps none."""
    assert above_limit(TTFT, 0.2, totals(MetricName.TTFT, 0, 100, 0, 0)).log_evidence == NONE
    claim = above_limit(TTFT, 0.2, totals(MetricName.TTFT, 0, 70, 30, 0))
    assert claim.log_evidence > SURE
    assert claim.detail == "; 30 % of its requests took longer than 250 ms"


def test_a_limit_beyond_the_last_bound_is_never_surely_broken() -> None:
    claim = above_limit(TTFT, 0.7, totals(MetricName.TTFT, 0, 0, 0, 100))
    assert claim.log_evidence == NONE
    assert claim.detail == ""


def test_small_shares_of_errors_are_forgiven_whatever_the_numbers() -> None:
    stable = Totals(10_000_000, 100)
    assert worse_than_stable(ERRORS, 0, stable, Totals(1_000_000, 500)).log_evidence == NONE
    assert worse_than_stable(ERRORS, 0, stable, Totals(1_000_000, 2000)).log_evidence > SURE


def test_more_errors_within_the_tolerance_are_no_evidence() -> None:
    stable, canary = Totals(10_000, 500), Totals(1000, 90)
    assert worse_than_stable(ERRORS, 0, stable, canary).log_evidence > SURE
    assert worse_than_stable(ERRORS, 100, stable, canary).log_evidence == NONE
    assert worse_than_stable(ERRORS, 10, stable, canary).text == "failing more often than stable by more than 10 %"


def test_a_better_percentile_is_no_regression_by_that_percentile() -> None:
    """Fewer very fast answers, but the slow end that the rule names is gone."""
    stable = totals(MetricName.TTFT, 300, 400, 200, 100)
    canary = totals(MetricName.TTFT, 10, 290, 0, 0)
    assert worse_than_stable(TTFT, 0, stable, canary).log_evidence == NONE


def test_tokens_are_no_more_certain_than_their_requests() -> None:
    name = MetricName.INTER_TOKEN_LATENCY
    stable = totals(name, 9000, 1000, 0, 0, requests=100)
    one_slow_request = totals(name, 4400, 600, 0, 0, requests=50)
    assert worse_than_stable(ITL, 0, stable, one_slow_request).log_evidence < SURE


def test_the_detail_names_where_they_differ() -> None:
    stable, canary = totals(MetricName.TTFT, 500, 450, 50, 0), totals(MetricName.TTFT, 50, 110, 40, 0)
    claim = worse_than_stable(TTFT, 10, stable, canary)
    assert claim.text == "slower by more than 10 %"
    assert claim.detail == "; 75 % of its requests and 50 % of stable's took longer than 100 ms"


def test_the_detail_names_the_means_where_nothing_else_differs() -> None:
    def at(seconds: float) -> Totals:
        return Totals(500, 0, {MetricName.TTFT: Histogram(BOUNDS, (0, 500, 500, 500), 500 * seconds)})

    claim = worse_than_stable(TTFT, 0, at(0.12), at(0.16))
    assert claim.log_evidence > SURE
    assert claim.detail == "; on average 160 ms against 120 ms"
