"""Kubernetes Events are the difference between two statuses, so each is told once and only after it was stored."""

from __future__ import annotations

from finetune_api.status import AttemptStatus, FineTuneJobStatus, Outcome, Phase
from finetune_operator.core.names import Reason
from finetune_operator.core.types import EventNote

_WARN_REASONS = frozenset({Reason.NAME_CONFLICT, Reason.SPEC_DRIFT, Reason.BACKOFF, Reason.GATE_FAILED})
_QUIET = frozenset({Reason.PREEMPTION_NOTICED, Reason.RESUMING, Reason.RUNNING, Reason.BACKOFF})
"""Told by the attempt and preemption lines below, with more detail."""


def events(old: FineTuneJobStatus, new: FineTuneJobStatus) -> tuple[EventNote, ...]:
    notes: list[EventNote] = []
    known = {a.index: a for a in old.attempts}
    for attempt in new.attempts:
        notes += _attempt(known.get(attempt.index), attempt)
    seen = {p.attempt: p for p in old.preemptions}
    for record in new.preemptions:
        before = seen.get(record.attempt)
        if before is None:
            notes.append(
                EventNote(
                    "Warning", Reason.PREEMPTION_NOTICED, f"node {record.node}: {record.source}; saving and stopping"
                )
            )
        if record.checkpoint_committed_at and (before is None or not before.checkpoint_committed_at):
            notes.append(
                EventNote("Normal", Reason.CHECKPOINT_COMMITTED, f"step {record.checkpoint_step} before the preemption")
            )
        if record.resumed_at and (before is None or not before.resumed_at):
            notes.append(
                EventNote("Normal", Reason.RESUMED, f"after attempt {record.attempt}; lost steps: {record.lost_steps}")
            )
    if (old.phase, old.reason) != (new.phase, new.reason) and new.reason and new.reason not in _QUIET:
        bad = new.phase is Phase.FAILED or new.reason in _WARN_REASONS or _refused(new)
        notes.append(EventNote("Warning" if bad else "Normal", new.reason, new.message or str(new.phase)))
    return tuple(notes)


def _refused(status: FineTuneJobStatus) -> bool:
    return any(c.type == "Accepted" and c.status == "False" for c in status.conditions)


def _attempt(old: AttemptStatus | None, new: AttemptStatus) -> list[EventNote]:
    notes = []
    if new.running_at and (old is None or not old.running_at):
        notes.append(EventNote("Normal", Reason.ATTEMPT_STARTED, f"attempt {new.index}: all {new.nodes} pods run"))
    if new.finished_at and (old is None or not old.finished_at):
        good = new.outcome in (Outcome.SUCCEEDED, Outcome.SUSPENDED)
        notes.append(
            EventNote(
                "Normal" if good else "Warning",
                Reason.ATTEMPT_ENDED,
                f"attempt {new.index}: {new.outcome} at step {new.end_step or 0}: {new.message}",
            )
        )
    return notes
