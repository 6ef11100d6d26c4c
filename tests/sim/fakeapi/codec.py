"""Between the wire and the store: decoding, pruning and defaulting of bodies, validation, and which endpoint sees what."""

from __future__ import annotations

from typing import Any

from . import errors
from .jsontools import copy
from .kinds import Resource
from .strategies.custom import Custom
from .strategies.typed import decode as decode_typed
from .zero import fill, zero

Obj = dict[str, Any]


def decode(resource: Resource, namespace: str, body: Any, params: dict[str, str]) -> Obj:
    if not isinstance(body, dict):
        raise errors.bad_request("the body is not an object")
    obj: Obj = copy(body)
    if resource.custom and not (obj.get("kind") and obj.get("apiVersion")):
        raise errors.bad_request("Object 'Kind' is missing in the body")
    if obj.get("kind", resource.kind) != resource.kind or (
        obj.get("apiVersion", resource.api_version) != resource.api_version
    ):
        raise errors.bad_request(
            f"the object provided is {obj.get('apiVersion')} {obj.get('kind')}, "
            f"expected {resource.api_version} {resource.kind}"
        )
    obj["kind"], obj["apiVersion"] = resource.kind, resource.api_version
    meta = obj["metadata"] = dict(obj.get("metadata") or {})
    sent = meta.get("namespace")
    if resource.namespaced and sent and sent != namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if resource.namespaced:
        meta["namespace"] = namespace
    elif sent:
        raise errors.bad_request("namespace must not be set on a cluster-scoped object")
    strict = params.get("fieldValidation") == "Strict"
    if isinstance(resource.strategy, Custom):
        unknown = resource.strategy.unknown(obj)
        if unknown and strict:
            listed = ", ".join(f'unknown field "{path}"' for path in unknown)
            raise errors.bad_request(f"{resource.kind} cannot be handled: strict decoding error: {listed}")
    elif resource.kind != "CustomResourceDefinition":
        obj = fill(decode_typed(obj, resource.kind, strict=strict), zero(resource.group, resource.kind))
    meta = obj["metadata"]
    for name in ("labels", "annotations", "finalizers", "ownerReferences"):
        if name in meta and not meta[name]:
            del meta[name]
    return resource.strategy.decode(obj)


def check_typed(resource: Resource, applied: Obj) -> None:
    """An applied configuration is typed before anything is merged; what has no type is a server error there."""
    if isinstance(resource.strategy, Custom):
        wrong = [f"{path}: field not declared in schema" for path in resource.strategy.unknown(applied)]
        wrong += resource.strategy.mistyped(applied)
    else:
        try:
            decode_typed(applied, resource.kind, strict=True)
            wrong = []
        except errors.ApiError as failure:
            wrong = [failure.message]
    if wrong:
        raise errors.ApiError(500, "", f"failed to create typed patch object ({'; '.join(wrong)})")


def validate(resource: Resource, new: Obj, old: Obj | None) -> None:
    causes: list[tuple[str, str, str]] = list(resource.strategy.validate(new, old))
    name = new["metadata"]["name"]
    if old is None and not _is_dns_name(name):
        causes.insert(
            0,
            (
                "metadata.name",
                "FieldValueInvalid",
                f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case '
                "alphanumeric characters, '-' or '.'",
            ),
        )
    for key, value in (new["metadata"].get("labels") or {}).items():
        if len(value) > 63:
            causes.append(
                ("metadata.labels", "FieldValueInvalid", f'Invalid value: "{key}": must be no more than 63 bytes')
            )
    if causes:
        raise errors.invalid(resource.group, resource.kind, name, causes)


def validate_metadata(resource: Resource, new: Obj, old: Obj) -> None:
    if "deletionTimestamp" in old["metadata"]:
        extra = set(new["metadata"].get("finalizers") or []) - set(old["metadata"].get("finalizers") or [])
        if extra:
            raise errors.invalid(
                resource.group,
                resource.kind,
                new["metadata"]["name"],
                [
                    (
                        "metadata.finalizers",
                        "FieldValueForbidden",
                        "Forbidden: no new finalizers can be added if the object is being deleted",
                    )
                ],
            )


def query_options(params: dict[str, str]) -> Obj:
    options: Obj = {}
    if params.get("propagationPolicy"):
        options["propagationPolicy"] = params["propagationPolicy"]
    if params.get("gracePeriodSeconds"):
        options["gracePeriodSeconds"] = int(params["gracePeriodSeconds"])
    if params.get("dryRun"):
        options["dryRun"] = [params["dryRun"]]
    return options


def for_endpoint(resource: Resource, old: Obj, new: Obj, subresource: str) -> Obj:
    """The main endpoint keeps the old status; `/status` keeps everything else."""
    if subresource == "status":
        if resource.custom:
            meta = {**old["metadata"]}
            meta.pop("managedFields", None)
            if "managedFields" in new["metadata"]:
                meta["managedFields"] = new["metadata"]["managedFields"]
            out = {**old, "metadata": meta}
        else:
            meta = dict(new["metadata"])
            if resource.kind == "Pod":
                meta.pop("ownerReferences", None)
                if "ownerReferences" in old["metadata"]:
                    meta["ownerReferences"] = old["metadata"]["ownerReferences"]
            out = {**new, "metadata": meta}
            out.pop("spec", None)
            if "spec" in old:
                out["spec"] = old["spec"]
        out.pop("status", None)
        if "status" in new:
            out["status"] = new["status"]
        return out
    if not resource.has_status:
        return new
    out = {k: v for k, v in new.items() if k != "status"}
    if "status" in old:
        out["status"] = old["status"]
    return out


def generation_moves(resource: Resource, new: Obj, old: Obj) -> bool:
    if resource.custom:
        ignored = {"metadata", "status"} if resource.has_status else {"metadata"}
        return {k: v for k, v in new.items() if k not in ignored} != {k: v for k, v in old.items() if k not in ignored}
    if resource.kind == "Deployment" and new["metadata"].get("annotations") != old["metadata"].get("annotations"):
        return True  # they are copied to its ReplicaSets
    return new.get("spec") != old.get("spec")


def _is_dns_name(name: str) -> bool:
    parts = name.split(".")
    return len(name) <= 253 and all(
        part and part[0].isalnum() and part[-1].isalnum() and part.replace("-", "").isalnum() and part == part.lower()
        for part in parts
    )
