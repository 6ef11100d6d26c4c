"""From single looks at engines to what a revision did in a window.

An engine counts since it started. What happened between two looks is the difference, and after a restart all that the
engine counted since. Our own synthetic completions are in those counters as well; each is taken out again, with the
time it took, so that a revision with little traffic does not look fast because of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from finetune_api.rollout import MetricName
from finetune_operator.core.serving.analysis.totals import Histogram, Totals
from finetune_operator.kube.engine_metrics import Buckets, EngineSample

_OF_OURS = (MetricName.E2E_LATENCY, MetricName.TTFT, MetricName.QUEUE_TIME)
"""What a completion of one token leaves an observation in."""
_NOTHING = EngineSample(0, 0, 0, 0, 0, 0, 0, 0.0)


@dataclass
class Owed:
    """Our own requests that ended, and are still to be taken out of what an engine counts."""

    answered: list[float] = field(default_factory=list)
    """Seconds that each took."""
    refused: int = 0
    given_up: int = 0


@dataclass
class Change:
    """What one engine did between two looks. Histograms are per bucket."""

    served: int = 0
    aborted: int = 0
    failed: int = 0
    refused: int = 0
    tokens: int = 0
    histograms: dict[MetricName, dict[float, float]] = field(default_factory=dict)
    sums: dict[MetricName, float] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """A failed completion is counted by the engine, by the HTTP server, or by both."""
        return max(self.failed, self.refused)

    @property
    def requests(self) -> int:
        return self.served + self.aborted + self.errors

    @property
    def moved(self) -> bool:
        """The engine brought something forth: a token, or a request's own end."""
        return self.served > 0 or self.tokens > 0


def restarted(before: EngineSample, after: EngineSample) -> bool:
    if before.started != after.started:
        return True
    pairs = ((before.served, after.served), (before.tokens, after.tokens), (before.failed, after.failed))
    return any(old > new for old, new in pairs)


def change(before: EngineSample, after: EngineSample) -> Change:
    if restarted(before, after):
        before = _NOTHING
    out = Change(
        served=max(0, after.served - before.served),
        aborted=max(0, after.aborted - before.aborted),
        failed=max(0, after.failed - before.failed),
        refused=max(0, after.refused - before.refused),
        tokens=max(0, after.tokens - before.tokens),
    )
    for name, now in after.histograms.items():
        then = before.histograms.get(name, Buckets({}, 0.0))
        out.histograms[name] = {le: max(0.0, n - then.counts.get(le, 0.0)) for le, n in now.counts.items()}
        out.sums[name] = max(0.0, now.sum - then.sum)
    return out


def take_out(owed: Owed, found: Change) -> None:
    """Removes our own requests from `found`, as far as they are in it already; the rest stays owed."""
    while owed.answered and found.served > 0:
        seconds = owed.answered.pop(0)
        found.served -= 1
        found.tokens = max(0, found.tokens - 1)
        for name in _OF_OURS:
            _remove(found, name, 0.0 if name is MetricName.QUEUE_TIME else seconds)
    counted = min(owed.refused, found.errors)
    found.refused, found.failed = max(0, found.refused - counted), max(0, found.failed - counted)
    owed.refused -= counted
    ended = min(owed.given_up, found.aborted)
    found.aborted -= ended
    owed.given_up -= ended


def _remove(found: Change, name: MetricName, seconds: float) -> None:
    """One observation: from its bucket, else from the nearest below, for the engine sees less time than the caller."""
    counts = found.histograms.get(name, {})
    filled = sorted(le for le, n in counts.items() if n >= 1)
    if not filled:
        return
    own = next((le for le in sorted(counts) if seconds <= le), math.inf)
    below = [le for le in filled if le <= own]
    counts[below[-1] if below else filled[0]] -= 1
    found.sums[name] = max(0.0, found.sums[name] - seconds)


class Sums:
    """One revision's, over its engines and the looks of a window."""

    def __init__(self) -> None:
        self._requests = 0
        self._errors = 0
        self._counts: defaultdict[MetricName, defaultdict[float, float]] = defaultdict(lambda: defaultdict(float))
        self._seconds: defaultdict[MetricName, float] = defaultdict(float)

    def add(self, found: Change) -> None:
        self._requests += found.requests
        self._errors += found.errors
        for name, counts in found.histograms.items():
            for le, n in counts.items():
                self._counts[name][le] += n
            self._seconds[name] += found.sums[name]

    def totals(self) -> Totals:
        histograms = {name: _histogram(counts, self._seconds[name]) for name, counts in self._counts.items()}
        return Totals(self._requests, self._errors, histograms)


def _histogram(counts: Mapping[float, float], seconds: float) -> Histogram:
    bounds = tuple(sorted(counts))
    cumulative: list[int] = []
    total = 0.0
    for le in bounds:
        total += counts[le]
        cumulative.append(round(total))
    return Histogram(bounds, tuple(cumulative), seconds)
