"""How long to train between two checkpoints, when the spec leaves it to us (`checkpoint.interval: Auto`).

A checkpoint costs time; an interruption without notice costs, on average, half an interval. The sum of both is least
at √(2·δ·M): δ is what one checkpoint takes from training, M the mean time between interruptions (J. W. Young, "A first
order approximation to the optimum checkpoint interval", Communications of the ACM 17(9), 1974; J. T. Daly, Future
Generation Computer Systems 22(3), 2006, shows that the higher terms do not matter while δ is far below M).

Both are measured. δ includes the held-out evaluation that a checkpoint comes with, and not the upload behind training's
back. M is estimated from this run's own history: a Gamma prior of one interruption a day and node, and each attempt
that has ended. An agreed stop loses nothing but counts as well, because a node that gives notice may as well give none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from finetune_api.manifests import Fence

FIRST_SECONDS = 300.0
"""Until one checkpoint has been measured."""
LEAST_SECONDS = 30.0
MOST_SECONDS = 3600.0
COST_SHARE = 20
"""A checkpoint takes at most one part in so many of the time."""
PRIOR_SECONDS = 24 * 3600.0
"""Of one node, before anything is known."""


def young_daly(cost_seconds: float, mtbf_seconds: float) -> float:
    return math.sqrt(2.0 * cost_seconds * mtbf_seconds)


def mean_time_between(interruptions: int, seconds: float, *, nodes: int = 1) -> float:
    """After so many interruptions within `seconds` of this gang's history."""
    return (PRIOR_SECONDS / nodes + max(0.0, seconds)) / (1 + interruptions)


def history(fences: Sequence[Fence], now: datetime) -> tuple[int, float]:
    """(interruptions, seconds) of a run: each attempt after the first stands for the end of the one before."""
    if not fences:
        return 0, 0.0
    first = min(datetime.fromisoformat(fence.at) for fence in fences)
    return len(fences) - 1, max(0.0, (now - first).total_seconds())


@dataclass(frozen=True)
class Measured:
    cost_seconds: float
    """Training stood still so long, evaluation included."""
    commit_seconds: float
    """From the agreed step to the committed manifest: the next save cannot begin earlier."""


def automatic(measured: Measured | None, mtbf_seconds: float) -> float:
    """Seconds between two checkpoints."""
    if measured is None:
        return FIRST_SECONDS
    floor = max(LEAST_SECONDS, COST_SHARE * measured.cost_seconds, 2.0 * measured.commit_seconds)
    best = min(young_daly(max(measured.cost_seconds, 0.0), mtbf_seconds), MOST_SECONDS)
    return max(floor, best)
