"""The promise of the analysis, by simulation: rarely a rollback without a difference however often one looks, and a
30 % slow-down found within 500 samples. The measured table is in docs/design/canary-analysis.md."""

from __future__ import annotations

import pytest

from finetune_api.rollout import MetricName
from tests.core.serving.analysis.simulate import (
    PLANS,
    SHAPES,
    Outcome,
    Shape,
    error_outcomes,
    load_waves,
    outcomes,
    until,
)

pytestmark = pytest.mark.slow

FALSE_ALARMS = 0.05
DETECTION = 0.95
TYPICAL = ("TTFT 50 ms, sigma 0.3", "TTFT 150 ms, sigma 0.5", "E2E 4 s, sigma 0.5", "E2E two kinds",
           "TTFT 130 ms, in one bucket")  # fmt: skip


def taken_back(found: list[Outcome]) -> float:
    return sum(o.taken_back for o in found) / len(found)


def failed(found: list[Outcome]) -> float:
    return sum(o.failed_after is not None for o in found) / len(found)


@pytest.mark.parametrize("plan", PLANS)
def test_equal_latencies_are_rarely_taken_back_in_200_looks(plan: str) -> None:
    """The hardest case: no tolerance at all. 336 rollouts over the three plans."""
    shapes = [*SHAPES.values(), Shape(MetricName.TTFT, load_waves)]
    found = [o for seed, shape in enumerate(shapes) for o in outcomes(seed, 14, shape, PLANS[plan])]
    assert taken_back(found) <= FALSE_ALARMS


@pytest.mark.parametrize("plan", PLANS)
def test_equal_error_rates_are_rarely_taken_back_in_200_looks(plan: str) -> None:
    """675 rollouts over the three plans."""
    found = [o for share in (0.001, 0.01, 0.05) for o in error_outcomes(3, 75, PLANS[plan], share, share)]
    assert taken_back(found) <= FALSE_ALARMS


def test_a_cold_start_within_the_tolerance_is_forgiven() -> None:
    """The first five answers take three times as long."""
    shape = Shape(MetricName.TTFT, SHAPES["TTFT 150 ms, sigma 0.5"].draw, warm_up=5)
    assert taken_back(outcomes(5, 40, shape, PLANS["20/80"], tolerated=10)) <= FALSE_ALARMS


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("shape", TYPICAL)
@pytest.mark.parametrize("tolerated", [0, 10])
def test_a_slow_down_of_30_percent_is_found_within_500_samples(shape: str, plan: str, tolerated: int) -> None:
    found = outcomes(6, 60, SHAPES[shape], until(PLANS[plan], 500), tolerated=tolerated, slowdown=1.3, most=500)
    assert failed(found) >= DETECTION


def test_a_canary_exactly_as_slow_as_tolerated_is_seldom_taken_back_and_half_of_it_never() -> None:
    """The tolerance is read off buckets; at its very edge it is as sharp as they are."""
    shape = SHAPES["E2E 4 s, sigma 0.5"]
    assert taken_back(outcomes(9, 20, shape, PLANS["20/80"], tolerated=10, slowdown=1.1)) <= 0.15
    assert taken_back(outcomes(9, 20, shape, PLANS["20/80"], tolerated=10, slowdown=1.05)) == 0


@pytest.mark.parametrize(("plan", "power"), [("5/95", 0.95), ("20/80", 0.9), ("50/50", 0.75)])
def test_errors_of_5_percent_instead_of_1_are_found_within_500_samples(plan: str, power: float) -> None:
    found = error_outcomes(8, 100, until(PLANS[plan], 500), 0.01, 0.05, tolerated=10, most=500)
    assert failed(found) >= power
