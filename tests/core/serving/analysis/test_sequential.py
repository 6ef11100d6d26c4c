"""E-values: at most 1 on average without a difference, whatever is looked at when; large with one."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from finetune_operator.core.serving.analysis.sequential import NONE, log_mean, one_sample, two_samples

BINARY = (0.0, 1.0)


def test_log_mean_survives_large_exponents() -> None:
    assert log_mean([1000.0, 1000.0]) == pytest.approx(1000)
    assert log_mean([0.0, math.log(3)]) == pytest.approx(math.log(2))


@pytest.mark.parametrize("limit", [0.001, 0.05, 0.1, 0.5])
def test_one_sample_is_an_e_value_at_the_limit(limit: float) -> None:
    """Exactly: the sum over all outcomes of probability times e-value."""
    n = 60
    mean = sum(
        math.comb(n, k) * limit**k * (1 - limit) ** (n - k) * math.exp(one_sample(limit, k, n)) for k in range(n + 1)
    )
    assert mean <= 1


@pytest.mark.parametrize(("rate", "share"), [(0.02, 0.1), (0.02, 0.5), (0.1, 0.2), (0.5, 0.5)])
def test_two_samples_is_an_e_value_without_a_difference(rate: float, share: float) -> None:
    """Over all tables of 40 requests, each of them the canary's with the same probability."""
    n = 40
    mean = 0.0
    for m in range(n + 1):
        for a, b in product(range(m + 1), range(n - m + 1)):
            log_p = _log_binomial(n, m, share) + _log_binomial(m, a, rate) + _log_binomial(n - m, b, rate)
            if log_p > -25:
                mean += math.exp(log_p + two_samples(BINARY, (m - a, a), (n - m - b, b)))
    assert mean <= 1


def _log_binomial(n: int, k: int, p: float) -> float:
    return math.log(math.comb(n, k)) + k * math.log(p) + (n - k) * math.log1p(-p)


def test_more_than_two_scores_are_an_e_value_too() -> None:
    rng = np.random.default_rng(4)
    scores = (0.0, 0.3, 0.6, 1.0)
    tables = rng.multinomial(200, np.outer([0.3, 0.7], [0.4, 0.3, 0.2, 0.1]).ravel(), size=4000)
    assert np.mean([math.exp(two_samples(scores, t[:4].tolist(), t[4:].tolist())) for t in tables]) <= 1


def test_evidence_grows_with_the_difference_and_with_the_samples() -> None:
    some = two_samples(BINARY, (90, 10), (950, 50))
    assert some < two_samples(BINARY, (80, 20), (950, 50)) < two_samples(BINARY, (800, 200), (9500, 500))
    assert one_sample(0.05, 10, 100) < one_sample(0.05, 20, 100) < one_sample(0.05, 200, 1000)


@pytest.mark.parametrize(
    ("canary", "stable"), [((95, 5), (950, 50)), ((100, 0), (950, 50)), ((0, 0), (10, 1)), ((10, 1), (0, 0))]
)
def test_no_evidence_where_the_canary_is_no_worse_or_nothing_was_seen(
    canary: tuple[int, int], stable: tuple[int, int]
) -> None:
    assert two_samples(BINARY, canary, stable) == NONE


def test_a_limit_of_zero_is_broken_by_one_and_a_limit_of_one_never() -> None:
    assert one_sample(0.0, 1, 100) == math.inf
    assert one_sample(0.0, 0, 100) == NONE
    assert one_sample(1.0, 100, 100) == NONE


def test_huge_totals_do_not_overflow() -> None:
    assert two_samples(BINARY, (10**8, 10**7), (10**9, 10**6)) > 1e6
