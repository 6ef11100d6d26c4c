"""What the status says of it all: revisions as observed, phase, conditions as kstatus and people read them."""

from __future__ import annotations

from finetune_api.deployment_status import DeploymentCondition, DeploymentPhase, RevisionStatus, Stage
from finetune_operator.core.names import Reason
from finetune_operator.core.serving.analysis.totals import Totals
from finetune_operator.core.serving.analysis.weight import observed_weight
from finetune_operator.core.serving.builders.common import revision_selector
from finetune_operator.core.serving.builders.route import weights
from finetune_operator.core.serving.draft import DeploymentDraft, wanted_replicas
from finetune_operator.core.serving.routing import canary_weight
from finetune_operator.core.serving.traffic import address


def describe(d: DeploymentDraft) -> None:
    """Revisions, counts and addresses as they are now."""
    stable, rollout = d.status.stable, d.status.rollout
    canary = None
    if rollout is not None and rollout.revision is not None:
        canary = _seen(
            d,
            RevisionStatus(
                revision=rollout.revision,
                model=rollout.model.uri,
                digest=rollout.model.digest or "",
                job=rollout.model.job,
                image=rollout.image or "",
                observed_weight=_observed_weight(d),
            ),
            canary_weight(d),
        )
    if stable is not None:
        route = weights(d.observed.route) if d.observed.route is not None else {}
        stable = _seen(d, stable, route.get(stable.revision, 0))
    steps = len(d.spec.rollout.steps)
    d.update(
        stable=stable,
        canary=canary,
        step=f"{rollout.step}/{steps}" if rollout is not None and rollout.step else None,
        ready=None if stable is None else f"{stable.ready_replicas}/{d.spec.replicas}",
        replicas=None if stable is None else stable.replicas,
        selector=None if stable is None else revision_selector(d.name, stable.revision),
        url=None if stable is None else address(d.spec, d.owner, d.config).url,
    )


def _seen(d: DeploymentDraft, status: RevisionStatus, weight: int) -> RevisionStatus:
    child = d.engine(status.revision)
    return status.model_copy(
        update={
            "replicas": wanted_replicas(child) if child is not None else 0,
            "ready_replicas": d.ready(status.revision),
            "weight": weight,
        }
    )


def _observed_weight(d: DeploymentDraft) -> int | None:
    engines, rollout, stable = d.observed.engines, d.status.rollout, d.status.stable
    if engines is None or rollout is None or stable is None or rollout.revision is None:
        return None
    if d.scrape is None or engines.step != d.scrape.step:
        return d.status.canary.observed_weight if d.status.canary is not None else None
    none = Totals(requests=0)
    measured = observed_weight(
        engines.step_totals.get(stable.revision, none), engines.step_totals.get(rollout.revision, none)
    )
    return None if measured is None else round(measured)


def conclude(d: DeploymentDraft, *, refused: tuple[str, str] | None, rejected: tuple[str, str] | None) -> None:
    """Phase and conditions. `refused`: the spec cannot be followed (yet); `rejected`: what it asks for was tried."""
    stable, rollout = d.status.stable, d.status.rollout
    available = stable is not None and (stable.ready_replicas > 0 or d.spec.replicas == 0)
    if refused is None:
        d.condition(DeploymentCondition.ACCEPTED, True, Reason.ACCEPTED)
    else:
        d.condition(DeploymentCondition.ACCEPTED, False, *refused)
    if rollout is None:
        _phase(d, refused, rejected)
    elif rollout.stage is Stage.ROLLING_BACK:
        d.phase(DeploymentPhase.ROLLING_BACK, d.status.reason or Reason.ROLLING_BACK, d.status.message or "")
    reason, message = d.status.reason or Reason.HEALTHY, d.status.message or ""
    d.condition(
        DeploymentCondition.AVAILABLE,
        available,
        Reason.HEALTHY if available else Reason.ENGINES_NOT_READY,
        "" if stable is None else f"{stable.ready_replicas} of {d.spec.replicas} engine pods are ready",
    )
    d.condition(DeploymentCondition.PROGRESSING, rollout is not None, reason, message if rollout is not None else "")
    last = d.status.history[-1] if d.status.history else None
    d.condition(
        DeploymentCondition.PROMOTED,
        last is not None and last.outcome == "Promoted" and rollout is None,
        last.reason if last is not None else Reason.HEALTHY,
        f"revision {last.revision}" if last is not None and last.outcome == "Promoted" else "",
    )
    back = last is not None and last.outcome in ("RolledBack", "Aborted") and rejected is not None
    d.condition(
        DeploymentCondition.ROLLED_BACK,
        back,
        last.reason if back and last is not None else Reason.HEALTHY,
        last.message if back and last is not None else "",
    )
    healthy = available and rollout is None and rejected is None and d.status.phase is DeploymentPhase.HEALTHY
    stalled = rejected is not None or (refused is not None and not _waiting(refused)) or _stuck(d)
    d.condition(DeploymentCondition.READY, healthy, reason, message)
    d.condition(DeploymentCondition.RECONCILING, not healthy and not stalled, reason, message)
    d.condition(DeploymentCondition.STALLED, stalled, reason, message)


def _phase(d: DeploymentDraft, refused: tuple[str, str] | None, rejected: tuple[str, str] | None) -> None:
    stable = d.status.stable
    words = refused or rejected
    if stable is None:
        phase = DeploymentPhase.DEGRADED if rejected is not None else DeploymentPhase.PENDING
        d.phase(phase, *(words or (Reason.ACCEPTED, "")))
    elif stable.ready_replicas < d.spec.replicas:
        text = f"{stable.ready_replicas} of {d.spec.replicas} engine pods of {stable.revision} are ready"
        d.phase(DeploymentPhase.DEGRADED, Reason.ENGINES_NOT_READY, text)
    elif words is not None:
        d.phase(DeploymentPhase.HEALTHY, *words)
    elif d.spec.replicas == 0:
        d.phase(DeploymentPhase.HEALTHY, Reason.SCALED_TO_ZERO, "spec.replicas is 0")
    else:
        d.phase(DeploymentPhase.HEALTHY, Reason.HEALTHY, f"revision {stable.revision} serves every request")


def _waiting(refused: tuple[str, str]) -> bool:
    return refused[0].startswith("WaitingFor")


def _stuck(d: DeploymentDraft) -> bool:
    return d.status.rollout is not None and d.status.reason == Reason.ROUTE_NOT_ACCEPTED
