"""Weight by weight: raised to what ready pods can carry, accepted by every Gateway, paused, analysed, promoted."""

from __future__ import annotations

from finetune_api.deployment_status import DeploymentPhase, Stage, VerdictStatus
from finetune_api.duration import parse_duration
from finetune_api.rollout import MANUAL
from finetune_operator.core.names import ANNOTATION_PROMOTE, Reason
from finetune_operator.core.serving import health
from finetune_operator.core.serving.analysis.judge import judge
from finetune_operator.core.serving.analysis.totals import Totals, rule_of
from finetune_operator.core.serving.analysis.verdict import Decision
from finetune_operator.core.serving.capacity import share, sizes
from finetune_operator.core.serving.draft import DeploymentDraft, wanted_replicas
from finetune_operator.core.serving.promotion import promoted
from finetune_operator.core.serving.rejection import asked_to
from finetune_operator.core.serving.routing import acceptance, canary_weight, out_of_patience, set_route
from finetune_operator.core.serving.silence import silence
from finetune_operator.core.serving.starting import ensure_service
from finetune_operator.core.serving.types import Scrape


def step_up(d: DeploymentDraft) -> tuple[str, str] | None:
    """(reason, message) of what takes the candidate back."""
    r = d.rollout
    assert r.revision is not None
    route_weight = canary_weight(d)
    if route_weight > r.highest:
        d.set_rollout(highest=route_weight)
    watch(d)
    if d.status.stable is not None and route_weight:
        failed = health.failure(d, r.revision, route_weight) or _analyse(d)
        if failed is not None:
            return failed
    if not _reach(d, route_weight):
        return None
    if r.stage is Stage.PROMOTING:
        if d.observed.fresh:
            promoted(d)
        else:
            d.need_fresh = True
    elif r.step_since is None:
        d.update(analysis=[])
        d.decide(step_since=d.stamp)
    else:
        _pause(d, go_on=asked_to(d, "promote"))
    return None


def _reach(d: DeploymentDraft, route_weight: int) -> bool:
    """One rung towards the step's weight; True when it is there and every Gateway took it over."""
    r, stable = d.rollout, d.status.stable
    child = d.engine(r.revision)
    if child is None:
        d.decide(stage=Stage.STARTING, stage_since=d.stamp, step_since=None)
        return False
    assert r.revision is not None
    ensure_service(d, r.revision)
    old = d.engine(stable.revision) if stable is not None else None
    ready = d.ready(r.revision)
    rung = sizes(
        replicas=d.replicas,
        surge=d.spec.rollout.max_surge,
        target=r.weight,
        route_weight=route_weight,
        canary=wanted_replicas(child),
        canary_ready=ready,
        stable=wanted_replicas(old) if old is not None else 0,
    )
    d.scale(r.revision, rung.canary)
    taken = acceptance(d)
    if stable is not None and old is not None and (taken.ok or rung.stable > wanted_replicas(old)):
        # Until every Gateway took the weight over, requests still come as they did before it.
        d.scale(stable.revision, rung.stable)
    weight = rung.weight
    if ready >= share(d.replicas, route_weight):
        weight = max(weight, min(route_weight, r.weight))
    if stable is None:
        weight = 100 if ready else 0
        if not weight and d.observed.route is None:
            d.say(Reason.STARTING, f"no engine pod of {r.revision} is ready")
            return False
    if weight > route_weight and not d.observed.fresh:
        d.need_fresh = True
        return False
    settled = set_route(d, weight)
    if settled and not taken.ok:
        # A Gateway that nobody implements never answers.
        silent = taken.reason == Reason.ROUTE_PENDING and out_of_patience(d)
        d.say(Reason.ROUTE_NOT_ACCEPTED if silent else taken.reason, taken.message)
        return False
    if weight != r.weight:
        d.say(
            Reason.STEPPING, f"weight {weight} of {r.weight}: {ready} ready engine pods of {r.revision} carry no more"
        )
    else:
        reason = Reason.PROMOTING if r.stage is Stage.PROMOTING else Reason.STEPPING
        d.say(reason, f"revision {r.revision} at weight {weight}")
    return settled and weight == r.weight


def _pause(d: DeploymentDraft, *, go_on: bool) -> None:
    r, steps = d.rollout, d.spec.rollout.steps
    assert r.step_since is not None
    pause = steps[r.step - 1].pause if r.step <= len(steps) else "0s"
    if not go_on:
        if pause == MANUAL:
            d.phase(
                DeploymentPhase.PAUSED,
                Reason.PAUSED,
                f"revision {r.revision} at weight {r.weight}, step {r.step}/{len(steps)}, waits for "
                f"kubectl annotate modeldeployment {d.name} {ANNOTATION_PROMOTE}={r.revision}/{r.step} --overwrite",
            )
            return
        if d.due_in(r.step_since, parse_duration(pause)) > 0:
            return
        open_verdict = next((v for v in d.status.analysis if v.decision == Decision.INCONCLUSIVE), None)
        if open_verdict is not None or len(d.status.analysis) < len(d.spec.rollout.analysis.metrics):
            message = open_verdict.message if open_verdict is not None else "no engine was looked at yet"
            d.say(Reason.STEPPING, f"step {r.step}/{len(steps)} waits for the analysis: {message}")
            return
    if not d.observed.fresh:
        d.need_fresh = True
        return
    if r.step < len(steps):
        d.decide(
            step=r.step + 1,
            weight=steps[r.step].weight,
            stage_since=d.stamp,
            step_since=None,
            inconclusive_since=None,
        )
    else:
        d.decide(stage=Stage.PROMOTING, weight=100, stage_since=d.stamp, step_since=None)


def watch(d: DeploymentDraft) -> None:
    """Look at both revisions' engines for as long as the candidate has weight, or is to get some."""
    r, stable = d.rollout, d.status.stable
    targets = d.targets(r.revision) + d.targets(stable.revision if stable is not None else None)
    window = f"{r.revision}@{r.started_at}"
    interval = parse_duration(d.spec.rollout.analysis.interval)
    d.scrape = Scrape(
        window=window,
        step=f"{window}/{r.step}/{r.stage}/{_counting_since(d, interval) or ''}",
        interval=interval,
        targets=tuple(targets),
        timeout=parse_duration(d.spec.rollout.stall_timeout),
    )


def _counting_since(d: DeploymentDraft, interval: float) -> str | None:
    """A step is judged from one interval after it counts: a new engine's first answers are its slowest."""
    since = d.rollout.step_since
    return since if since is not None and d.due_in(since, interval) <= 0 else None


def _analyse(d: DeploymentDraft) -> tuple[str, str] | None:
    """Every metric's verdict into status; a failed one, or too long an open one, takes the candidate back.

    Only what happened in this step is compared: the two revisions' shares were the same all the time then. Over steps
    of different weight a busy hour would count more for the one that had more weight in it.
    """
    r, stable, engines = d.rollout, d.status.stable, d.observed.engines
    analysis = d.spec.rollout.analysis
    if engines is None or stable is None or d.scrape is None or engines.step != d.scrape.step:
        return None
    if _counting_since(d, parse_duration(analysis.interval)) is None:
        return None
    assert r.revision is not None
    old, canary = (engines.step_totals.get(name, Totals(requests=0)) for name in (stable.revision, r.revision))
    silent = silence(d, stable.revision)
    verdicts = [judge(rule_of(metric), old, canary, analysis.min_samples, silent=silent) for metric in analysis.metrics]
    d.update(
        analysis=[
            VerdictStatus(
                metric=v.metric.value,
                decision=v.decision.value,
                stable=v.stable_value,
                canary=v.canary_value,
                stable_samples=v.stable_samples,
                canary_samples=v.canary_samples,
                message=v.message,
            )
            for v in verdicts
        ]
    )
    failed = next((v for v in verdicts if v.decision is Decision.FAIL), None)
    if failed is not None:
        return Reason.ANALYSIS_FAILED, failed.message
    unclear = next((v for v in verdicts if v.decision is Decision.INCONCLUSIVE), None)
    if unclear is None:
        if r.inconclusive_since is not None:
            d.set_rollout(inconclusive_since=None)
        return None
    if r.inconclusive_since is None:
        d.set_rollout(inconclusive_since=d.stamp)
    elif d.due_in(r.inconclusive_since, parse_duration(analysis.max_inconclusive)) <= 0:
        return Reason.ANALYSIS_INCONCLUSIVE, (
            f"no verdict within {analysis.max_inconclusive} (rollout.analysis.maxInconclusive): {unclear.message}"
        )
    return None
