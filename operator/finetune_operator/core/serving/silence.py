"""Whether a revision provably answers nothing, so that there is nothing to compare a candidate with.

A stable revision that hangs brings no samples forth; were that "not enough samples yet", it would keep out the very
rollout that repairs the service. So that no healthy stable is passed over, every one of its engines has to be seen
answering nothing: hung or refusing although its metrics can be read, or not ready for long by its kubelet's word. An
engine that only we cannot reach proves nothing.
"""

from __future__ import annotations

from finetune_api.duration import parse_duration
from finetune_operator.core.objects import condition, is_deleting, name_of, uid_of
from finetune_operator.core.serving.draft import DeploymentDraft, pod_ready
from finetune_operator.core.types import Obj


def silence(d: DeploymentDraft, revision: str) -> str | None:
    """How it answers nothing, in words; None where that is not shown."""
    pods = [pod for pod in d.pods(revision) if not is_deleting(pod)]
    words = [_silent(d, pod) for pod in pods]
    return words[0] if words and all(words) else None


def _silent(d: DeploymentDraft, pod: Obj) -> str | None:
    limit = parse_duration(d.spec.rollout.stall_timeout)
    patience = f"{d.spec.rollout.stall_timeout} (rollout.stallTimeout)"
    if not pod_ready(pod):
        ready = condition(pod, "Ready") or {}
        since = str(ready.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])
        return f"its pod {name_of(pod)} is not ready for {patience}" if d.due_in(since, limit) <= 0 else None
    view = d.observed.engines.pods.get(uid_of(pod)) if d.observed.engines is not None else None
    if view is None or view.failed_scrapes:
        return None
    if view.busy_since is not None and (d.now - view.busy_since).total_seconds() >= limit:
        return f"its pod {name_of(pod)} runs {view.running} requests and ended none of them for {patience}"
    return f"its pod {name_of(pod)}: a test request failed: {view.synthetic_error}" if view.synthetic_error else None
