"""Finished Jobs and the preflight pod stay `retainPods` long for `kubectl logs`, then go. The FineTuneJob stays."""

from __future__ import annotations

from finetune_api.duration import parse_duration
from finetune_api.status import Phase
from finetune_operator.core.attempt import end_job
from finetune_operator.core.draft import Draft
from finetune_operator.core.names import LABEL_ROLE, ROLE_PREFLIGHT
from finetune_operator.core.objects import (
    condition,
    is_deleting,
    job_finished,
    labels_of,
    name_of,
    pod_over,
    terminated,
    uid_of,
)
from finetune_operator.core.types import PODS, Delete, Obj


def step_retention(d: Draft) -> None:
    keep = parse_duration(d.spec.retain_pods)
    for job in d.observed.jobs:
        if job_finished(job) and not is_deleting(job) and d.due_in(_job_end(job), keep) <= 0:
            end_job(d, job)
    if d.status.resolved is None and d.status.phase is not Phase.FAILED:
        return
    for pod in d.observed.pods:
        if labels_of(pod).get(LABEL_ROLE) != ROLE_PREFLIGHT or uid_of(pod) in d.observed.gone_pods:
            continue
        ended = terminated(pod)
        if not pod_over(pod, ()) or is_deleting(pod) or ended is None or not ended.finished_at:
            continue
        if d.due_in(ended.finished_at, keep) <= 0:
            d.deletes.append(Delete(PODS, d.namespace, name_of(pod), uid_of(pod), foreground=False))


def _job_end(job: Obj) -> str:
    ended = condition(job, "Complete") or condition(job, "Failed") or {}
    return str(ended.get("lastTransitionTime") or job["metadata"]["creationTimestamp"])
