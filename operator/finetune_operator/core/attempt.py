"""The attempt that is open: made once, watched, ended for a reason that was written down first, and judged.

Nothing here repairs an attempt. It runs to its end or is ended by deleting its Job; what follows is `retry.decide`.
"""

from __future__ import annotations

from finetune_api.duration import parse_duration
from finetune_api.status import AttemptStatus, ConditionType, Outcome, Phase, PreemptionStatus
from finetune_operator.core.builders.attempt import (
    build_attempt,
    build_gang_policy,
    build_token,
    run_token,
)
from finetune_operator.core.disruption import node_notice
from finetune_operator.core.draft import Draft
from finetune_operator.core.evidence import hard_notice, judge, last_words, pods_of, released, unreachable
from finetune_operator.core.gang import ensure_gang_service
from finetune_operator.core.names import LABEL_ATTEMPT, LABEL_ROLE, ROLE_TRAINER, Reason, token_secret
from finetune_operator.core.objects import (
    condition,
    is_deleting,
    job_failing,
    job_finished,
    labels_of,
    name_of,
    pending_cause,
    pod_index,
    pod_ip,
    pod_node,
    pod_over,
    pod_running,
    terminated,
    uid_of,
)
from finetune_operator.core.outcome import Verdict
from finetune_operator.core.progress import fold_sample, fold_words, open_preemption
from finetune_operator.core.record import finish
from finetune_operator.core.types import JOBS, SECRETS, Delete, Obj, Probe


def step_attempt(d: Draft) -> None:
    """Advance the open attempt by one decision."""
    attempt = d.status.attempts[-1]
    job = d.job_named(attempt.job)
    if job is None:
        _without_job(d, attempt)
        return
    if attempt.job_uid is None:
        attempt = attempt.model_copy(
            update={"job_uid": uid_of(job), "started_at": job["metadata"].get("creationTimestamp") or d.stamp}
        )
        d.set_attempt(attempt)
    pods = pods_of(d, attempt)
    attempt = fold_sample(d, attempt)
    attempt = _note_notices(d, attempt, job, pods)
    if job_finished(job) and condition(job, "Complete"):
        _conclude(d, attempt, job, pods, Verdict(Outcome.SUCCEEDED, "training is complete", 0))
        return
    if released(d, attempt, pods) and (job_failing(job) or (attempt.stopping and is_deleting(job))):
        _conclude(d, attempt, job, pods, judge(d, attempt, job, pods))
        return
    if attempt.stopping is not None:
        end_job(d, job)
        _say(d, attempt, pods)
        return
    if not job_failing(job) and not is_deleting(job):
        reason = _reason_to_stop(d, attempt, pods)
        if reason is not None:
            d.set_attempt(attempt.model_copy(update={"stopping": reason[0], "message": reason[1][:1024]}))
            d.intent = True
            return
        ensure_gang_service(d)  # its owners may all have gone, and the names of this gang with them
    _say(d, attempt, pods)
    _probe(d, attempt, job, pods)


def end_job(d: Draft, job: Obj) -> None:
    """Delete a Job and its token; pods get SIGTERM and their whole grace period. Asks for a fresh read first."""
    if is_deleting(job):
        return
    if not d.observed.fresh:
        d.need_fresh = True
        return
    if labels_of(job).get(LABEL_ROLE) == ROLE_TRAINER:  # first: once the Job is going away nobody comes back here
        secret = token_secret(d.name, int(labels_of(job)[LABEL_ATTEMPT]), d.uid)
        d.deletes.append(Delete(SECRETS, d.namespace, secret, None, foreground=False))
    d.deletes.append(Delete(JOBS, d.namespace, name_of(job), uid_of(job)))


def _without_job(d: Draft, attempt: AttemptStatus) -> None:
    if attempt.job_uid is not None or d.spec.suspend:
        if not d.observed.fresh:
            d.need_fresh = True
            return
        pods = pods_of(d, attempt)
        if not released(d, attempt, pods):
            _say(d, attempt, pods)
            return
        if attempt.job_uid is None and attempt.stopping is None:
            attempt = attempt.model_copy(update={"stopping": Reason.SUSPENDED})
        _conclude(d, attempt, None, pods, judge(d, attempt, None, pods))
        return
    resolved = d.status.resolved
    if resolved is None:
        raise ValueError("an attempt without resolved facts")
    ensure_gang_service(d)
    if d.config.network_policies:
        d.creates.append(build_gang_policy(d.job, d.config))
    d.creates.append(build_token(d.job, attempt, d.config))
    d.creates.append(build_attempt(d.job, d.spec, d.status, resolved, attempt, d.config))
    first = len(d.status.attempts) == 1
    d.phase(
        Phase.QUEUED if first else Phase.RECOVERING,
        Reason.QUEUED if first else Reason.RESUMING,
        f"creating Job {attempt.job}",
    )


def _note_notices(d: Draft, attempt: AttemptStatus, job: Obj, pods: list[Obj]) -> AttemptStatus:
    notice = hard_notice(d, attempt, job, pods)
    if notice is None or open_preemption(d, attempt.index) is not None:
        return attempt
    record = PreemptionStatus(attempt=attempt.index, node=notice.node, source=notice.source, noticed_at=d.stamp)
    d.update(preemptions=[*d.status.preemptions, record][-10:])
    return attempt


def _conclude(d: Draft, attempt: AttemptStatus, job: Obj | None, pods: list[Obj], verdict: Verdict) -> None:
    if not d.observed.fresh and (not pods or any(terminated(pod) is None for pod in pods)):
        d.need_fresh = True  # the Job's event may have overtaken its pods'
        return
    for pod in sorted(pods, key=pod_index, reverse=True):
        words = last_words(pod)
        if words is not None and words.attempt == attempt.index:
            attempt = fold_words(d, attempt, words)
    moments = [ended.finished_at for pod in pods if (ended := terminated(pod)) is not None and ended.finished_at]
    finish(d, attempt, verdict, finished_at=max(moments, default=d.stamp))


def _reason_to_stop(d: Draft, attempt: AttemptStatus, pods: list[Obj]) -> tuple[str, str] | None:
    if d.spec.suspend:
        return Reason.SUSPENDED, "spec.suspend is true"
    for pod in pods:
        if not pod_over(pod, d.observed.gone_pods) and unreachable(d, pod):
            return (
                Reason.NODE_LOST,
                f"node {pod_node(pod)} of pod {name_of(pod)} became unreachable; the pod may go on, its commits are"
                " refused from the next attempt's fence on",
            )
    first = d.status.attempts[0]
    deadline = d.spec.retry.active_deadline
    since = first.started_at or first.created_at
    if deadline is not None and d.due_in(since, parse_duration(deadline)) <= 0:
        return (
            Reason.DEADLINE_EXCEEDED,
            f"retry.activeDeadline {deadline} has passed since {since}; raise it in a new job to go on",
        )
    starting = attempt.running_at is None and not _all_running(attempt, pods)
    limit = parse_duration(d.spec.scheduling.start_timeout)
    if starting and attempt.started_at and d.due_in(attempt.started_at, limit) <= 0:
        return Reason.START_TIMEOUT, _start_timeout(d, attempt, pods)
    return None


def _start_timeout(d: Draft, attempt: AttemptStatus, pods: list[Obj]) -> str:
    running = sum(pod_running(pod) for pod in pods)
    cause = _pending(pods)
    return (
        f"{running} of {attempt.nodes} pods ran after {d.spec.scheduling.start_timeout} (scheduling.startTimeout); "
        + (f"the cause: {cause[0]}: {cause[1]}" if cause else "the others gave no cause")
    )


def _pending(pods: list[Obj]) -> tuple[str, str] | None:
    return next((cause for pod in pods if (cause := pending_cause(pod)) is not None), None)


def _all_running(attempt: AttemptStatus, pods: list[Obj]) -> bool:
    return len({pod_index(pod) for pod in pods if pod_running(pod)}) >= attempt.nodes


def _say(d: Draft, attempt: AttemptStatus, pods: list[Obj]) -> None:
    """Phase and message of an attempt that goes on."""
    if attempt.running_at is None and _all_running(attempt, pods):
        attempt = attempt.model_copy(update={"running_at": d.stamp})
        d.set_attempt(attempt)
    if attempt.stopping is not None:
        phase = Phase.SUSPENDED if attempt.stopping == Reason.SUSPENDED else Phase.RECOVERING
        d.phase(phase, attempt.stopping, attempt.message or "the pods are saving and going away")
        return
    record = open_preemption(d, attempt.index)
    if record is not None:
        d.phase(
            Phase.RECOVERING,
            Reason.PREEMPTION_NOTICED,
            f"node {record.node} is being taken away ({record.source}); the gang saves and stops",
        )
        return
    if attempt.running_at is not None:
        d.phase(Phase.RUNNING, Reason.RUNNING, f"attempt {attempt.index} on {attempt.nodes} pod(s)")
        d.condition(ConditionType.RUNNING, True, Reason.RUNNING, f"attempt {attempt.index}")
        return
    running = sum(pod_running(pod) for pod in pods)
    cause = _pending(pods)
    message = f"{running} of {attempt.nodes} pods run"
    if cause is not None:
        message += f"; {cause[0]}: {cause[1]}"
    if len(d.status.attempts) > 1:
        d.phase(Phase.RECOVERING, Reason.RESUMING, message)
    elif not pods or all(pod_node(pod) is None for pod in pods):
        d.phase(Phase.QUEUED, cause[0] if cause else Reason.QUEUED, message)
    else:
        d.phase(Phase.STARTING, cause[0] if cause else Reason.STARTING, message)


def _probe(d: Draft, attempt: AttemptStatus, job: Obj, pods: list[Obj]) -> None:
    leader = next((pod for pod in pods if pod_index(pod) == 0 and pod_running(pod)), None)
    if leader is None or pod_ip(leader) is None or job_failing(job):
        return
    record = open_preemption(d, attempt.index)
    d.probe = Probe(
        attempt=attempt.index,
        pod=name_of(leader),
        pod_uid=uid_of(leader),
        ip=pod_ip(leader) or "",
        token=run_token(d.config, d.uid, attempt.index),
        stop=record.source if record is not None else None,
        checkpoint=_soft_notice(d, pods) if record is None else None,
    )


def _soft_notice(d: Draft, pods: list[Obj]) -> str | None:
    for pod in pods:
        notice = node_notice(d.observed.nodes.get(pod_node(pod) or ""))
        if notice is not None and not notice.hard and not pod_over(pod, d.observed.gone_pods):
            return f"{notice.source} {notice.node}"
    return None
