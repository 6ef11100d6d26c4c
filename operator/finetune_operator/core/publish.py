"""After training: one Job evaluates, merges, asks the serving image, gates and uploads. A failed gate costs no
retraining.
"""

from __future__ import annotations

from finetune_api.duration import parse_duration
from finetune_api.exitcodes import ExitCode, reason
from finetune_api.runkey import publish_digest
from finetune_api.status import (
    ConditionType,
    EvaluationStatus,
    Outcome,
    Phase,
    PublishStatus,
)
from finetune_operator.core.attempt import end_job
from finetune_operator.core.builders.publish import build_publish, missing_image
from finetune_operator.core.disruption import pod_notice
from finetune_operator.core.draft import Draft
from finetune_operator.core.evidence import unreachable
from finetune_operator.core.names import LABEL_ROLE, ROLE_PUBLISHER, Reason, publish_job
from finetune_operator.core.objects import (
    condition,
    is_deleting,
    job_failing,
    job_finished,
    labels_of,
    owned_by,
    pending_cause,
    pod_node,
    pod_over,
    terminated,
    uid_of,
)
from finetune_operator.core.outcome import FINAL_OUTCOMES, Ending, Verdict, outcome, outcome_from_job
from finetune_operator.core.publish_pod import doing, held_up, read_report, without_report
from finetune_operator.core.retry import backoff
from finetune_operator.core.types import Obj


def step_publish(d: Draft) -> None:
    """Advance the newest publish try, or decide on one."""
    publish = d.status.publish
    if publish is None:
        _open(d, failures=0)
    elif publish.finished_at is None:
        _step_open(d, publish)
    else:
        _follow(d, publish)


def _open(d: Draft, failures: int) -> None:
    if d.spec.suspend:
        d.phase(Phase.SUSPENDED, Reason.SUSPENDED, "training is complete; publishing waits for spec.suspend: false")
        return
    last = d.status.publish
    index = last.index + 1 if last is not None else 1
    d.set_publish(
        PublishStatus(
            index=index,
            failures=failures,
            spec_digest=publish_digest(d.spec),
            job=publish_job(d.name, index),
            created_at=d.stamp,
        )
    )
    d.phase(Phase.PUBLISHING, Reason.PUBLISHING, doing(None))
    d.intent = True


def _step_open(d: Draft, publish: PublishStatus) -> None:
    job = d.job_named(publish.job)
    if job is None and publish.job_uid is None and not d.spec.suspend:
        resolved = d.status.resolved
        if resolved is None:
            raise ValueError("a publish try without resolved facts")
        missing = missing_image(d.spec, d.config)
        if missing is not None:
            d.phase(Phase.PUBLISHING, Reason.NO_SERVING_IMAGE, missing)
            return
        d.creates.append(build_publish(d.job, d.spec, resolved, publish, d.config))
        d.phase(Phase.PUBLISHING, Reason.PUBLISHING, f"creating Job {publish.job}")
        return
    if job is not None and publish.job_uid is None:
        publish = publish.model_copy(
            update={"job_uid": uid_of(job), "started_at": job["metadata"].get("creationTimestamp") or d.stamp}
        )
        d.set_publish(publish)
    pod = _pod(d, publish)
    over = pod is None or pod_over(pod, d.observed.gone_pods) or unreachable(d, pod)
    if job is None:
        if not d.observed.fresh:
            d.need_fresh = True
        elif over:
            _conclude(d, publish, pod, None)
        return
    if job_finished(job) or (over and (job_failing(job) or (publish.stopping and is_deleting(job)))):
        _conclude(d, publish, pod, job)
        return
    if publish.stopping is not None:
        end_job(d, job)
        return
    stop = Reason.SUSPENDED if d.spec.suspend else None
    if stop is None and pod is not None and unreachable(d, pod) and not job_failing(job):
        stop = Reason.NODE_LOST
    if stop is not None and not is_deleting(job):
        d.set_publish(publish.model_copy(update={"stopping": stop}))
        d.intent = True
        return
    late = _start_timeout(d, publish, pod) if pod is not None and not is_deleting(job) else None
    if late is not None:
        d.set_publish(publish.model_copy(update={"stopping": Reason.START_TIMEOUT, "message": late}))
        d.intent = True
        return
    cause = pending_cause(pod) if pod is not None else None
    message = f"the pod waits: {cause[0]}: {cause[1]}" if cause else doing(pod)
    d.phase(Phase.PUBLISHING, cause[0] if cause else Reason.PUBLISHING, message)


def _start_timeout(d: Draft, publish: PublishStatus, pod: Obj) -> str | None:
    """In words, once a container could not be started for too long: its pod must not hold GPUs for ever."""
    why = held_up(pod)
    if why is None:
        return None
    words, since = why
    limit = d.spec.scheduling.start_timeout
    if d.due_in(since or publish.started_at or publish.created_at, parse_duration(limit)) > 0:
        return None
    return f"a container of the publish pod could not start within scheduling.startTimeout ({limit}): {words}"[:1024]


def _pod(d: Draft, publish: PublishStatus) -> Obj | None:
    pods = [
        pod
        for pod in d.observed.pods
        if labels_of(pod).get(LABEL_ROLE) == ROLE_PUBLISHER
        and publish.job_uid is not None
        and owned_by(pod, publish.job_uid)
    ]
    return pods[-1] if pods else None


def _verdict(d: Draft, publish: PublishStatus, pod: Obj | None, job: Obj | None) -> Verdict:
    if job is not None and condition(job, "Complete"):
        return Verdict(Outcome.SUCCEEDED, "published", 0)
    if publish.stopping == Reason.SUSPENDED:
        return Verdict(Outcome.SUSPENDED, "suspended")
    if publish.stopping == Reason.START_TIMEOUT:
        return Verdict(Outcome.START_TIMEOUT, publish.message or "")
    ended = terminated(pod) if pod is not None else None
    if pod is None or (ended is None and not unreachable(d, pod) and publish.stopping is None):
        failed = (condition(job, "Failed") or {}) if job is not None else {}
        told = outcome_from_job(str(failed.get("message", "")))
        if told is not None:
            return told
    if pod is None:
        return Verdict(Outcome.DELETED, "the publish pod vanished before anybody saw how it ended")
    ended_by_us = job is None or job_failing(job) or is_deleting(job)
    return outcome(
        [
            Ending(
                index=0,
                node=pod_node(pod),
                exit_code=ended.exit_code if ended is not None else None,
                kernel_oom=ended is not None and ended.reason == "OOMKilled",
                notice=pod_notice(pod, ended_by_us=ended_by_us),
                node_lost=ended is None and unreachable(d, pod),
            )
        ]
    )


def _conclude(d: Draft, publish: PublishStatus, pod: Obj | None, job: Obj | None) -> None:
    report = read_report(pod)
    if report is None and not d.observed.fresh:
        d.need_fresh = True  # the Job's event may have overtaken its pod's
        return
    verdict = _verdict(d, publish, pod, job)
    ended = terminated(pod) if pod is not None else None
    message = report.message if report is not None and report.message else verdict.message
    if report is None and ended is not None and (told := without_report(ended)) is not None:
        message = told
    elif report is None and verdict.exit_code:
        message = f"the publish pod ended with {verdict.exit_code} ({reason(verdict.exit_code)}); see its log"
    publish = publish.model_copy(
        update={
            "finished_at": (ended.finished_at if ended is not None else None) or d.stamp,
            "outcome": verdict.outcome,
            "exit_code": verdict.exit_code,
            "message": message[:1024],
            "failures": publish.failures + (not _free(verdict.outcome) and verdict.outcome is not Outcome.SUCCEEDED),
        }
    )
    d.set_publish(publish)
    d.intent = True
    if report is not None and (report.metrics or report.gate):
        d.update(evaluation=EvaluationStatus(metrics=report.metrics, gate=report.gate, gate_passed=report.gate_passed))
        d.condition(ConditionType.EVALUATED, True, Reason.EVALUATED, "metrics are in status.evaluation")
    if verdict.outcome is Outcome.SUCCEEDED:
        if report is not None and report.output is not None:
            d.update(output=report.output)
        succeed(d, Reason.SUCCEEDED, message)
        return
    _follow(d, publish)


def _free(result: Outcome | None) -> bool:
    """Outcomes that do not use up tries."""
    return result in (Outcome.PREEMPTED, Outcome.NODE_LOST, Outcome.SUSPENDED, Outcome.DELETED)


def _follow(d: Draft, publish: PublishStatus) -> None:
    if publish.outcome is Outcome.SUCCEEDED:
        return
    if publish.spec_digest != publish_digest(d.spec):
        _open(d, failures=0)
        return
    final = publish.outcome in FINAL_OUTCOMES
    if final or publish.failures > d.spec.retry.max_restarts:
        why = Reason.GATE_FAILED if publish.outcome is Outcome.GATE_FAILED else str(publish.outcome)
        message = publish.message or ""
        if publish.exit_code == ExitCode.GATE_FAILED:
            message = (
                message.rstrip(".")
                + ". Edit spec.evaluation or spec.publish.servedCheck to publish without training again"
            )
        d.phase(Phase.FAILED, why, message)
        d.condition(ConditionType.PUBLISHED, False, why, message)
        d.condition(ConditionType.FAILED, True, why, message)
        return
    delay = 0.0 if _free(publish.outcome) else backoff(d.spec, publish.failures)
    if delay and d.due_in(publish.finished_at or publish.created_at, delay) > 0:
        d.phase(Phase.PUBLISHING, Reason.BACKOFF, f"{publish.outcome}: {publish.message}; tried again soon")
        return
    _open(d, failures=publish.failures)


def succeed(d: Draft, why: str, message: str) -> None:
    """The end: the model is published."""
    d.phase(Phase.SUCCEEDED, why, message)
    d.condition(ConditionType.PUBLISHED, True, why, message)
    d.condition(ConditionType.COMPLETE, True, why, message)
    if any(c.type == ConditionType.FAILED for c in d.status.conditions):
        d.condition(ConditionType.FAILED, False, why, "")
