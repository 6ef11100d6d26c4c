"""What one revision did by one rule: its value, its sample size, and how strongly it speaks for being worse.

Two kinds: shares of failed requests, and latencies. Requests are the unit of evidence in both. An engine reports one
inter-token latency per token; the tokens of one request share its fate, so that they count together as one request,
spread over the buckets. Counted singly they would claim a certainty that is not there.
"""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.rollout import MetricName
from finetune_operator.core.serving.analysis.buckets import percentile, surely_above
from finetune_operator.core.serving.analysis.latency import slower
from finetune_operator.core.serving.analysis.sequential import NONE, one_sample, two_samples
from finetune_operator.core.serving.analysis.totals import Histogram, MetricRule, Totals
from finetune_operator.core.serving.analysis.words import duration, percent

ERROR_ALLOWANCE = 0.001
"""Share of requests that may fail beyond what the rule tolerates before the canary counts as worse: against millions
of requests 0.002 % is significantly more than 0.001 %, and nobody wants to be woken for it."""

CLEARLY_BETTER = 0.95
"""Ratio of percentiles below which they differ by more than reading them off buckets may be wrong."""


@dataclass(frozen=True)
class Measured:
    subject: str
    value: float | None
    samples: int
    text: str


@dataclass(frozen=True)
class Claim:
    """That the canary is worse in some way: `text` completes "the canary is ..."."""

    text: str
    log_evidence: float
    detail: str = ""


def measured(rule: MetricRule, totals: Totals) -> Measured:
    if rule.name is MetricName.ERROR_RATE:
        share = totals.errors / totals.requests if totals.requests else None
        words = "has no requests yet" if share is None else f"{percent(share)} ({totals.errors} of {totals.requests})"
        return Measured(rule.name.value, share, totals.requests, words)
    histogram = totals.histograms.get(rule.name)
    value = None if histogram is None else percentile(histogram, rule.percentile)
    samples = 0 if histogram is None else min(histogram.total, totals.requests) if _many(rule) else histogram.total
    words = "has no samples yet" if value is None else f"{duration(value)} (n={samples})"
    return Measured(f"{rule.name.value} p{rule.percentile}", value, samples, words)


def above_limit(rule: MetricRule, limit: float, canary: Totals) -> Claim:
    if rule.name is MetricName.ERROR_RATE:
        return Claim(f"above the limit of {percent(limit)}", one_sample(limit, canary.errors, canary.requests))
    histogram, unit = canary.histograms[rule.name], _unit(rule, canary)
    above = surely_above(histogram, limit)
    evidence = one_sample(1 - rule.percentile / 100, unit * above, unit * histogram.total)
    bound = min(b for b in histogram.bounds if b >= limit)
    share = percent(above / histogram.total)
    detail = f"; {share} of its {_noun(rule)} took longer than {duration(bound)}" if above else ""
    return Claim(f"above the limit of {duration(limit)}", evidence, detail)


def worse_than_stable(rule: MetricRule, tolerated_percent: int, stable: Totals, canary: Totals) -> Claim:
    factor = 1 + tolerated_percent / 100
    by = f" by more than {tolerated_percent} %" if tolerated_percent else ""
    if rule.name is MetricName.ERROR_RATE:
        return Claim(f"failing more often than stable{by}", _more_errors(stable, canary, factor))
    old, new = stable.histograms[rule.name], canary.histograms[rule.name]
    if _better(old, new, rule.percentile):
        return Claim(f"slower{by}", NONE)
    found = slower(old, new, factor, rule.percentile, (_unit(rule, stable), _unit(rule, canary)))
    if found.bound is None:
        detail = f"; on average {duration(new.sum / new.total)} against {duration(old.sum / old.total)}"
    else:
        shares = [percent(surely_above(h, found.bound) / h.total) for h in (new, old)]
        detail = (
            f"; {shares[0]} of its {_noun(rule)} and {shares[1]} of stable's took longer than {duration(found.bound)}"
        )
    return Claim(f"slower{by}", found.log_evidence, detail)


def _more_errors(stable: Totals, canary: Totals, factor: float) -> float:
    """Log e-value that the canary's share of errors exceeds `factor` times stable's plus the allowance. Both enter as
    fractions: an error of the canary counts as 1/factor of one, a success of stable as a little of one."""
    errors = canary.errors / factor
    expected = stable.errors + ERROR_ALLOWANCE / factor * (stable.requests - stable.errors)
    return two_samples((0.0, 1.0), (canary.requests - errors, errors), (stable.requests - expected, expected))


def _better(stable: Histogram, canary: Histogram, at: int) -> bool:
    """The rule's own percentile got better: then more requests above some other bound are no regression by it."""
    old, new = percentile(stable, at), percentile(canary, at)
    return old is not None and new is not None and new < CLEARLY_BETTER * old


def _many(rule: MetricRule) -> bool:
    """Many observations per request."""
    return rule.name is MetricName.INTER_TOKEN_LATENCY


def _unit(rule: MetricRule, totals: Totals) -> float:
    """Requests per observation."""
    total = totals.histograms[rule.name].total
    return min(1.0, totals.requests / total) if _many(rule) and total else 1.0


def _noun(rule: MetricRule) -> str:
    return "tokens" if _many(rule) else "requests"
