"""Totals that cannot be are refused in words; a rule of the API becomes numbers."""

from __future__ import annotations

import math

import pytest

from finetune_api.rollout import AnalysisMetric, MetricName
from finetune_operator.core.serving.analysis.totals import Histogram, MetricRule, Totals, rule_of


@pytest.mark.parametrize(
    ("bounds", "counts", "words"),
    [
        ((0.1, math.inf), (1,), "one count per bound"),
        ((), (), "one count per bound"),
        ((0.1, 0.2), (1, 2), "last bound is"),
        ((0.2, 0.1, math.inf), (1, 2, 3), "must ascend"),
        ((0.1, math.inf), (3, 2), "must not fall"),
        ((0.1, math.inf), (-1, 2), "must not fall"),
    ],
)
def test_an_impossible_histogram_is_refused(bounds: tuple[float, ...], counts: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Histogram(bounds, counts, 0.0)


def test_errors_are_part_of_the_requests() -> None:
    with pytest.raises(ValueError, match="2 of 1"):
        Totals(requests=1, errors=2)


def test_the_total_is_the_last_count() -> None:
    assert Histogram((0.1, math.inf), (3, 5), 1.0).total == 5


def test_a_rule_takes_its_numbers_from_the_api() -> None:
    metric = AnalysisMetric(name=MetricName.TTFT, percentile=95, max="0.5", max_regression_percent=10)
    assert rule_of(metric) == MetricRule(MetricName.TTFT, 95, 0.5, 10, 95)
    assert rule_of(AnalysisMetric(name=MetricName.ERROR_RATE, max="0.01")) == MetricRule(
        MetricName.ERROR_RATE, max=0.01
    )
