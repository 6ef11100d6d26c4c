"""Whether an ended attempt is followed by another, and when."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.duration import parse_duration
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.status import AttemptStatus, FineTuneJobStatus, Outcome
from finetune_api.training import OnOOM
from finetune_operator.core.names import Reason
from finetune_operator.core.outcome import FINAL_OUTCOMES

COUNTED = frozenset(
    {Outcome.OUT_OF_MEMORY, Outcome.STORAGE, Outcome.DEVICE, Outcome.HANG, Outcome.ERROR, Outcome.START_TIMEOUT}
)
"""Outcomes that use up maxRestarts. Disruptions, suspension and deletion by others do not."""
_SELF_ENDED = frozenset({Outcome.SUSPENDED})


@dataclass(frozen=True)
class Again:
    delay: float
    """Seconds after the attempt's end."""
    micro_batch_size: int | None = None
    excluded_nodes: tuple[str, ...] = ()
    note: str = ""
    """What changes, in words for the message of the attempt before."""


@dataclass(frozen=True)
class GiveUp:
    reason: str
    message: str


def backoff(spec: FineTuneJobSpec, failures: int) -> float:
    """Exponential, `initial * 2^(failures - 1)`, at most `max`. Seconds."""
    initial, limit = parse_duration(spec.retry.backoff.initial), parse_duration(spec.retry.backoff.max)
    return float(min(limit, initial * 2 ** min(max(0, failures - 1), 30)))


def _without_progress(attempts: list[AttemptStatus]) -> int:
    """Attempts at the end of the list in a row that committed no new step."""
    count = 0
    for attempt in reversed(attempts):
        if attempt.outcome in _SELF_ENDED:
            continue
        if (attempt.committed_step or 0) > (attempt.start_step or 0):
            break
        count += 1
    return count


def decide(spec: FineTuneJobSpec, status: FineTuneJobStatus) -> Again | GiveUp:
    """What follows the newest attempt, which has an outcome. `status.restarts` already counts it."""
    last = status.attempts[-1]
    if last.outcome in FINAL_OUTCOMES:
        return GiveUp(str(last.outcome), last.message or "")
    if last.outcome is Outcome.DEADLINE:
        return GiveUp(Reason.DEADLINE_EXCEEDED, last.message or "")
    if last.outcome in COUNTED and status.restarts > spec.retry.max_restarts:
        return GiveUp(
            Reason.MAX_RESTARTS,
            f"{status.restarts} failures, retry.maxRestarts is {spec.retry.max_restarts}; "
            f"the last was {last.outcome}: {last.message}",
        )
    stuck = _without_progress(status.attempts)
    if stuck >= spec.retry.no_progress_limit and last.outcome not in _SELF_ENDED:
        return GiveUp(
            Reason.NO_PROGRESS,
            f"{stuck} attempts in a row committed no new step (retry.noProgressLimit is "
            f"{spec.retry.no_progress_limit}); the last ended with {last.outcome}: {last.message}",
        )
    micro, excluded, note = last.micro_batch_size, tuple(last.excluded_nodes), ""
    if last.outcome is Outcome.OUT_OF_MEMORY:
        known = micro or (status.resolved.micro_batch_size if status.resolved else None)
        if spec.is_custom:  # its batch is in its arguments
            return GiveUp(str(Outcome.OUT_OF_MEMORY), last.message or "")
        if spec.training.on_oom is OnOOM.FAIL or known == 1:
            return GiveUp(str(Outcome.OUT_OF_MEMORY), f"{last.message} (micro-batch {known or 'unknown'})")
        if known is not None:
            micro = known // 2
            note = f"; it goes on with micro-batch {micro} instead of {known}, the global batch stays as it is"
    if last.outcome is Outcome.DEVICE and last.node and last.node not in excluded:
        excluded = (*excluded, last.node)[-16:]
    delay = backoff(spec, status.restarts) if last.outcome in COUNTED else 0.0
    return Again(delay, micro, excluded, note)
