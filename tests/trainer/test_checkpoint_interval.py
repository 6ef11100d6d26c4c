"""The automatic checkpoint interval: the least expected loss, within bounds, from what was measured."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from finetune_api.manifests import Fence
from finetune_trainer.checkpoint.interval import (
    FIRST_SECONDS,
    MOST_SECONDS,
    Measured,
    automatic,
    history,
    mean_time_between,
    young_daly,
)

DAY = 24 * 3600.0
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


def fence(attempt: int, hours_ago: float) -> Fence:
    at = (NOW - timedelta(hours=hours_ago)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Fence(attempt=attempt, resume_step=0, resume_attempt=0, at=at)


def expected_loss(interval: float, cost: float, mtbf: float) -> float:
    """The share of time lost to checkpoints and to repeated work."""
    return cost / interval + interval / (2 * mtbf)


@pytest.mark.parametrize(("cost", "mtbf"), [(0.5, DAY), (5.0, 3600.0), (60.0, 6 * 3600.0)])
def test_no_other_interval_loses_less(cost: float, mtbf: float) -> None:
    best = young_daly(cost, mtbf)
    least = expected_loss(best, cost, mtbf)
    assert all(expected_loss(best * factor, cost, mtbf) > least for factor in (0.5, 0.9, 1.1, 2.0))


def test_by_hand() -> None:
    assert young_daly(2.0, DAY) == pytest.approx(587.9, abs=0.1)
    assert automatic(Measured(2.0, 4.0), DAY) == pytest.approx(587.9, abs=0.1)


def test_before_anything_is_measured() -> None:
    assert automatic(None, DAY) == FIRST_SECONDS


@pytest.mark.parametrize(
    ("measured", "mtbf", "expected"),
    [
        (Measured(0.0, 0.1), DAY, 30.0),
        (Measured(0.001, 100.0), DAY, 200.0),
        (Measured(120.0, 120.0), 1800.0, 2400.0),
        (Measured(100.0, 100.0), 30 * DAY, MOST_SECONDS),
        (Measured(300.0, 400.0), 30 * DAY, 6000.0),
    ],
    ids=["never below 30 s", "two commits", "at most 5 % of the time", "at least every hour", "dear beats hourly"],
)
def test_bounds(measured: Measured, mtbf: float, expected: float) -> None:
    assert automatic(measured, mtbf) == pytest.approx(expected)


def test_interruptions_shorten_and_quiet_lengthens() -> None:
    assert mean_time_between(0, 0.0) == DAY
    assert mean_time_between(0, 0.0, nodes=4) == DAY / 4
    assert mean_time_between(3, 2 * 3600.0) == pytest.approx((DAY + 7200) / 4)
    assert mean_time_between(0, 10 * DAY) == 11 * DAY
    assert mean_time_between(100, 50 * 3600.0) == pytest.approx(1800, rel=0.5), "the data outweighs the prior"


def test_history_of_fences() -> None:
    assert history([], NOW) == (0, 0.0)
    assert history([fence(1, 2.0)], NOW) == (0, 7200.0)
    assert history([fence(1, 2.0), fence(2, 1.5), fence(3, 0.5)], NOW) == (2, 7200.0)
    assert history([fence(1, -1.0)], NOW) == (0, 0.0), "another node's clock is ahead"
