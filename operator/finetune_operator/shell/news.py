"""How urgent a watch event is for each object that it bears on.

News are what the status does not tell yet and somebody waits to read: a pod or a node is being taken away, a pod or a
Job has ended, a user changed a wish. What the status of that attempt tells already (a noticed preemption, an attempt
that is being stopped or is over) is no news any more: the pods of a gang that was told to stop end one after another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from finetune_operator.core.names import LABEL_ATTEMPT, LABEL_ROLE, ROLE_TRAINER
from finetune_operator.core.objects import has_condition, is_deleting, job_failing, job_finished, labels_of, pod_over
from finetune_operator.core.types import DEPLOYMENTS, FINETUNEJOBS, HTTPROUTES, JOBS, MODELDEPLOYMENTS, NODES, PODS, Obj
from finetune_operator.kube.keys import Key, key_of, ref_of
from finetune_operator.kube.store import Store
from finetune_operator.shell.lanes import Lane

_ALIVE = (False, False, False)
_PLANNED = (FINETUNEJOBS.kind, MODELDEPLOYMENTS.kind)


def take(store: Store, event: str | None, obj: Obj) -> Iterator[tuple[Key, Lane]]:
    """Gives the store a watch event; the keys that it bears on."""
    kind = str(obj.get("kind") or "")
    if kind not in Store.KINDS:
        return
    ref = ref_of(obj)
    before = store.get(kind, *ref)
    for key in store.apply(event, obj):
        yield key, lane_of(key, kind, before, store.get(kind, *ref), store.find(key))


def lane_of(key: Key, kind: str, before: Obj | None, after: Obj | None, owner: Obj | None) -> Lane:
    """`before` and `after` the change of an object of this kind; `owner` is the key's own object as it is now."""
    if kind == NODES.kind:
        return Lane.NOTICE  # the store tells of a node only when it shows something new
    if kind in _PLANNED:
        own = key == key_of(after or before or {})
        return _of_wish(before, after) if own else Lane.CHANGE
    if key.kind == MODELDEPLOYMENTS.kind or kind in (DEPLOYMENTS.kind, HTTPROUTES.kind):
        return Lane.CHANGE
    if kind not in (PODS.kind, JOBS.kind) or not _changed(kind, before, after):
        return Lane.WORK
    child = after or before or {}
    if labels_of(child).get(LABEL_ROLE) != ROLE_TRAINER:
        return Lane.WORK
    return Lane.CHANGE if _told(owner, labels_of(child).get(LABEL_ATTEMPT)) else Lane.NOTICE


def _of_wish(before: Obj | None, after: Obj | None) -> Lane:
    if before is None or after is None:
        return Lane.WORK
    return Lane.CHANGE if _wish(before) == _wish(after) else Lane.NOTICE


def _wish(obj: Obj) -> tuple[Any, ...]:
    meta = obj["metadata"]
    return meta.get("generation"), meta.get("deletionTimestamp"), meta.get("annotations"), meta.get("labels")


def _changed(kind: str, before: Obj | None, after: Obj | None) -> bool:
    """Something else became of a pod or a Job than that it goes on."""
    if after is None:
        return True
    return _state(kind, after) != (_state(kind, before) if before is not None else _ALIVE)


def _state(kind: str, obj: Obj) -> tuple[bool, bool, bool]:
    if kind == JOBS.kind:
        return is_deleting(obj), job_failing(obj), job_finished(obj)
    return is_deleting(obj), has_condition(obj, "DisruptionTarget"), pod_over(obj, ())


def _told(owner: Obj | None, attempt: str | None) -> bool:
    """Whether the status says already that this attempt is ending."""
    status = (owner or {}).get("status") or {}
    attempts = status.get("attempts") or ()
    if not attempts or str(attempts[-1].get("index")) != attempt:
        return True
    if attempts[-1].get("finishedAt") or attempts[-1].get("stopping"):
        return True
    return any(str(record.get("attempt")) == attempt for record in status.get("preemptions") or ())
