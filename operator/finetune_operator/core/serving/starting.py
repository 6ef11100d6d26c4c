"""Engine pods of a candidate at weight 0: made, sized, waited for, and given up on in words."""

from __future__ import annotations

from finetune_api.deployment_status import RevisionRecord, Stage
from finetune_api.duration import parse_duration
from finetune_api.exitcodes import ExitCode
from finetune_api.serveconfig import FetchReport
from finetune_operator.core.names import Reason, revision_object
from finetune_operator.core.objects import condition, name_of, pending_cause
from finetune_operator.core.reports import read_report
from finetune_operator.core.serving.builders.engine import FETCH, build_engine, build_engine_policy, build_service
from finetune_operator.core.serving.capacity import sizes
from finetune_operator.core.serving.draft import DeploymentDraft, wanted_replicas
from finetune_operator.core.types import Obj

_CRASHES = 3


def start_engines(d: DeploymentDraft, *, checking: bool = False) -> tuple[str, str] | None:
    """Advance to the checks when every wanted pod is ready; (reason, message) when that will not happen. With
    `checking` the pods were ready already and only their failure counts."""
    r = d.rollout
    assert r.revision is not None
    if not checking and _waits_for_drain(d):
        return None
    wanted = _size(d)
    if d.engine(r.revision) is None:
        if d.config.network_policies:
            d.creates.append(build_engine_policy(d.owner))
        d.creates.append(build_engine(d.owner, d.spec, record_of(d), d.config, wanted))
    else:
        d.scale(r.revision, wanted)
    ensure_service(d, r.revision)
    failed = _failure(d.pods(r.revision))
    if failed is not None or checking:
        return failed
    ready = d.ready(r.revision)
    if ready >= wanted and d.engine(r.revision) is not None:
        d.decide(stage=Stage.CHECKING, stage_since=d.stamp)
        return None
    limit = parse_duration(d.spec.rollout.progress_deadline)
    if d.due_in(_since(d), limit) <= 0:
        return _too_late(d, ready, wanted)
    cause = next((c for pod in d.pods(r.revision) if (c := pending_cause(pod)) is not None), None)
    words = f"; {cause[0]}: {cause[1]}" if cause is not None else ""
    d.say(Reason.STARTING, f"{ready} of {wanted} engine pods of {r.revision} are ready{words}")
    return None


def ensure_service(d: DeploymentDraft, revision: str) -> None:
    name = revision_object(d.name, revision)
    record = d.record(revision)
    if record is not None and all(name_of(s) != name for s in d.observed.services):
        d.creates.append(build_service(d.owner, record))


def record_of(d: DeploymentDraft) -> RevisionRecord:
    """The candidate's, as its Deployment will carry it."""
    r = d.rollout
    return RevisionRecord(
        revision=r.revision or "",
        model=r.model,
        image=r.image or "",
        served_name=d.served_name,
        created_at=r.started_at,
    )


def _waits_for_drain(d: DeploymentDraft) -> bool:
    """Pods of a revision that leaves still count against `replicas + maxSurge`."""
    leaving = [entry.revision for entry in d.status.draining if d.pods(entry.revision)]
    if leaving:
        d.say(Reason.WAITING_FOR_DRAIN, f"revision {leaving[0]} still finishes its requests")
    return bool(leaving)


def _since(d: DeploymentDraft) -> str:
    """The deadline for readiness begins when there are pods to wait for."""
    pods = [str(pod["metadata"].get("creationTimestamp") or "") for pod in d.pods(d.rollout.revision)]
    return max(d.rollout.stage_since, min(pods, default=""))


def _size(d: DeploymentDraft) -> int:
    steps = d.spec.rollout.steps
    stable = d.status.stable
    first = 100 if stable is None or not steps else steps[0].weight
    child = d.engine(d.rollout.revision)
    old = d.engine(stable.revision) if stable is not None else None
    return sizes(
        replicas=d.replicas,
        surge=d.spec.rollout.max_surge,
        target=first,
        route_weight=0,
        canary=wanted_replicas(child) if child is not None else 0,
        canary_ready=0,
        # Stable may be on its way to a new size in this very pass.
        stable=max(wanted_replicas(old), d.spec.replicas) if old is not None else 0,
    ).canary


def _failure(pods: list[Obj]) -> tuple[str, str] | None:
    """What no waiting will mend."""
    for pod in pods:
        report = read_report(pod, FetchReport, container=FETCH)
        if report is not None and report.exit_code not in (ExitCode.DONE, ExitCode.STORAGE):
            return report.reason, report.message
        for entry in (pod.get("status") or {}).get("containerStatuses") or ():
            if int(entry.get("restartCount", 0)) >= _CRASHES:
                ended = (entry.get("lastState") or {}).get("terminated") or {}
                return Reason.ENGINE_CRASHED, (
                    f"engine pod {name_of(pod)} ended {entry['restartCount']} times before it was ready, last with "
                    f"exit code {ended.get('exitCode', '?')} ({ended.get('reason', 'no reason given')}); "
                    f"kubectl logs {name_of(pod)} --previous"
                )
    return None


def _too_late(d: DeploymentDraft, ready: int, wanted: int) -> tuple[str, str]:
    limit = f"{d.spec.rollout.progress_deadline} (rollout.progressDeadline)"
    for pod in d.pods(d.rollout.revision):
        scheduled = condition(pod, "PodScheduled")
        if scheduled is not None and scheduled.get("status") == "False":
            return Reason.INSUFFICIENT_CAPACITY, (
                f"no node had room for engine pod {name_of(pod)} within {limit}: {scheduled.get('message', '')}"
            )
    for pod in d.pods(d.rollout.revision):
        report = read_report(pod, FetchReport, container=FETCH)
        if report is not None and report.exit_code:
            return Reason.MODEL_NOT_FETCHED, f"not ready within {limit}: {report.message}"
        cause = pending_cause(pod)
        if cause is not None:
            return Reason.PROGRESS_DEADLINE, f"not ready within {limit}: pod {name_of(pod)}: {cause[0]}: {cause[1]}"
    return Reason.PROGRESS_DEADLINE, (
        f"{ready} of {wanted} engine pods were ready within {limit}; a large model may need a longer one"
    )
