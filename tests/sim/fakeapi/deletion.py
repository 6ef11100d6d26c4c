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
    obj: Obj = copy(old)
    meta = obj["metadata"]
    graceful, pending = _graceful(resource, obj, options, server.clock.now())
    if pending:
        return old  # already on its way, and not asked to hurry
    before = meta.get("finalizers") or []
    if resource.collects_garbage:
        finalizers = _collector_finalizers(resource, meta, options)
        meta.pop("finalizers", None)
        if finalizers:
            meta["finalizers"] = finalizers
    key = server.key(resource, namespace, name)
    touched = graceful or before or before != (meta.get("finalizers") or [])
    if meta.get("finalizers") and not graceful:
        _mark(meta, server.clock.now())
    waits = bool(meta.get("finalizers")) or (graceful and meta["deletionGracePeriodSeconds"] > 0)
    if options.get("dryRun"):
        return obj
    if touched and not waits and not graceful and (options.get("preconditions") or {}).get("resourceVersion"):
        # The real server compares the precondition with an object that it never read, and so always refuses.
        raise errors.conflict(resource.group, resource.plural, name, "the ResourceVersion in the precondition is stale")
    if obj != old and (waits or graceful):
        obj = server.store.put(key, obj)
        server.writes.record("delete", resource, obj, obj)
    if waits:
        return obj
    last = server.store.remove(key)
    server.writes.record("delete", resource, last, None)
    if resource.returns_deleted:
        return last
    details = {"name": name, "kind": resource.plural, "uid": meta["uid"]}
    if resource.group:
        details["group"] = resource.group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _mark(meta: Obj, now: float) -> None:
    """Deleted as far as anybody is told, but finalizers hold it."""
    if "deletionTimestamp" not in meta and meta.get("generation"):
        meta["generation"] += 1
    if "deletionTimestamp" not in meta or parse_time(meta["deletionTimestamp"]) > now:
        meta["deletionTimestamp"] = rfc3339(now)
    meta["deletionGracePeriodSeconds"] = 0


def _graceful(resource: Resource, obj: Obj, options: Obj, now: float) -> tuple[bool, bool]:
    """(this DELETE sets or shortens the grace period, an earlier one is still running and stays)."""
    meta = obj["metadata"]
    if not resource.graceful:
        return False, False
    if "deletionTimestamp" not in meta:
        period = _grace(obj, options)
        meta["deletionTimestamp"] = rfc3339(now + period)
        meta["deletionGracePeriodSeconds"] = period
        meta["generation"] = meta.get("generation", 0) + 1
        return True, False
    had = meta.get("deletionGracePeriodSeconds")
    if not had:
        return False, False
    asked = options.get("gracePeriodSeconds")
    if asked is None or asked >= had:
        return False, True
    end = parse_time(meta["deletionTimestamp"]) - had + asked
    if end < now:
        end, asked = now, (1 if asked else 0)
    meta["deletionTimestamp"] = rfc3339(end)
    meta["deletionGracePeriodSeconds"] = asked
    return True, False
