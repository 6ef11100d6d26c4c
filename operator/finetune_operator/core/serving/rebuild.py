"""A status that was lost comes back from what stands on the route and on the revisions' Deployments.

Nothing is rolled out for it: what was promoted is stable again, a candidate that had weight goes on at its step, and
what was rejected stays rejected.
"""

from __future__ import annotations

from finetune_api.deployment_status import RolloutStatus, Stage
from finetune_api.revision import model_key, trial_key
from finetune_operator.core.names import ANNOTATION_ROLLOUT, ANNOTATION_STABLE
from finetune_operator.core.serving.builders.route import weights
from finetune_operator.core.serving.draft import DeploymentDraft
from finetune_operator.core.serving.promotion import revision_status
from finetune_operator.core.serving.rejection import recall, retry_taken
from finetune_operator.core.types import Obj


def lost(d: DeploymentDraft) -> bool:
    return d.observed.route is not None and d.status.stable is None and d.status.rollout is None


def rebuild(d: DeploymentDraft) -> None:
    """Sets `stable`, `rollout`, `rejected` and `handled`; an intent when there was anything to bring back."""
    route = d.observed.route
    assert route is not None
    rejected = recall(route)
    stable = d.record(_annotation(route, ANNOTATION_STABLE))
    if stable is not None:
        d.update(stable=revision_status(stable.revision, stable.model, stable.image))
    rollout = _rollout(d, route)
    if rollout is not None:
        d.update(rollout=rollout)
    if rejected and not d.status.rejected:
        d.update(rejected=rejected, handled=retry_taken(d, rejected))
    d.intent = stable is not None or rollout is not None


def _rollout(d: DeploymentDraft, route: Obj) -> RolloutStatus | None:
    text = _annotation(route, ANNOTATION_ROLLOUT)
    revision, _, number = (text or "").partition("/")
    record = d.record(revision)
    weight = weights(route).get(revision, 0)
    if record is None or not number.isdigit() or not weight:
        return None  # one without weight was taken back, or can as well begin anew
    steps = d.spec.rollout.steps
    step = min(max(1, int(number)), max(1, len(steps)))
    model = record.model
    # With all the traffic on it there is nothing left to compare it with.
    stepping = bool(steps) and d.status.stable is not None and weight < 100
    return RolloutStatus(
        key=model_key(model.uri, model.digest, require_gate=d.spec.model.require_gate, secret=model.secret),
        revision=revision,
        model=model,
        trial=trial_key(d.spec),
        stage=Stage.STEPPING if stepping else Stage.PROMOTING,
        image=record.image,
        step=step,
        weight=max(steps[step - 1].weight, weight) if stepping else 100,
        highest=weight,
        exposed_at=d.stamp,
        started_at=d.stamp,
        stage_since=d.stamp,
    )


def _annotation(route: Obj, name: str) -> str | None:
    value = (route["metadata"].get("annotations") or {}).get(name)
    return str(value) if value else None
