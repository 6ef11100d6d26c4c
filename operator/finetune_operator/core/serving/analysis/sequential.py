"""Evidence that may be looked at every 15 seconds: e-values from totals.

An *e-value* is a number that, while the canary is no worse, is at least 20 with a probability of at most 1/20 -- not
once, but *ever*, however often one looks (Ville's inequality). A fixed-level test repeated at every look raises a
false alarm in every fourth rollout after 20 looks; this does not.

Two samples. Ask of every request, given only its score (which latency bucket, or failed or not): which revision
answered it? While the canary is no worse, scores tell nothing, and the best guess is its share of the traffic. The
e-value is how much better a model that expects higher scores from the canary guesses: a likelihood ratio of revision
labels, a product over requests and therefore a function of totals. A model is the logistic curve
P(canary | score) = sigma(a + d score); the slopes `SLOPES` are averaged, for an average of e-values is one again. For
two scores, 0 and 1, this is the e-variable of Turner, Ly & Grünwald (2024) for 2x2 tables; with more it is the
classifier two-sample test of Pandeva et al. (2024), the labels' side as in Lindon & Malek (2022).

One sample. The binomial likelihood ratio against a limit, over the same slopes (Robbins 1970).

Counts may be fractions: an observation split between scores (or worth 0.3 of a failure) has evidence no larger, on
average, than one that falls at random into one of them (Jensen).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

SLOPES = (0.2, 0.4, 0.8, 1.6, 3.2)
"""Log odds ratios between the highest and the lowest score: from hardly visible to 25 times the odds."""

NONE = -math.inf
"""Logarithm of an e-value of 0: speaks against the canary being worse, or nothing was measured."""


def log_mean(logs: Sequence[float]) -> float:
    """log(mean(exp(x))) without overflow."""
    top = max(logs)
    return top + math.log(sum([math.exp(x - top) for x in logs]) / len(logs))


def two_samples(scores: Sequence[float], canary: Sequence[float], stable: Sequence[float]) -> float:
    """Log e-value that the canary's scores (0 to 1, ascending) are higher. `canary[i]`, `stable[i]`: how many
    observations have `scores[i]`."""
    rows = [(s, c, c + t) for s, c, t in zip(scores, canary, stable, strict=True) if c + t > 0]
    of_canary = sum(canary)
    total = of_canary + sum(stable)
    if not 0 < of_canary < total:
        return NONE
    mean = sum([n * s for s, _, n in rows]) / total
    if sum([c * s for s, c, _ in rows]) <= of_canary * mean:
        return NONE
    share = of_canary / total
    flat = of_canary * math.log(share) + (total - of_canary) * math.log1p(-share)
    centred = [(s - mean, c, n) for s, c, n in rows]
    return log_mean([_log_likelihood(centred, slope, of_canary, share) - flat for slope in SLOPES])


def _log_likelihood(rows: list[tuple[float, float, float]], slope: float, of_canary: float, share: float) -> float:
    """Of the labels under the curve with this slope. `rows`: (score - mean, the canary's, all). The curve's height is
    fitted by one Newton step from the one that passes through the share at the mean score; any height is valid, a
    fitted one is sharper."""
    exp, log1p = math.exp, math.log1p
    height = math.log(share / (1 - share))
    expected = spread = 0.0
    for s, _, n in rows:
        p = 1 / (1 + exp(-height - slope * s))
        expected += n * p
        spread += n * p * (1 - p)
    height += (of_canary - expected) / spread
    result = 0.0
    for s, c, n in rows:
        log_odds = height + slope * s
        result += c * log_odds - n * log1p(exp(log_odds))
    return result


def one_sample(limit: float, above: float, total: float) -> float:
    """Log e-value that more than the share `limit` of all observations are among the `above`."""
    if above <= limit * total or limit >= 1:
        return NONE
    if limit <= 0:
        return math.inf
    return log_mean([slope * above - total * math.log1p(limit * math.expm1(slope)) for slope in SLOPES])
