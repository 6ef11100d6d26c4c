"""What a judgement says: a decision for the rollout, numbers for the status, one sentence for the person on call."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from finetune_api.rollout import MetricName


class Decision(StrEnum):
    PASS = "Pass"  # noqa: S105 - a decision
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True)
class Verdict:
    """Values in seconds, for ErrorRate a share (0.01 is 1 %); None where there is nothing to measure."""

    metric: MetricName
    decision: Decision
    stable_value: float | None
    canary_value: float | None
    stable_samples: int
    canary_samples: int
    message: str
