"""What the pods of an attempt show: notices, endings, whether anything still runs, and the verdict over all of it."""

from __future__ import annotations

from finetune_api.reports import LastWords
from finetune_api.status import AttemptStatus, Outcome
from finetune_operator.core.disruption import Notice, node_notice, node_unreachable, pod_notice
from finetune_operator.core.draft import Draft
from finetune_operator.core.names import LABEL_ATTEMPT, LABEL_ROLE, ROLE_TRAINER, Reason
from finetune_operator.core.objects import (
    condition,
    is_deleting,
    job_failing,
    labels_of,
    owned_by,
    pod_index,
    pod_node,
    pod_over,
    terminated,
)
from finetune_operator.core.outcome import Ending, Verdict, outcome, outcome_from_job
from finetune_operator.core.progress import open_preemption
from finetune_operator.core.reports import read_report
from finetune_operator.core.types import Obj

_STOPPING_OUTCOME = {
    Reason.SUSPENDED: Outcome.SUSPENDED,
    Reason.NODE_LOST: Outcome.NODE_LOST,
    Reason.START_TIMEOUT: Outcome.START_TIMEOUT,
    Reason.DEADLINE_EXCEEDED: Outcome.DEADLINE,
}


def pods_of(d: Draft, attempt: AttemptStatus) -> list[Obj]:
    return [
        pod
        for pod in d.observed.pods
        if labels_of(pod).get(LABEL_ROLE) == ROLE_TRAINER
        and labels_of(pod).get(LABEL_ATTEMPT) == str(attempt.index)
        and (attempt.job_uid is None or owned_by(pod, attempt.job_uid))
    ]


def hard_notice(d: Draft, attempt: AttemptStatus, job: Obj | None, pods: list[Obj]) -> Notice | None:
    # The Job controller deletes the survivors of a failed gang; the failed pod is seen before that, in the same watch.
    failed = any((ended := terminated(pod)) is not None and ended.exit_code != 0 for pod in pods)
    by_us = _ended_by_us(attempt, job) or failed
    for pod in pods:
        notice = pod_notice(pod, ended_by_us=by_us)
        if notice is None and not pod_over(pod, d.observed.gone_pods):
            notice = node_notice(d.observed.nodes.get(pod_node(pod) or ""))
        if notice is not None and notice.hard:
            return notice
    return None


def _ended_by_us(attempt: AttemptStatus, job: Obj | None) -> bool:
    return attempt.stopping is not None or (job is not None and (job_failing(job) or is_deleting(job)))


def unreachable(d: Draft, pod: Obj) -> bool:
    return node_unreachable(d.observed.nodes.get(pod_node(pod) or ""))


def released(d: Draft, attempt: AttemptStatus, pods: list[Obj]) -> bool:
    """No pod runs, or what runs cannot harm: the next attempt's fence refuses the commits of a zombie.

    After a lost node the survivors are on their way out and fenced, too; waiting for their grace period would only
    keep the next attempt from starting elsewhere.
    """
    lost = attempt.stopping == Reason.NODE_LOST
    return all(
        pod_over(pod, d.observed.gone_pods) or unreachable(d, pod) or (lost and is_deleting(pod)) for pod in pods
    )


def last_words(pod: Obj) -> LastWords | None:
    return read_report(pod, LastWords)


def _ending(d: Draft, attempt: AttemptStatus, job: Obj | None, pod: Obj) -> Ending:
    ended = terminated(pod)
    notice = pod_notice(pod, ended_by_us=_ended_by_us(attempt, job))
    record = open_preemption(d, attempt.index)
    if notice is None and record is not None and record.node == pod_node(pod):
        notice = Notice(record.node, record.source, hard=True)
    over = pod_over(pod, d.observed.gone_pods)
    return Ending(
        index=pod_index(pod),
        node=pod_node(pod),
        exit_code=ended.exit_code if ended is not None else None,
        kernel_oom=ended is not None and ended.reason == "OOMKilled",
        notice=notice,
        node_lost=not over and unreachable(d, pod),
        words=last_words(pod),
        finished_at=(ended.finished_at or "") if ended is not None else "",
    )


def judge(d: Draft, attempt: AttemptStatus, job: Obj | None, pods: list[Obj]) -> Verdict:
    endings = [_ending(d, attempt, job, pod) for pod in pods]
    if endings and all(ending.exit_code == 0 for ending in endings) and len(endings) == attempt.nodes:
        return Verdict(Outcome.SUCCEEDED, "training is complete", 0)
    forced = _STOPPING_OUTCOME.get(attempt.stopping or "")
    if forced is not None:
        node = next((e.node for e in endings if e.node_lost), None)
        return Verdict(forced, attempt.message or str(forced), None, node, attempt.stopping)
    verdict = outcome(endings)
    if verdict.outcome is Outcome.DELETED and job is not None:
        failed = condition(job, "Failed") or condition(job, "FailureTarget") or {}
        return outcome_from_job(str(failed.get("message", ""))) or verdict
    return verdict
