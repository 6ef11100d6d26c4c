"""Writing down how an attempt ended and deciding the next: one status write carries both."""

from __future__ import annotations

from finetune_api.runkey import frozen_digest, spec_digest
from finetune_api.status import (
    MAX_ATTEMPTS,
    MAX_PREEMPTIONS,
    AttemptStatus,
    ConditionType,
    Outcome,
    Phase,
    PreemptionStatus,
)
from finetune_operator.core import times
from finetune_operator.core.draft import Draft
from finetune_operator.core.names import Reason, attempt_job
from finetune_operator.core.outcome import Verdict
from finetune_operator.core.progress import account_loss, open_preemption, set_preemption
from finetune_operator.core.retry import COUNTED, Again, GiveUp, decide


def open_attempt(d: Draft, again: Again | None = None) -> None:
    """Decide on the next attempt. An intent: its Job follows in the pass that has read this back."""
    where = d.spec.resources
    first = not d.status.attempts
    below = d.status.resolved.highest_fence if d.status.resolved is not None else 0
    index = below + 1 if first else d.status.attempts[-1].index + 1
    attempt = AttemptStatus(
        index=index,
        job=attempt_job(d.name, index),
        generation=d.generation,
        spec_digest=spec_digest(d.spec),
        nodes=where.nodes,
        gpus_per_node=where.gpus_per_node,
        processes_per_node=where.processes_per_node or max(1, where.gpus_per_node),
        micro_batch_size=again.micro_batch_size if again is not None else None,
        excluded_nodes=list(again.excluded_nodes) if again is not None else [],
        created_at=d.stamp,
    )
    d.update(attempts=[*d.status.attempts, attempt][-MAX_ATTEMPTS:], gpus=attempt.nodes * attempt.gpus_per_node)
    if first:
        d.phase(Phase.QUEUED, Reason.QUEUED, f"creating Job {attempt.job}")
    else:
        last, note = d.status.attempts[-2], again.note if again is not None else ""
        d.phase(Phase.RECOVERING, Reason.RESUMING, f"attempt {last.index} ended: {last.message or last.outcome}{note}")
    d.intent = True


def finish(d: Draft, attempt: AttemptStatus, verdict: Verdict, *, finished_at: str) -> None:
    """Close the attempt and, where nothing has to be waited for, open the next in the same write."""
    attempt = attempt.model_copy(
        update={
            "finished_at": finished_at,
            "released_at": d.stamp,
            "outcome": verdict.outcome,
            "exit_code": verdict.exit_code,
            "node": verdict.node,
            "message": verdict.message[:1024],
        }
    )
    d.set_attempt(attempt)
    _count(d, attempt, verdict)
    _close_preemption(d, attempt, verdict)
    d.condition(ConditionType.RUNNING, False, str(verdict.outcome), verdict.message)
    d.intent = True
    if verdict.outcome is Outcome.SUCCEEDED:
        _complete_progress(d, attempt)
        return
    follow(d)


def follow(d: Draft) -> None:
    """After an attempt that did not complete: give up, wait, or go on. A pure function of status and time."""
    attempt = d.status.attempts[-1]
    decision = decide(d.spec, d.status)
    if isinstance(decision, GiveUp):
        account_loss(d, attempt, attempt.committed_step or attempt.start_step or 0)
        d.phase(Phase.FAILED, decision.reason, decision.message)
        d.condition(ConditionType.FAILED, True, decision.reason, decision.message)
        d.intent = True
        return
    if d.spec.suspend:
        step = d.status.checkpoint.step if d.status.checkpoint else 0
        d.phase(Phase.SUSPENDED, Reason.SUSPENDED, f"suspended; it resumes from step {step}")
        return
    if drifted(d):
        return
    wait = d.due_in(attempt.finished_at or attempt.created_at, decision.delay) if decision.delay else 0.0
    if wait > 0:
        d.phase(
            Phase.RECOVERING,
            Reason.BACKOFF,
            f"attempt {attempt.index} ended with {attempt.outcome} ({attempt.message}); "
            f"attempt {attempt.index + 1} follows {decision.delay:.0f} s after its end{decision.note}",
        )
        return
    open_attempt(d, decision)


def drifted(d: Draft) -> bool:
    """A frozen field differs from what the run began with (past the API server's own rule): nothing new is started."""
    resolved = d.status.resolved
    if resolved is None or resolved.frozen_digest == frozen_digest(d.spec):
        return False
    message = (
        "model.uri, data, method, training, checkpoint.uri or runId differ from what this run began with; "
        "restore them, or create a new FineTuneJob"
    )
    d.phase(Phase.PENDING, Reason.SPEC_DRIFT, message)
    d.condition(ConditionType.ACCEPTED, False, Reason.SPEC_DRIFT, message)
    return True


def _count(d: Draft, attempt: AttemptStatus, verdict: Verdict) -> None:
    totals = d.status.totals
    gpus = attempt.nodes * attempt.gpus_per_node
    ran = times.seconds_between(attempt.running_at, attempt.finished_at)
    queued = times.seconds_between(attempt.started_at, attempt.running_at or attempt.finished_at)
    counted = verdict.outcome in COUNTED
    waste = totals.wasted_gpu_seconds
    d.update(
        restarts=d.status.restarts + counted,
        totals=totals.model_copy(
            update={
                "attempts": totals.attempts + 1,
                "restarts": totals.restarts + counted,
                "preemptions": totals.preemptions + verdict.disruption,
                "gpu_seconds": totals.gpu_seconds + round(ran * gpus),
                "wasted_gpu_seconds": waste.model_copy(
                    update={
                        "queueing": waste.queueing
                        + (round(queued * gpus) if verdict.outcome is Outcome.START_TIMEOUT else 0)
                    }
                ),
            }
        ),
    )


def _close_preemption(d: Draft, attempt: AttemptStatus, verdict: Verdict) -> None:
    record = open_preemption(d, attempt.index)
    if record is None and verdict.disruption:
        record = PreemptionStatus(
            attempt=attempt.index,
            node=verdict.node,
            source=verdict.source or str(verdict.outcome),
            noticed_at=attempt.finished_at or d.stamp,
        )
        checkpoint = d.status.checkpoint
        if checkpoint is not None and checkpoint.attempt == attempt.index and attempt.exit_code is not None:
            record = record.model_copy(
                update={"checkpoint_committed_at": checkpoint.at, "checkpoint_step": checkpoint.step}
            )
        d.update(preemptions=[*d.status.preemptions, record][-MAX_PREEMPTIONS:])
    if record is not None:
        set_preemption(d, record.model_copy(update={"pods_released_at": d.stamp}))


def _complete_progress(d: Draft, attempt: AttemptStatus) -> None:
    progress = d.status.progress
    step = attempt.end_step
    if progress is None or step is None:
        return
    total = max(progress.total_steps, step)
    d.update(
        progress=progress.model_copy(
            update={
                "step": step,
                "total_steps": total,
                "summary": f"{step}/{total} {100 * step // max(1, total)}%",
                "stage": "Done",
                "eta": None,
                "eta_seconds": None,
                "updated_at": d.stamp,
            }
        )
    )
