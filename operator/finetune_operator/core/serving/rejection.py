"""Which revisions are not tried again, and the annotations by which a person says otherwise.

A rejection holds for a revision under the analysis and verification it was rejected by. It stands in status and, for
the day the status is lost, as an annotation of the route.
"""

from __future__ import annotations

import json

from finetune_api.deployment_status import MAX_REJECTED, Handled, Rejection, Stage
from finetune_operator.core.names import (
    ANNOTATION_ABORT,
    ANNOTATION_PROMOTE,
    ANNOTATION_REJECTED,
    ANNOTATION_RETRY,
)
from finetune_operator.core.serving.draft import DeploymentDraft
from finetune_operator.core.types import Obj

_KEPT_MESSAGE = 200
REMEMBERED = ("RolledBack", "Aborted")
"""Outcomes that forbid another try; a candidate that was superseded did nothing wrong."""


def rejection(d: DeploymentDraft, names: tuple[str | None, ...], trial: str) -> Rejection | None:
    """The entry that forbids a candidate; it may be known by its revision or by its model's key."""
    return next((r for r in d.status.rejected if r.revision in names and r.trial == trial), None)


def rejected(d: DeploymentDraft) -> list[Rejection]:
    """With what the rollback under way will add: it stands on the route before it stands in status, so that no moment
    is left in which a status that is lost takes it along."""
    known, r = d.status.rejected, d.status.rollout
    if r is None or r.stage is not Stage.ROLLING_BACK or r.outcome not in REMEMBERED:
        return known
    name = r.revision or r.key
    others = [entry for entry in known if (entry.revision, entry.trial) != (name, r.trial)]
    entry = Rejection(
        revision=name,
        trial=r.trial,
        reason=r.reason or r.outcome,
        message=(r.message or "")[:1024],
        at=r.stage_since,
    )
    return [*others, entry][-MAX_REJECTED:]


def remembered(entries: list[Rejection]) -> str:
    """The annotation's value; at most 20 short entries."""
    return json.dumps(
        [entry.to_wire() | {"message": entry.message[:_KEPT_MESSAGE]} for entry in entries],
        separators=(",", ":"),
    )


def recall(route: Obj) -> list[Rejection]:
    """From the annotation; what cannot be read is left out."""
    text = (route["metadata"].get("annotations") or {}).get(ANNOTATION_REJECTED)
    try:
        return [Rejection.model_validate(entry) for entry in json.loads(text or "[]")]
    except ValueError:
        return []


def retry_taken(d: DeploymentDraft, entries: list[Rejection]) -> Handled:
    """For a status that was lost: an annotation that stands beside the rejection it names was given before that."""
    asked = _asked(d, ANNOTATION_RETRY)
    return Handled(retry=asked if any(entry.revision == asked for entry in entries) else None)


def take_retry(d: DeploymentDraft) -> None:
    """`finetune.dev/retry: <revision>` clears its rejections, once per value."""
    asked = _asked(d, ANNOTATION_RETRY)
    if asked is None or asked == d.status.handled.retry:
        _forget(d, "retry", asked)
        return
    kept = [r for r in d.status.rejected if r.revision != asked]
    d.update(rejected=kept, handled=d.status.handled.model_copy(update={"retry": asked}))
    d.intent = True


def asked_to(d: DeploymentDraft, what: str) -> bool:
    """Whether `promote` or `abort` names exactly this revision and step. A value that does not match is answered once
    (the change of `handled` becomes an Event) and has no effect."""
    asked = _asked(d, ANNOTATION_PROMOTE if what == "promote" else ANNOTATION_ABORT)
    done = getattr(d.status.handled, what)
    if asked is None or asked == done:
        _forget(d, what, asked)
        return False
    d.update(handled=d.status.handled.model_copy(update={what: asked}))
    rollout = d.status.rollout
    return rollout is not None and asked == f"{rollout.revision}/{rollout.step}"


def _asked(d: DeploymentDraft, annotation: str) -> str | None:
    value = (d.owner["metadata"].get("annotations") or {}).get(annotation)
    return str(value)[:253] if value else None


def _forget(d: DeploymentDraft, what: str, asked: str | None) -> None:
    """An annotation that was taken away may be given again."""
    if asked is None and getattr(d.status.handled, what) is not None:
        d.update(handled=d.status.handled.model_copy(update={what: None}))
