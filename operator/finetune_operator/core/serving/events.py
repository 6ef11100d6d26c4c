"""Kubernetes Events of a ModelDeployment: the difference between two statuses, told once and after it was stored."""

from __future__ import annotations

from finetune_api.deployment_status import ModelDeploymentStatus, RolloutStatus
from finetune_operator.core.names import GROUP, Reason
from finetune_operator.core.types import EventNote

_GOOD = ("Promoted", "Superseded")


def events(old: ModelDeploymentStatus, new: ModelDeploymentStatus) -> tuple[EventNote, ...]:
    notes: list[EventNote] = []
    notes += _rollout(old.rollout, new.rollout)
    known = {(e.revision, e.started_at) for e in old.history}
    for entry in new.history:
        if (entry.revision, entry.started_at) not in known:
            kind = "Normal" if entry.outcome in _GOOD else "Warning"
            notes.append(EventNote(kind, entry.outcome, f"revision {entry.revision}: {entry.reason}: {entry.message}"))
    gone = {e.revision for e in old.draining} - {e.revision for e in new.draining}
    notes += [
        EventNote("Normal", Reason.DRAINED, f"revision {name} has no engine pods any more") for name in sorted(gone)
    ]
    notes += _annotations(old, new)
    before, after = _accepted(old), _accepted(new)
    if after is not None and (before is None or before[0] != after[0]):
        notes.append(EventNote("Warning", *after))
    return tuple(notes)


def _rollout(old: RolloutStatus | None, new: RolloutStatus | None) -> list[EventNote]:
    if new is None:
        return []
    name = new.revision or new.key
    notes = []
    same = old is not None and old.started_at == new.started_at and old.key == new.key
    if not same or old is None:
        return [EventNote("Normal", "RolloutStarted", f"model {new.model.uri}")]
    if old.stage != new.stage:
        kind = "Warning" if new.stage == "RollingBack" and new.outcome not in _GOOD else "Normal"
        notes.append(
            EventNote(kind, str(new.stage), f"revision {name}: {new.message}" if new.message else f"revision {name}")
        )
    if new.step_since and not old.step_since:
        notes.append(
            EventNote("Normal", Reason.WEIGHT_CHANGED, f"revision {name} has weight {new.weight} (step {new.step})")
        )
    return notes


def _annotations(old: ModelDeploymentStatus, new: ModelDeploymentStatus) -> list[EventNote]:
    notes = []
    for what in ("promote", "abort"):
        value = getattr(new.handled, what)
        if value is not None and value != getattr(old.handled, what):
            now = old.rollout
            current = f"{now.revision}/{now.step}" if now is not None else None
            if value != current:
                expected = f"it would have to be {current}" if current else "nothing is being rolled out"
                notes.append(
                    EventNote("Warning", Reason.ANNOTATION_IGNORED, f"{GROUP}/{what}={value} has no effect: {expected}")
                )
    kept = any(r.revision == new.handled.retry for r in new.rejected)
    if new.handled.retry is not None and new.handled.retry != old.handled.retry and not kept:
        known = any(r.revision == new.handled.retry for r in old.rejected)
        text = "is tried again" if known else "was not rejected; the annotation has no effect"
        notes.append(
            EventNote("Normal" if known else "Warning", Reason.RETRIED, f"revision {new.handled.retry} {text}")
        )
    return notes


def _accepted(status: ModelDeploymentStatus) -> tuple[str, str] | None:
    entry = next((c for c in status.conditions if c.type == "Accepted" and c.status == "False"), None)
    return None if entry is None else (entry.reason, entry.message)
