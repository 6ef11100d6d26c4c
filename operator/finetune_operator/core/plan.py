"""`plan()`: everything the operator ever does about a FineTuneJob, as a pure function of what was observed.

There is no phase machine. Each pass asks in this order: may the spec be used at all, did preflight resolve it, is an
attempt open, did training complete, is anything left to clean up. State is what the cluster shows plus the few facts
in status. A decision that cannot be derived again is stored first (`intent`), alone; acting on it belongs to the pass
that has read it back. A crash at any point is then harmless.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.status import ConditionType, FineTuneJobStatus, Outcome, Phase
from finetune_operator.core.answer import answer
from finetune_operator.core.attempt import step_attempt
from finetune_operator.core.builders.publish import missing_image
from finetune_operator.core.builders.runconfig import runs_uri
from finetune_operator.core.draft import Draft
from finetune_operator.core.events import events
from finetune_operator.core.memory import Memory
from finetune_operator.core.names import Reason
from finetune_operator.core.objects import is_deleting
from finetune_operator.core.preflight import step_preflight
from finetune_operator.core.publish import step_publish, succeed
from finetune_operator.core.record import drifted, follow, open_attempt
from finetune_operator.core.retention import step_retention
from finetune_operator.core.types import Config, Observed, Plan

_CONFLICT_RETRY = 30.0
_PARSED = Memory(FineTuneJobSpec.model_validate)


def plan(observed: Observed, now: datetime, config: Config) -> Plan:
    """Total, deterministic, idempotent: the same observation gives the same plan, a carried-out plan gives none."""
    if is_deleting(observed.job):
        return Plan()
    before = parse_status(observed.job)
    try:
        spec = parse_spec(observed.job)
    except ValidationError as error:
        d = Draft(observed.job, before, now, config, observed, _placeholder())
        _refuse(d, Reason.INVALID_SPEC, in_words(error))
        return _answer(d, before)
    d = Draft(observed.job, before, now, config, observed, spec)
    _advance(d)
    if not d.need_fresh:
        step_retention(d)
    return _answer(d, before)


def parse_spec(job: Any) -> FineTuneJobSpec:
    """Raises ValidationError. A job's passes follow each other closely, and its spec rarely changes between them."""
    return _PARSED(str(job["metadata"].get("uid") or ""), job.get("spec") or {})


def parse_status(job: Any) -> FineTuneJobStatus:
    return FineTuneJobStatus.model_validate(job.get("status") or {})


@lru_cache(maxsize=1)
def _placeholder() -> FineTuneJobSpec:
    return FineTuneJobSpec.model_validate(
        {
            "model": {"uri": "file:///unset"},
            "data": {"train": [{"uri": "file:///unset"}]},
            "method": {"type": "LoRA"},
        }
    )


def in_words(error: ValidationError) -> str:
    first = error.errors()[0]
    if not first["loc"]:  # what does not go together names its fields itself
        return str(first["msg"]).removeprefix("Value error, ")
    where = ".".join(str(part) for part in first["loc"])
    return f"spec.{where}: {first['msg']} (got {str(first.get('input'))[:80]!r})"


def _advance(d: Draft) -> None:
    if not runs_uri(d.job, d.spec, d.config).strip("/").count(":"):
        _refuse(
            d,
            Reason.INVALID_SPEC,
            "spec.checkpoint.uri: not set, and this installation has no store of its own (chart value artifacts.uri); "
            "set it to the place where checkpoints and the run directory may be kept",
        )
        return
    if d.status.phase is Phase.SUCCEEDED:
        return
    if d.status.resolved is None:
        missing = missing_image(d.spec, d.config)
        if missing is not None:
            _refuse(d, Reason.NO_SERVING_IMAGE, missing)
            return
        if _edited_after_refusal(d):
            d.update(preflight=None)
            d.condition(ConditionType.FAILED, False, Reason.PREFLIGHT, "the spec was edited")
        if not step_preflight(d):
            return
        if d.status.output is not None:
            succeed(d, Reason.ALREADY_PUBLISHED, f"this run is already published at {d.status.output.uri}")
        elif d.spec.suspend:
            d.phase(Phase.SUSPENDED, Reason.SUSPENDED, "accepted; nothing has been started")
        else:
            open_attempt(d)
        return
    if not d.status.attempts:
        if d.spec.suspend:
            d.phase(Phase.SUSPENDED, Reason.SUSPENDED, "accepted; nothing has been started")
        elif not drifted(d):
            open_attempt(d)
        return
    last = d.status.attempts[-1]
    if last.finished_at is None:
        step_attempt(d)
    if d.intent or d.need_fresh:
        return
    last = d.status.attempts[-1]
    if last.outcome is Outcome.SUCCEEDED:
        step_publish(d)
    elif last.finished_at is not None and d.status.phase is not Phase.FAILED:
        follow(d)


def _edited_after_refusal(d: Draft) -> bool:
    last = d.status.preflight
    return d.status.phase is Phase.FAILED and (last is None or last.generation != d.generation)


def _refuse(d: Draft, reason: str, message: str) -> None:
    d.phase(Phase.PENDING if d.status.attempts == [] else d.status.phase or Phase.PENDING, reason, message)
    d.condition(ConditionType.ACCEPTED, False, reason, message)


def _conflicts(d: Draft) -> None:
    """Objects in our way are named, never touched; creation is tried again every 30 s."""
    if d.observed.conflicts:
        message = "; ".join(d.observed.conflicts[key] for key in sorted(d.observed.conflicts))
        d.phase(d.status.phase or Phase.PENDING, Reason.NAME_CONFLICT, message)
        d.condition(ConditionType.ACCEPTED, False, Reason.NAME_CONFLICT, message)
        d.requeues.append(_CONFLICT_RETRY)
        return
    accepted = next((c for c in d.status.conditions if c.type == ConditionType.ACCEPTED), None)
    if accepted is not None and accepted.reason == Reason.NAME_CONFLICT:
        d.condition(ConditionType.ACCEPTED, True, Reason.ACCEPTED, "the conflict is gone")


def _kstatus(d: Draft) -> None:
    """Ready, Reconciling and Stalled as kstatus reads batch Jobs: Ready once the first attempt runs."""
    failed = d.status.phase is Phase.FAILED
    ran = any(a.running_at for a in d.status.attempts) or d.status.phase is Phase.SUCCEEDED
    reason = d.status.reason or Reason.PREFLIGHT
    d.condition(ConditionType.READY, ran and not failed, reason)
    d.condition(ConditionType.RECONCILING, not ran and not failed, reason)
    d.condition(ConditionType.STALLED, failed, reason)


def _answer(d: Draft, before: FineTuneJobStatus) -> Plan:
    if d.need_fresh:
        return Plan(need_fresh=True)
    _conflicts(d)
    _kstatus(d)
    return answer(d, before, events, probe=d.probe)
