"""Signals that end a rollout at once, without statistics: vLLM counts no failures of its own.

A pod that is taken away (evicted, preempted, its node drained) says nothing about the revision: its weight follows what
is left, and it is waited for. What both revisions show alike says nothing about the candidate either.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from finetune_api.duration import parse_duration
from finetune_operator.core import times
from finetune_operator.core.names import Reason
from finetune_operator.core.objects import condition, has_condition, is_deleting, name_of, uid_of
from finetune_operator.core.serving.capacity import share
from finetune_operator.core.serving.draft import DeploymentDraft, pod_ready
from finetune_operator.core.serving.types import EngineView
from finetune_operator.core.types import Obj

_SCRAPES = 3
_NOT_READY_SECONDS = 10.0


def disrupted(pod: Obj) -> bool:
    return is_deleting(pod) or has_condition(pod, "DisruptionTarget")


def failure(d: DeploymentDraft, revision: str, weight: int) -> tuple[str, str] | None:
    """(reason, message) of what forbids this revision any weight; `weight` is what the route gives it now."""
    pods = [pod for pod in d.pods(revision) if not disrupted(pod)]
    for pod in pods:
        ended = _ended_since(pod, d.rollout.exposed_at)
        if ended is not None:
            return Reason.ENGINE_RESTARTED, f"engine pod {name_of(pod)} {ended} with traffic on it"
    if any(disrupted(pod) for pod in d.pods(revision)):
        return None
    lacking = _not_ready(d, pods, share(d.replicas, weight))
    if lacking is not None:
        return Reason.ENGINE_NOT_READY, lacking
    return _from_outside(d, revision, pods)


def _not_ready(d: DeploymentDraft, pods: list[Obj], needed: int) -> str | None:
    ready = [pod for pod in pods if pod_ready(pod)]
    if len(ready) >= needed:
        return None
    for pod in pods:
        entry = condition(pod, "Ready")
        since = (entry or {}).get("lastTransitionTime")
        if entry is None or entry.get("status") == "True" or not since:
            continue
        if d.due_in(str(since), _NOT_READY_SECONDS) <= 0:
            return (
                f"engine pod {name_of(pod)} is not ready since {since}: {entry.get('message') or 'no reason given'} "
                f"({len(ready)} of {needed} needed pods are ready)"
            )
    return None


def _ended_since(pod: Obj, exposed_at: str | None) -> str | None:
    """How an engine ended since it may get requests."""
    for entry in (pod.get("status") or {}).get("containerStatuses") or ():
        for state in ("state", "lastState"):
            ended = (entry.get(state) or {}).get("terminated")
            if ended and exposed_at and times.parse(str(ended.get("finishedAt") or exposed_at)) >= _second(exposed_at):
                return f"ended with exit code {ended.get('exitCode')} ({ended.get('reason') or 'no reason given'})"
    return None


def _second(stamp: str) -> datetime:
    """The kubelet's times have no fractions."""
    return times.parse(stamp).replace(microsecond=0)


def _from_outside(d: DeploymentDraft, revision: str, pods: list[Obj]) -> tuple[str, str] | None:
    engines = d.observed.engines
    if engines is None:
        return None
    names = {uid_of(pod): name_of(pod) for pod in pods}
    views = {uid: view for uid, view in engines.pods.items() if uid in names and view.revision == revision}
    others = [view for view in engines.pods.values() if view.revision != revision]
    timeout = parse_duration(d.spec.rollout.stall_timeout)
    for uid, view in sorted(views.items()):
        if view.failed_scrapes >= _SCRAPES and not _all(others, lambda v: v.failed_scrapes >= _SCRAPES):
            return (
                Reason.ENGINE_UNREACHABLE,
                f"engine pod {names[uid]} did not answer {view.failed_scrapes} requests for its metrics in a row",
            )
        if view.busy_since is not None and (d.now - view.busy_since).total_seconds() >= timeout:
            return (
                Reason.ENGINE_STALLED,
                f"engine pod {names[uid]} runs {view.running} requests and ended none of them for "
                f"{d.spec.rollout.stall_timeout} (rollout.stallTimeout)",
            )
        if view.synthetic_error and not _all(others, lambda v: v.synthetic_error is not None):
            return Reason.SYNTHETIC_FAILED, f"engine pod {names[uid]}: a test request failed: {view.synthetic_error}"
    return None


def _all(views: list[EngineView], test: Callable[[EngineView], bool]) -> bool:
    """Every pod of stable shows the same; False when there is none to compare with."""
    return bool(views) and all(test(view) for view in views)
