"""`/scale`: the same object seen as an autoscaling/v1 Scale, as `kubectl scale` and the HPA see it.

Not simulated: a write that leaves the number as it is, after which the real server lists its owner twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors, managers
from .jsontools import copy, dig
from .kinds import Resource
from .patches import json_patch, merge_patch, strategic_patch

if TYPE_CHECKING:
    from .server import FakeApiServer

Obj = dict[str, Any]
_PATCHES = {
    "application/merge-patch+json": merge_patch,
    "application/json-patch+json": json_patch,
    "application/strategic-merge-patch+json": strategic_patch,
}


def _selector_text(selector: Obj | None) -> str:
    """A LabelSelector in the query syntax."""
    parts = [f"{key}={value}" for key, value in sorted(((selector or {}).get("matchLabels") or {}).items())]
    for rule in (selector or {}).get("matchExpressions") or []:
        values = ",".join(sorted(rule.get("values") or []))
        form = {"In": "{k} in ({v})", "NotIn": "{k} notin ({v})", "Exists": "{k}", "DoesNotExist": "!{k}"}
        parts.append(form[rule["operator"]].format(k=rule["key"], v=values))
    return ",".join(parts)


def view(resource: Resource, obj: Obj) -> Obj:
    scale = resource.scale
    assert scale is not None
    meta = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    spec, status = {}, {"replicas": dig(obj, *scale.status_replicas, default=0)}
    if wanted := dig(obj, *scale.replicas):
        spec["replicas"] = wanted  # 0 is left out on the wire
    text = dig(obj, *scale.selector, default="") if resource.custom else _selector_text(obj["spec"].get("selector"))
    if text:
        status["selector"] = text
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: meta[name] for name in kept if name in meta},
        "spec": spec,
        "status": status,
    }


def patch(server: FakeApiServer, resource: Resource, namespace: str, name: str, body: Any, content: str) -> Obj:
    """The Scale that a PATCH makes of the present one."""
    function = _PATCHES.get(content)
    if function is None:
        raise errors.unsupported_media_type(f"/scale takes no {content} here")
    patched: Obj = function(view(resource, server.get(resource, namespace, name)), body)
    if not isinstance(dig(patched, "spec", "replicas", default=0), int):
        raise errors.ApiError(422, "Invalid", "the patched Scale cannot be read: spec.replicas is not an integer")
    return patched


def put(
    server: FakeApiServer,
    resource: Resource,
    namespace: str,
    name: str,
    body: Any,
    params: dict[str, str],
    manager: str,
    verb: str,
) -> Obj:
    scale = resource.scale
    assert scale is not None
    if not isinstance(body, dict) or not isinstance(dig(body, "spec", "replicas", default=0), int):
        raise errors.bad_request("Scale cannot be handled: spec.replicas is not an integer")
    meta = body.get("metadata") or {}
    if meta.get("name", name) != name:
        raise errors.bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
    old = server.get(resource, namespace, name)
    if meta.get("uid") and meta["uid"] != old["metadata"]["uid"]:
        why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {old['metadata']['uid']}"
        raise errors.conflict(resource.group, resource.plural, name, why)
    replicas = dig(body, "spec", "replicas", default=0)
    if replicas < 0:
        message = f"Invalid value: {replicas}: should be a non-negative integer"
        raise errors.invalid("autoscaling", "Scale", name, [("spec.replicas", "FieldValueInvalid", message)])
    server.check_version(resource, old, meta.get("resourceVersion"))
    new = copy(old)
    at = new
    for part in scale.replicas[:-1]:
        at = at.setdefault(part, {})
    at[scale.replicas[-1]] = replicas
    who = managers.Manager(manager, "Update", resource.api_version, "scale")
    owned = managers.update(old, new, who, resource.type, server.clock.now(), resource.reset(""))
    stored = server.store_update(resource, old, owned, params, "", verb)
    return view(resource, stored)
