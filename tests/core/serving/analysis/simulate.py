"""Simulated rollouts: requests drawn from a latency shape, sent to the canary with a fixed probability, seen through
the bucket bounds that vLLM really has (vllm/v1/metrics/loggers.py)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from finetune_api.rollout import MetricName
from finetune_operator.core.serving.analysis.judge import judge
from finetune_operator.core.serving.analysis.totals import Histogram, MetricRule, Totals
from finetune_operator.core.serving.analysis.verdict import Decision

INF = math.inf
# fmt: off
TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
        160.0, 640.0, 2560.0, INF)
ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, INF)
E2E = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
       1920.0, 7680.0, INF)
# fmt: on
BOUNDS = {MetricName.TTFT: TTFT, MetricName.INTER_TOKEN_LATENCY: ITL, MetricName.E2E_LATENCY: E2E}

Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]
MIN_SAMPLES = 50
HELD_LOOKS = 120
"""maxInconclusive 30m at one look every 15 s."""


def lognormal(median: float, sigma: float) -> Draw:
    return lambda rng, size: rng.lognormal(math.log(median), sigma, size)


def exponential(mean: float) -> Draw:
    return lambda rng, size: rng.exponential(mean, size)


def two_kinds(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float64]:
    """Four short answers for each long one."""
    short, long = rng.lognormal(math.log(1.2), 0.25, size), rng.lognormal(math.log(8), 0.4, size)
    return np.where(rng.random(size) < 0.8, short, long)


def load_waves(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float64]:
    """The load doubles latencies and lets go again, for both revisions alike: neighbours in time are alike."""
    waves = 1 + 0.5 * (1 + np.sin(np.linspace(0, 12 * np.pi, size[0]) + rng.uniform(0, 6)))
    return waves[:, None] * rng.lognormal(math.log(0.15), 0.3, size)


@dataclass(frozen=True)
class Shape:
    metric: MetricName
    draw: Draw
    warm_up: int = 0
    """The canary's first requests that take three times as long."""


SHAPES = {
    "TTFT 50 ms, sigma 0.3": Shape(MetricName.TTFT, lognormal(0.05, 0.3)),
    "TTFT 150 ms, sigma 0.5": Shape(MetricName.TTFT, lognormal(0.15, 0.5)),
    "TTFT 300 ms, sigma 0.8": Shape(MetricName.TTFT, lognormal(0.3, 0.8)),
    "E2E 4 s, sigma 0.5": Shape(MetricName.E2E_LATENCY, lognormal(4, 0.5)),
    "E2E exponential 6 s": Shape(MetricName.E2E_LATENCY, exponential(6)),
    "E2E two kinds": Shape(MetricName.E2E_LATENCY, two_kinds),
    "TTFT 130 ms, in one bucket": Shape(MetricName.TTFT, lognormal(0.13, 0.08)),
}


@dataclass(frozen=True)
class Plan:
    weight: float
    """Share of the requests that go to the canary."""
    requests: int
    """Per look, of both."""
    looks: int


PLANS = {"5/95": Plan(0.05, 200, 200), "20/80": Plan(0.2, 60, 200), "50/50": Plan(0.5, 24, 200)}


def latency_looks(
    rng: np.random.Generator, shape: Shape, plan: Plan, slowdown: float = 1.0
) -> Iterator[tuple[Totals, Totals]]:
    """(stable, canary) at every look."""
    size = (plan.looks, plan.requests)
    to_canary = rng.random(size) < plan.weight
    seconds = shape.draw(rng, size)
    seconds = np.where(to_canary, slowdown * seconds, seconds)
    if shape.warm_up:
        early = to_canary & (to_canary.ravel().cumsum().reshape(size) <= shape.warm_up)
        seconds = np.where(early, 3 * seconds, seconds)
    bounds = BOUNDS[shape.metric]
    sides = [_seen(shape.metric, bounds, seconds, mask) for mask in (~to_canary, to_canary)]
    return zip(*sides, strict=True)


def _seen(
    metric: MetricName, bounds: tuple[float, ...], seconds: NDArray[np.float64], mask: NDArray[np.bool_]
) -> Iterator[Totals]:
    looks, width = len(seconds), len(bounds)
    cell = np.searchsorted(bounds, seconds) + width * np.arange(looks)[:, None]
    counts = np.bincount(cell[mask], minlength=looks * width).reshape(looks, width).cumsum(0).cumsum(1)
    sums = np.where(mask, seconds, 0).sum(1).cumsum()
    for row, total in zip(counts.tolist(), sums.tolist(), strict=True):
        yield Totals(row[-1], 0, {metric: Histogram(bounds, tuple(row), total)})


def error_looks(rng: np.random.Generator, plan: Plan, stable: float, canary: float) -> Iterator[tuple[Totals, Totals]]:
    """(stable, canary) at every look; `stable` and `canary` are shares of requests that fail."""
    size = (plan.looks, plan.requests)
    to_canary = rng.random(size) < plan.weight
    failed = rng.random(size) < np.where(to_canary, canary, stable)
    rows = [x.sum(1).cumsum().tolist() for x in (~to_canary, ~to_canary & failed, to_canary, to_canary & failed)]
    for n, e, m, f in zip(*rows, strict=True):
        yield Totals(n, e), Totals(m, f)


@dataclass(frozen=True)
class Outcome:
    """How one rollout went."""

    failed_after: int | None
    """Canary samples at the first Fail."""
    longest_hold: int
    """Looks in a row that were Inconclusive although there were enough samples."""

    @property
    def taken_back(self) -> bool:
        return self.failed_after is not None or self.longest_hold >= HELD_LOOKS


def watch(rule: MetricRule, looks: Iterator[tuple[Totals, Totals]], most: float = INF) -> Outcome:
    """Judges at every look until a Fail or until the canary has had more than `most` samples."""
    hold = longest = 0
    for stable, canary in looks:
        if canary.requests > most:
            break
        verdict = judge(rule, stable, canary, MIN_SAMPLES)
        if verdict.decision is Decision.FAIL:
            return Outcome(verdict.canary_samples, longest)
        enough = min(verdict.canary_samples, verdict.stable_samples) >= MIN_SAMPLES
        hold = hold + 1 if enough and verdict.decision is Decision.INCONCLUSIVE else 0
        longest = max(longest, hold)
    return Outcome(None, longest)


def latency_rule(metric: MetricName, tolerated: int, percentile: int = 90) -> MetricRule:
    return MetricRule(metric, percentile=percentile, max_regression_percent=tolerated)


def outcomes(
    seed: int, rollouts: int, shape: Shape, plan: Plan, *, tolerated: int = 0, slowdown: float = 1.0, most: float = INF
) -> list[Outcome]:
    rng = np.random.default_rng(seed)
    rule = latency_rule(shape.metric, tolerated)
    return [watch(rule, latency_looks(rng, shape, plan, slowdown), most) for _ in range(rollouts)]


def error_outcomes(
    seed: int, rollouts: int, plan: Plan, stable: float, canary: float, *, tolerated: int = 0, most: float = INF
) -> list[Outcome]:
    rng = np.random.default_rng(seed)
    rule = MetricRule(MetricName.ERROR_RATE, max_regression_percent=tolerated)
    return [watch(rule, error_looks(rng, plan, stable, canary), most) for _ in range(rollouts)]


def until(plan: Plan, samples: int) -> Plan:
    """The same traffic, long enough for that many canary samples."""
    return replace(plan, looks=math.ceil(1.3 * samples / (plan.weight * plan.requests)))
