"""DELETE: preconditions, grace periods, finalizers, propagation policies; and the end of an object by update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors
from .jsontools import copy, parse_time, rfc3339

if TYPE_CHECKING:
    from .kinds import Resource
    from .server import FakeApiServer

Obj = dict[str, Any]
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"


def finalizers_gone(new: Obj, old: Obj) -> bool:
    """An update that leaves a deleted object without finalizers (and without grace to wait for) ends it."""
    if new["metadata"].get("finalizers") or "deletionTimestamp" not in old["metadata"]:
        return False
    return not old["metadata"].get("deletionGracePeriodSeconds")


def _preconditions(resource: Resource, obj: Obj, options: Obj) -> None:
    wanted = options.get("preconditions") or {}
    meta = obj["metadata"]
    for name, field in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        if wanted.get(name) is not None and wanted[name] != meta[name]:
            raise errors.conflict(
                resource.group,
                resource.plural,
                meta["name"],
                f"the {field} in the precondition ({wanted[name]}) does not match the {field} in record ({meta[name]})",
            )


def _collector_finalizers(resource: Resource, meta: Obj, options: Obj) -> list[str]:
    have = meta.get("finalizers") or []
    policy = options.get("propagationPolicy")
    if policy is None and options.get("orphanDependents") is not None:
        policy = "Orphan" if options["orphanDependents"] else "Background"
    if policy is None:
        if ORPHAN in have:
            policy = "Orphan"
        elif FOREGROUND in have:
            policy = "Foreground"
        else:
            policy = "Orphan" if resource.orphans_by_default else "Background"
    out = [f for f in have if f not in (ORPHAN, FOREGROUND)]
    if policy == "Orphan":
        out.append(ORPHAN)
    elif policy == "Foreground":
        out.append(FOREGROUND)
    return out


def _grace(obj: Obj, options: Obj) -> int:
    """Pods only: how long their processes may take to end."""
    period = options.get("gracePeriodSeconds")
    if period is None:
        period = obj["spec"].get("terminationGracePeriodSeconds", 0)
    if not obj["spec"].get("nodeName") or obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        period = 0
    return 1 if period < 0 else int(period)


def delete_object(server: FakeApiServer, resource: Resource, namespace: str, name: str, options: Obj) -> Obj:
    policy = options.get("propagationPolicy")
    if policy not in (None, "Orphan", "Foreground", "Background"):
        raise errors.invalid(
            "meta.k8s.io",
            "DeleteOptions",
            "",
            [("propagationPolicy", "FieldValueNotSupported", f'Unsupported value: "{policy}"')],
        )
    old = server.get(resource, namespace, name)
    _preconditions(resource, old, options)
    obj = copy(old)
    meta = obj["metadata"]
    now = server.clock.now()
    deleting = "deletionTimestamp" in meta
    immediately = True
    if resource.graceful:
        if deleting and meta.get("deletionGracePeriodSeconds"):
            immediately = _shorten(meta, options, now)
            if not immediately and meta == old["metadata"]:
                return old  # already on its way, and not asked to hurry
        elif not deleting:
            period = _grace(obj, options)
            meta["deletionTimestamp"] = rfc3339(now + period)
            meta["deletionGracePeriodSeconds"] = period
            meta["generation"] = meta.get("generation", 0) + 1
            immediately = period == 0
    if resource.collects_garbage:
        finalizers = _collector_finalizers(resource, meta, options)
        meta.pop("finalizers", None)
        if finalizers:
            meta["finalizers"] = finalizers
    if meta.get("finalizers"):
        immediately = False
        if "deletionTimestamp" not in meta:
            meta["deletionTimestamp"] = rfc3339(now)
            if meta.get("generation"):
                meta["generation"] += 1
        if not resource.graceful or meta.get("deletionGracePeriodSeconds") is None:
            meta["deletionGracePeriodSeconds"] = 0
    if options.get("dryRun"):
        return obj
    key = server.key(resource, namespace, name)
    if immediately:
        last = server.store.remove(key)
        server.writes.record("delete", resource, last, None)
        if resource.returns_deleted:
            return {**obj, "metadata": {**meta, "resourceVersion": last["metadata"]["resourceVersion"]}}
        details = {"name": name, "kind": resource.plural, "uid": meta["uid"]}
        if resource.group:
            details["group"] = resource.group
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
    if obj == old:
        return old
    stored = server.store.put(key, obj)
    server.writes.record("delete", resource, stored, stored)
    return stored


def _shorten(meta: Obj, options: Obj, now: float) -> bool:
    """A second DELETE may only shorten the grace period. True if the object goes at once."""
    asked = options.get("gracePeriodSeconds")
    had = meta["deletionGracePeriodSeconds"]
    if asked is None or asked >= had:
        return False
    end = max(parse_time(meta["deletionTimestamp"]) - had + asked, now)
    meta["deletionTimestamp"] = rfc3339(end)
    meta["deletionGracePeriodSeconds"] = asked
    return bool(asked == 0)
