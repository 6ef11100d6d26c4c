"""The one HTTPRoute: which revision gets which share now, and whether every Gateway took it over."""

from __future__ import annotations

from typing import Any

from finetune_operator.core.names import ANNOTATION_REJECTED, ANNOTATION_ROLLOUT, ANNOTATION_STABLE, Reason
from finetune_operator.core.serving.builders.route import (
    Acceptance,
    accepted,
    build_route,
    parent_refs,
    route_patch,
    weights,
)
from finetune_operator.core.serving.draft import DeploymentDraft
from finetune_operator.core.serving.rejection import rejected, remembered
from finetune_operator.core.types import Obj

_PATIENCE_SECONDS = 60.0
"""With a Gateway that says nothing of the newest version of the route, or refuses it."""


def canary_weight(d: DeploymentDraft) -> int:
    """What the route gives the candidate now."""
    rollout = d.status.rollout
    if d.observed.route is None or rollout is None or rollout.revision is None:
        return 0
    return weights(d.observed.route).get(rollout.revision, 0)


def acceptance(d: DeploymentDraft) -> Acceptance:
    """Of the route as it was observed."""
    if d.observed.route is None:
        return Acceptance(ok=False, reason=Reason.ROUTE_PENDING, message="the HTTPRoute is not made yet")
    return accepted(d.observed.route, parent_refs(d.owner, d.spec, d.config))


def out_of_patience(d: DeploymentDraft) -> bool:
    """A Gateway that nobody implements never answers."""
    return d.due_in(d.rollout.stage_since, _PATIENCE_SECONDS) <= 0


def set_route(d: DeploymentDraft, canary: int) -> bool:
    """Ask for this weight of the candidate; True when the route says so already."""
    stable, rollout = d.status.stable, d.status.rollout
    backends: list[tuple[str, int]] = []
    if stable is not None:
        backends.append((stable.revision, 100 - canary))
    if rollout is not None and rollout.revision is not None and (canary or stable is None):
        backends.append((rollout.revision, canary if stable is not None else 100))
    backends = [(revision, weight) for revision, weight in backends if weight]
    wanted = build_route(d.owner, d.spec, d.config, backends, _memory(d))
    if d.observed.route is None:
        if not d.address_refused:
            d.creates.append(wanted)
        return False
    if d.address_refused:
        wanted["spec"] = _same_address(d.observed.route, wanted["spec"]["rules"])
    patch = route_patch(d.observed.route, wanted)
    if patch is None:
        return True
    d.patches.append(patch)
    return False


def _same_address(route: Obj, rules: list[dict[str, Any]]) -> dict[str, Any]:
    """The route's own parents, hostnames and path: what the spec asks for now may not be served."""
    spec = dict(route["spec"])
    spec["rules"] = [{**rule, "backendRefs": rules[0]["backendRefs"]} for rule in spec.get("rules") or rules]
    return spec


def _memory(d: DeploymentDraft) -> dict[str, str]:
    notes = {}
    if d.status.stable is not None:
        notes[ANNOTATION_STABLE] = d.status.stable.revision
    rollout = d.status.rollout
    if rollout is not None and rollout.revision is not None and rollout.step:
        notes[ANNOTATION_ROLLOUT] = f"{rollout.revision}/{rollout.step}"
    if entries := rejected(d):
        notes[ANNOTATION_REJECTED] = remembered(entries)
    return notes
