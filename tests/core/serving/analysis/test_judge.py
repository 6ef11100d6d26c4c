"""Decisions and the sentences that explain them."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest

from finetune_api.rollout import MetricName
from finetune_operator.core.serving.analysis.judge import judge
from finetune_operator.core.serving.analysis.totals import Histogram, MetricRule, Totals
from finetune_operator.core.serving.analysis.verdict import Decision, Verdict

BOUNDS = (0.1, 0.25, 0.5, 1.0, math.inf)
MIDDLES = (0.05, 0.17, 0.35, 0.7, 2.0)
RULE = MetricRule(MetricName.TTFT, percentile=95, max_regression_percent=10)
ERRORS = MetricRule(MetricName.ERROR_RATE, max_regression_percent=10)


def ttft(*counts: int) -> Totals:
    histogram = Histogram(BOUNDS, tuple(accumulate(counts)), sum(n * m for n, m in zip(counts, MIDDLES, strict=True)))
    return Totals(sum(counts), 0, {MetricName.TTFT: histogram})


STABLE = ttft(100, 700, 140, 0, 0)
SLOW = ttft(10, 120, 90, 10, 0)


def test_a_slower_canary_fails_in_words() -> None:
    assert judge(RULE, STABLE, SLOW, 50) == Verdict(
        metric=MetricName.TTFT,
        decision=Decision.FAIL,
        stable_value=pytest.approx(0.4161, abs=1e-4),
        canary_value=pytest.approx(0.4958, abs=1e-4),
        stable_samples=940,
        canary_samples=230,
        message="TTFT p95: canary 496 ms (n=230), stable 416 ms (n=940): slower by more than 10 % with 95 % confidence; "
        "43.5 % of its requests and 14.9 % of stable's took longer than 250 ms",
    )


def test_an_equal_canary_passes_and_no_more_is_claimed_than_is_known() -> None:
    verdict = judge(RULE, STABLE, ttft(25, 170, 35, 0, 0), 50)
    assert verdict.decision is Decision.PASS
    assert verdict.message.endswith("(n=940): not shown to be slower by more than 10 %")


def test_suspicion_waits_for_more_requests() -> None:
    """The same shares with more requests decide it."""
    verdict = judge(ERRORS, Totals(940, 9), Totals(100, 5), 50)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert verdict.message == (
        "ErrorRate: canary 5 % (5 of 100), stable 0.957 % (9 of 940): looks failing more often than stable by more "
        "than 10 %, with less than 95 % confidence: more requests will tell"
    )
    assert judge(ERRORS, Totals(940, 9), Totals(300, 15), 50).decision is Decision.FAIL


@pytest.mark.parametrize(
    ("stable", "canary", "words"),
    [
        (Totals(940, 9), Totals(12, 12), "needs 50 requests, has 12 of the canary"),
        (Totals(40), Totals(230), "needs 50 requests, has 40 of stable"),
        (Totals(0), Totals(0), "has no requests yet: needs 50 requests, has 0 of the canary and 0 of stable"),
    ],
)
def test_too_few_samples_decide_nothing(stable: Totals, canary: Totals, words: str) -> None:
    verdict = judge(ERRORS, stable, canary, 50)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert verdict.message.endswith(words)


def test_a_missing_metric_waits() -> None:
    verdict = judge(RULE, STABLE, Totals(230), 50)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert verdict.canary_value is None
    assert "canary has no samples yet" in verdict.message


def test_without_a_stable_revision_only_limits_decide() -> None:
    limited = MetricRule(MetricName.TTFT, percentile=95, max=0.25, max_regression_percent=10)
    assert judge(RULE, None, SLOW, 50).message.endswith("(n=230): there is no stable revision to compare with")
    assert judge(RULE, None, SLOW, 50).decision is Decision.PASS
    assert judge(limited, None, SLOW, 50).decision is Decision.FAIL
    assert judge(limited, None, SLOW, 500).decision is Decision.INCONCLUSIVE


def test_a_limit_alone_needs_no_samples_of_stable() -> None:
    limited = MetricRule(MetricName.ERROR_RATE, max=0.01)
    verdict = judge(limited, Totals(0), Totals(230, 20), 50)
    assert verdict.decision is Decision.FAIL
    assert verdict.message.endswith("above the limit of 1 % with 95 % confidence")


def test_of_two_limits_the_worse_one_speaks() -> None:
    both = MetricRule(MetricName.TTFT, percentile=95, max=1.0, max_regression_percent=10)
    verdict = judge(both, STABLE, SLOW, 50)
    assert verdict.decision is Decision.FAIL
    assert "slower by more than 10 %" in verdict.message
    assert "limit" not in verdict.message
    assert "not shown to be above the limit of 1 s; not shown to be slower" in judge(both, STABLE, STABLE, 50).message


def test_less_confidence_needs_less_evidence() -> None:
    stable, canary = Totals(940, 9), Totals(100, 5)
    decisions = [
        judge(
            MetricRule(MetricName.ERROR_RATE, max_regression_percent=10, confidence_percent=c), stable, canary, 50
        ).decision
        for c in (50, 95, 99)
    ]
    assert decisions == [Decision.FAIL, Decision.INCONCLUSIVE, Decision.PASS]


def test_a_stable_that_answers_nothing_is_no_measure() -> None:
    """What it brought forth while it still answered counts; the canary's own samples are needed all the same."""
    verdict = judge(RULE, Totals(12), SLOW, 50, silent="its pod a hangs")
    assert verdict.decision is Decision.PASS
    assert verdict.message.endswith(
        "stable has no samples yet: stable answers nothing to compare with: its pod a hangs"
    )
    assert judge(RULE, STABLE, SLOW, 50, silent="its pod a hangs").decision is Decision.FAIL
    assert judge(RULE, Totals(12), ttft(9, 0, 0, 0, 0), 50, silent="it hangs").decision is Decision.INCONCLUSIVE


def test_a_silent_stable_does_not_lift_the_limit() -> None:
    rule = MetricRule(MetricName.ERROR_RATE, max=0.01, max_regression_percent=10)
    assert judge(rule, Totals(3), Totals(200, 40), 50, silent="it hangs").decision is Decision.FAIL
    verdict = judge(rule, Totals(3), Totals(200), 50, silent="it hangs")
    assert verdict.decision is Decision.PASS
    assert verdict.message.endswith(
        "not shown to be above the limit of 1 %; stable answers nothing to compare with: it hangs"
    )
