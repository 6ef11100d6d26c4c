"""The apply verb: what is checked before and after the merge that `managers.apply` makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import codec, errors, managers
from .jsontools import copy
from .kinds import Resource

if TYPE_CHECKING:
    from .server import FakeApiServer

Obj = dict[str, Any]


def apply(
    server: FakeApiServer,
    resource: Resource,
    namespace: str,
    name: str,
    body: Any,
    params: dict[str, str],
    subresource: str,
) -> tuple[Obj, bool]:
    manager = params.get("fieldManager")
    if not manager:
        raise errors.invalid(
            "meta.k8s.io",
            "PatchOptions",
            "",
            [("fieldManager", "FieldValueRequired", "Required value: is required for apply patch")],
        )
    if not isinstance(body, dict) or not body.get("kind") or not body.get("apiVersion"):
        raise errors.bad_request("invalid object type: apiVersion and kind are needed in an apply patch")
    applied = copy(body)
    meta = applied.setdefault("metadata", {})
    if applied["apiVersion"] != resource.api_version:
        raise errors.bad_request(
            f"Incorrect version specified in apply patch. Specified patch version: {applied['apiVersion']}, "
            f"expected: {resource.api_version}"
        )
    if meta.get("managedFields") is not None:
        raise errors.bad_request("metadata.managedFields must be nil")
    if meta.setdefault("name", name) != name:
        raise errors.bad_request("the name in the apply patch does not match the name on the URL")
    old = server.store.get(server.key(resource, namespace, name))
    if old is None and subresource and not resource.create_on_update:
        raise errors.not_found(resource.group, resource.plural, name)
    codec.check_typed(resource, applied)
    if old is None and meta.get("uid"):
        raise errors.conflict(
            resource.group,
            resource.plural,
            name,
            f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found",
        )
    who = managers.Manager(manager, "Apply", resource.api_version, subresource)
    obj = managers.apply(
        old,
        applied,
        who,
        resource.type,
        server.clock.now(),
        force=params.get("force") in ("true", "True", "1"),
        reset=resource.reset(subresource),
        empty=server.empty(resource),
    )
    managed = obj["metadata"].pop("managedFields", None)
    obj = codec.decode(resource, namespace, obj, params)
    if managed:
        obj["metadata"]["managedFields"] = managed
    if old is None:
        return server.insert(resource, namespace, obj, params, "apply"), True
    server.check_version(resource, old, obj["metadata"].get("resourceVersion"))
    return server.store_update(resource, old, obj, params, subresource, "apply"), False
