"""The two pod subresources that are actions: `binding` (the scheduler's) and `eviction`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors
from .jsontools import copy, rfc3339
from .selectors import label_selector

if TYPE_CHECKING:
    from .routes import Call
    from .server import FakeApiServer

Obj = dict[str, Any]
_OK = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def post(server: FakeApiServer, call: Call) -> Obj:
    pod = server.get(call.resource, call.namespace, call.name)
    body = call.body or {}
    if call.subresource == "binding":
        bind(server, pod, body["target"]["name"])
    else:
        evict(server, pod, body.get("deleteOptions") or {})
    return dict(_OK)


def bind(server: FakeApiServer, pod: Obj, node: str) -> Obj:
    resource, meta = server.resource("", "pods"), pod["metadata"]
    if pod["spec"].get("nodeName"):
        raise errors.conflict("", "pods/binding", meta["name"], f"pod {meta['name']} is already assigned to node")
    if "deletionTimestamp" in meta:
        raise errors.conflict("", "pods/binding", meta["name"], f"pod {meta['name']} is being deleted")
    new = copy(pod)
    new["spec"]["nodeName"] = node
    new["metadata"]["generation"] = new["metadata"].get("generation", 0) + 1
    set_condition(new, "PodScheduled", "True", server.clock.now())
    stored = server.store.put(server.key(resource, meta["namespace"], meta["name"]), new)
    server.writes.record("create/binding", resource, stored, stored)
    return stored


def evict(server: FakeApiServer, pod: Obj, options: Obj) -> None:
    """Refused with 429 while a disruption budget allows nothing; else marked and deleted gracefully."""
    resource, meta = server.resource("", "pods"), pod["metadata"]
    budgets, _ = server.list(server.resource("policy", "poddisruptionbudgets"), meta["namespace"], {})
    for budget in budgets:
        if label_selector(budget["spec"].get("selector"), meta.get("labels") or {}):
            allowed = (budget.get("status") or {}).get("disruptionsAllowed", 0)
            if allowed <= 0:
                raise errors.too_many_requests(
                    "Cannot evict pod as it would violate the pod's disruption budget.", retry_after=10
                )
    new = copy(pod)
    set_condition(
        new,
        "DisruptionTarget",
        "True",
        server.clock.now(),
        reason="EvictionByEvictionAPI",
        message="Eviction API: evicting",
    )
    stored = server.store.put(server.key(resource, meta["namespace"], meta["name"]), new)
    server.writes.record("create/eviction", resource, stored, stored)
    server.delete(resource, meta["namespace"], meta["name"], options, {})


def set_condition(obj: Obj, kind: str, status: str, now: float, *, reason: str = "", message: str = "") -> bool:
    """True if the condition changed."""
    conditions = obj.setdefault("status", {}).setdefault("conditions", [])
    old = next((c for c in conditions if c["type"] == kind), None)
    if old and old["status"] == status and old.get("reason", "") == reason:
        return False
    new = {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": rfc3339(now)}
    if reason:
        new["reason"] = reason
    if message:
        new["message"] = message
    if old:
        conditions[conditions.index(old)] = new
    else:
        conditions.append(new)
    return True
