"""What the gang says of itself, folded into status at a bounded rate.

Every status write is an event for every watcher, so progress alone is written at most every
`progress_write_seconds`; milestones (first step, a stop request, a committed checkpoint during a stop) are written at
once.
"""

from __future__ import annotations

from finetune_api.duration import format_seconds
from finetune_api.exitcodes import ExitCode
from finetune_api.reports import CheckpointReport, LastWords, Progress
from finetune_api.status import (
    AttemptStatus,
    CheckpointStatus,
    ConditionType,
    PreemptionStatus,
    ProgressStatus,
    Resolved,
)
from finetune_operator.core import times
from finetune_operator.core.draft import Draft
from finetune_operator.core.names import Reason


def fold_sample(d: Draft, attempt: AttemptStatus) -> AttemptStatus:
    """Update progress, checkpoint, resolved sizes and preemptions from the newest poll. Returns the attempt."""
    sample = d.observed.sample
    if sample is None or sample.attempt != attempt.index:
        return attempt
    progress = sample.progress
    if progress is None or progress.attempt != attempt.index:
        return attempt
    changes: dict[str, object] = {}
    if progress.running_at and attempt.resumed_at is None:
        changes |= {"resumed_at": progress.running_at, "start_step": progress.start_step}
    milestone = bool(changes) or _stop_milestone(d, attempt, progress)
    last = d.status.progress
    if not milestone and last is not None and d.elapsed(last.updated_at) < d.config.progress_write_seconds:
        d.due_in(last.updated_at, d.config.progress_write_seconds)
        return attempt
    if last is not None and not milestone and not _newer(last, progress, sample.failing_since is not None):
        return attempt
    changes["end_step"] = max(progress.step, attempt.end_step or 0)
    fold_checkpoint(d, progress.checkpoint)
    if progress.checkpoint is not None and progress.checkpoint.attempt == attempt.index:
        changes["committed_step"] = progress.checkpoint.step
    attempt = attempt.model_copy(update=changes)
    d.set_attempt(attempt)
    since = times.stamp(sample.failing_since) if sample.failing_since else None
    d.update(progress=progress_status(d, progress, since), resolved=_resolved(d.status.resolved, progress))
    if "resumed_at" in changes:
        note_resumed(d, attempt)
    note_stop(d, attempt, progress.stop_requested_at, progress.checkpoint)
    return attempt


def _stop_milestone(d: Draft, attempt: AttemptStatus, progress: Progress) -> bool:
    record = open_preemption(d, attempt.index)
    if record is None or progress.stop_requested_at is None:
        return False
    if record.checkpoint_requested_at is None:
        return True
    return record.checkpoint_committed_at is None and _committed_since(
        progress.checkpoint, record.checkpoint_requested_at
    )


def _newer(last: ProgressStatus, progress: Progress, failing: bool) -> bool:
    return (
        last.step != progress.step
        or last.stage != progress.stage.value
        or last.total_steps != progress.total_steps
        or (last.unreachable_since is not None) != failing
    )


def progress_status(d: Draft, progress: Progress, unreachable_since: str | None) -> ProgressStatus:
    total = progress.total_steps
    eta = progress.eta_seconds
    return ProgressStatus(
        summary=f"{progress.step}/{total} {100 * progress.step // total}%" if total else progress.stage.value,
        step=progress.step,
        total_steps=total,
        epoch=round(progress.epoch, 3),
        loss=progress.loss,
        eval_loss=progress.eval_loss,
        tokens_per_second=progress.tokens_per_second,
        eta_seconds=round(eta) if eta is not None else None,
        eta=format_seconds(eta) if eta is not None else None,
        loss_text=f"{progress.loss:.4g}" if progress.loss is not None else None,
        stage=progress.stage.value,
        skipped_steps=progress.skipped_steps or None,
        slowest_rank=progress.slowest_rank,
        unreachable_since=unreachable_since,
        updated_at=d.stamp,
    )


def _resolved(resolved: Resolved | None, progress: Progress) -> Resolved | None:
    if resolved is None or progress.global_batch_size is None:
        return resolved
    return resolved.model_copy(
        update={
            "world_size": progress.world_size,
            "global_batch_size": progress.global_batch_size,
            "micro_batch_size": progress.micro_batch_size,
            "gradient_accumulation": progress.gradient_accumulation,
            "strategy": progress.strategy or resolved.strategy,
            "strategy_why": progress.strategy_why or resolved.strategy_why,
            "attention": progress.attention or resolved.attention,
            "checkpoint_interval": format_seconds(progress.checkpoint_interval_seconds)
            if progress.checkpoint_interval_seconds is not None
            else resolved.checkpoint_interval,
        }
    )


def fold_checkpoint(d: Draft, report: CheckpointReport | None) -> None:
    """Keep the newest committed checkpoint."""
    if report is None:
        return
    known = d.status.checkpoint
    if known is not None and (known.attempt, known.step) >= (report.attempt, report.step):
        return
    d.update(checkpoint=CheckpointStatus.model_validate(report.model_dump()))
    d.condition(
        ConditionType.CHECKPOINTED, True, Reason.CHECKPOINT_COMMITTED, "a valid checkpoint is in the run directory"
    )


def open_preemption(d: Draft, attempt: int) -> PreemptionStatus | None:
    return next((p for p in d.status.preemptions if p.attempt == attempt), None)


def set_preemption(d: Draft, record: PreemptionStatus) -> None:
    d.update(preemptions=[record if p.attempt == record.attempt else p for p in d.status.preemptions])


def _committed_since(report: CheckpointReport | None, moment: str) -> bool:
    return report is not None and times.parse(report.at) >= times.parse(moment)


def note_stop(
    d: Draft,
    attempt: AttemptStatus,
    requested_at: str | None,
    checkpoint: CheckpointReport | None,
    *,
    saved: bool = False,
) -> None:
    """Put the evidence of a stop into the attempt's preemption record, if it has one.

    A commit from before the request was a periodic one, unless the gang ended saying that its last step is `saved`.
    """
    record = open_preemption(d, attempt.index)
    if record is None:
        return
    if requested_at is not None and record.checkpoint_requested_at is None:
        record = record.model_copy(update={"checkpoint_requested_at": requested_at})
    requested = record.checkpoint_requested_at
    unanswered = record.checkpoint_committed_at is None
    answers = saved or (requested is not None and _committed_since(checkpoint, requested))
    if checkpoint is not None and checkpoint.attempt == attempt.index and unanswered and answers:
        record = record.model_copy(
            update={"checkpoint_committed_at": checkpoint.at, "checkpoint_step": checkpoint.step}
        )
    set_preemption(d, record)


def note_resumed(d: Draft, attempt: AttemptStatus) -> None:
    """The step this attempt really resumed from decides what its predecessor lost."""
    start = attempt.start_step or 0
    before = next((a for a in d.status.attempts if a.index == attempt.index - 1), None)
    if before is None:
        return
    account_loss(d, before, start)
    record = open_preemption(d, before.index)
    if record is not None and record.resumed_at is None:
        lost = max(0, (before.end_step or start) - start)
        set_preemption(d, record.model_copy(update={"resumed_at": attempt.resumed_at, "lost_steps": lost}))


def account_loss(d: Draft, attempt: AttemptStatus, resumed_step: int) -> None:
    """Record the steps an attempt lost and the GPU seconds they had cost."""
    end = attempt.end_step or resumed_step
    lost = max(0, end - resumed_step)
    gained = max(1, end - (attempt.start_step or 0))
    trained = times.seconds_between(attempt.resumed_at, attempt.finished_at)
    wasted = round(trained * lost / gained * attempt.nodes * attempt.gpus_per_node)
    d.set_attempt(attempt.model_copy(update={"lost_steps": lost}))
    totals = d.status.totals
    disrupted = open_preemption(d, attempt.index) is not None
    bucket = "preemption" if disrupted else "failure"
    waste = totals.wasted_gpu_seconds
    waste = waste.model_copy(update={bucket: getattr(waste, bucket) + wasted})
    d.update(totals=totals.model_copy(update={"wasted_gpu_seconds": waste}))


def fold_words(d: Draft, attempt: AttemptStatus, words: LastWords) -> AttemptStatus:
    """The last words of a pod: what a poll would have said, at the end."""
    fold_checkpoint(d, words.checkpoint)
    changes: dict[str, object] = {"end_step": max(words.step, attempt.end_step or 0)}
    if words.running_at and attempt.resumed_at is None:
        changes |= {"resumed_at": words.running_at, "start_step": words.start_step}
    if words.checkpoint is not None and words.checkpoint.attempt == attempt.index:
        changes["committed_step"] = max(words.checkpoint.step, attempt.committed_step or 0)
    if words.micro_batch_size is not None and d.status.resolved is not None:
        d.update(resolved=d.status.resolved.model_copy(update={"micro_batch_size": words.micro_batch_size}))
    attempt = attempt.model_copy(update=changes)
    d.set_attempt(attempt)
    if "resumed_at" in changes:
        note_resumed(d, attempt)
    saved = words.exit_code == ExitCode.STOPPED
    note_stop(d, attempt, words.stop_requested_at, words.checkpoint, saved=saved)
    return attempt
