"""The verbs: what a real API server does between a request and its store.

Everything here is synchronous and deterministic (clock, ids and names are injected); the front ends add transport,
faults and waiting.
"""

from __future__ import annotations

import random
import uuid
from typing import Any

from . import applying, codec, errors, managers, selectors
from .clock import FakeClock
from .deletion import delete_object, finalizers_gone
from .jsontools import copy, rfc3339
from .kinds import BUILTIN, Resource
from .patches import json_patch, merge_patch, strategic_patch
from .store import Key, Obj, Store
from .strategies import Context, Strategy, immutable
from .writes import WriteLog
from .zero import zero

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
APPLY = "application/apply-patch+yaml"
_PATCHES = {
    "application/merge-patch+json": merge_patch,
    "application/json-patch+json": json_patch,
    "application/strategic-merge-patch+json": strategic_patch,
}
_SERVER_SET = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")


class FakeApiServer:
    def __init__(self, clock: FakeClock | None = None, *, seed: int = 0) -> None:
        self.clock = clock or FakeClock()
        self.random = random.Random(seed)
        self.store = Store()
        self.writes = WriteLog()
        self.resources: dict[tuple[str, str], Resource] = {(r.group, r.plural): r for r in BUILTIN}
        self.gone_over_http = False
        self.tracks_fields = True
        """Keeps managedFields on updates; long simulations of clients that never apply save a third of their time."""
        self._ips = 0
        self._stored_otherwise: set[str] = set()
        for name in ("default", "kube-system"):
            self.create(self.resource("", "namespaces"), "", {"metadata": {"name": name}}, {}, "fake")

    # Kinds

    def resource(self, group: str, plural: str) -> Resource:
        try:
            return self.resources[(group, plural)]
        except KeyError:
            raise errors.unknown_path() from None

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        group = api_version.rpartition("/")[0]
        return next((r for r in self.resources.values() if r.group == group and r.kind == kind), None)

    def register(self, resource: Resource) -> Resource:
        self.resources[(resource.group, resource.plural)] = resource
        return resource

    # Reading

    def key(self, resource: Resource, namespace: str, name: str) -> Key:
        return Key(resource.group, resource.plural, namespace if resource.namespaced else "", name)

    def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        obj = self.store.get(self.key(resource, namespace, name))
        if obj is None:
            raise errors.not_found(resource.group, resource.plural, name)
        return obj

    def list(
        self, resource: Resource, namespace: str, params: dict[str, str], *, at: int | None = None
    ) -> tuple[list[Obj], int]:
        """All matching objects, by namespace and name, as of a revision (default: now)."""
        revision = self.store.revision if at is None else at
        match = selectors.both(params, resource.kind)
        state = self.store.at(resource.group, resource.plural, revision)
        keys = sorted(k for k in state if not namespace or k.namespace == namespace)
        return [state[k] for k in keys if match is None or match(state[k])], revision

    # Writing

    def create(self, resource: Resource, namespace: str, body: Obj, params: dict[str, str], manager: str) -> Obj:
        obj = codec.decode(resource, namespace, body, params)
        meta = obj["metadata"]
        versioned = bool(meta.get("resourceVersion"))
        for name in _SERVER_SET:
            meta.pop(name, None)
        who = managers.Manager(manager, "Update", resource.api_version)
        obj = self._created(resource, obj, who)
        return self.insert(resource, namespace, obj, params, "create", versioned)

    def insert(
        self,
        resource: Resource,
        namespace: str,
        obj: Obj,
        params: dict[str, str],
        verb: str,
        versioned: bool = False,
    ) -> Obj:
        self._need_namespace(resource, namespace)
        meta = obj["metadata"]
        meta.pop("resourceVersion", None)
        for name in _SERVER_SET:
            meta.pop(name, None)
        generated = not meta.get("name") and bool(meta.get("generateName"))
        if generated:
            meta["name"] = meta["generateName"] + "".join(self.random.choices(_SUFFIX, k=5))
        if not meta.get("name"):
            raise errors.invalid(
                resource.group,
                resource.kind,
                "",
                [("metadata.name", "FieldValueRequired", "Required value: name or generateName is required")],
            )
        if resource.namespaced:
            meta["namespace"] = namespace
        meta["uid"] = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        meta["creationTimestamp"] = rfc3339(self.clock.now())
        if resource.generation or resource.custom:
            meta["generation"] = 1
        if resource.has_status and resource.custom:
            obj.pop("status", None)
        context = Context(self.clock.now(), self._allocate_ip, self._stored_otherwise.add)
        obj = resource.strategy.prepare_create(obj, context)
        codec.validate(resource, obj, None)
        if versioned:
            raise errors.ApiError(500, "", "resourceVersion should not be set on objects to be created")
        key = self.key(resource, namespace, meta["name"])
        old = self.store.get(key)
        if old is not None:
            deleting = "deletionTimestamp" in old["metadata"]
            raise errors.already_exists(resource.group, resource.plural, meta["name"], deleting=deleting)
        if params.get("dryRun"):
            return obj
        stored = self.store.put(key, obj)
        self.writes.record(verb, resource, stored, stored)
        return stored

    def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Obj,
        params: dict[str, str],
        manager: str,
        subresource: str = "",
    ) -> tuple[Obj, bool]:
        """PUT. Returns the object and whether it was created."""
        new = codec.decode(resource, namespace, body, params)
        sent = new["metadata"].get("name")
        if sent and sent != name:
            raise errors.bad_request(f"the name of the object ({sent}) does not match the name on the URL ({name})")
        if not sent:
            raise errors.bad_request("name must be provided")
        old = self.store.get(self.key(resource, namespace, name))
        who = managers.Manager(manager, "Update", resource.api_version, subresource)
        version = new["metadata"].get("resourceVersion")
        uid = new["metadata"].get("uid")
        if old is None:
            if not resource.create_on_update or uid:
                if uid and resource.create_on_update:
                    raise self._precondition(resource, name, uid, "")
                raise errors.not_found(resource.group, resource.plural, name)
            self._need_namespace(resource, namespace)
            obj = self._created(resource, new, who)
            return self.insert(resource, namespace, obj, params, "update"), True
        if uid and uid != old["metadata"]["uid"]:
            raise self._precondition(resource, name, uid, old["metadata"]["uid"])
        if not version and not resource.unconditional_update:
            raise errors.invalid(
                resource.group,
                resource.plural,
                name,
                [
                    (
                        "metadata.resourceVersion",
                        "FieldValueInvalid",
                        "Invalid value: 0: must be specified for an update",
                    )
                ],
            )
        self.check_version(resource, old, version)
        return self._replace(resource, old, new, params, who, "update"), False

    def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Any,
        content_type: str,
        params: dict[str, str],
        manager: str,
        subresource: str = "",
    ) -> tuple[Obj, bool]:
        if content_type == APPLY:
            return applying.apply(self, resource, namespace, name, body, params, subresource)
        function = _PATCHES.get(content_type)
        if function is None or (resource.custom and function is strategic_patch):
            raise errors.unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: "
                + ", ".join([*_PATCHES, APPLY])
            )
        if params.get("force") is not None:
            raise errors.invalid(
                "meta.k8s.io",
                "PatchOptions",
                "",
                [("force", "FieldValueForbidden", "Forbidden: may not be specified for non-apply patch")],
            )
        old = self.get(resource, namespace, name)
        patched = function(copy(old), body)
        new = codec.decode(resource, namespace, patched, params)
        if new["metadata"].get("name") != name:
            raise errors.bad_request("the name of the object does not match the name on the URL")
        self.check_version(resource, old, new["metadata"].get("resourceVersion"))
        who = managers.Manager(manager, "Update", resource.api_version, subresource)
        return self._replace(resource, old, new, params, who, "patch"), False

    def delete(self, resource: Resource, namespace: str, name: str, options: Obj | None, params: dict[str, str]) -> Obj:
        return delete_object(self, resource, namespace, name, {**(options or {}), **codec.query_options(params)})

    # Shared steps

    def _created(self, resource: Resource, obj: Obj, who: managers.Manager) -> Obj:
        if not self.tracks_fields:
            return obj
        empty = self.empty(resource)
        return managers.update(None, obj, who, resource.type, self.clock.now(), resource.reset(""), empty)

    def empty(self, resource: Resource) -> Obj:
        return {} if resource.custom else zero(resource.group, resource.kind)

    def _replace(
        self,
        resource: Resource,
        old: Obj,
        new: Obj,
        params: dict[str, str],
        who: managers.Manager,
        verb: str,
    ) -> Obj:
        scoped = codec.for_endpoint(resource, old, new, who.subresource)
        if not self.tracks_fields:
            return self.store_update(resource, old, scoped, params, who.subresource, verb)
        obj = managers.update(old, scoped, who, resource.type, self.clock.now(), resource.reset(who.subresource))
        return self.store_update(resource, old, obj, params, who.subresource, verb)

    def store_update(
        self, resource: Resource, old: Obj, new: Obj, params: dict[str, str], subresource: str, verb: str
    ) -> Obj:
        """The part of an update that follows field ownership; ends in a write, in nothing, or in the object's end."""
        sent = new["metadata"].get("uid")
        new = codec.for_endpoint(resource, old, new, subresource)
        meta, was = new["metadata"], old["metadata"]
        if sent and sent != was["uid"] and not (resource.custom and subresource):
            raise errors.invalid(resource.group, resource.kind, was["name"], [immutable("metadata.uid", sent)])
        for name in ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"):
            meta.pop(name, None)
            if name in was:
                meta[name] = was[name]
        if resource.namespaced:
            meta["namespace"] = was["namespace"]
        meta["resourceVersion"] = was["resourceVersion"]
        new = copy(new)
        meta = new["metadata"]
        if not subresource:
            new = resource.strategy.prepare_update(new, old)
            if (resource.generation or resource.custom) and codec.generation_moves(resource, new, old):
                meta["generation"] = was.get("generation", 0) + 1
            codec.validate(resource, new, old)
            codec.validate_metadata(resource, new, old)
        elif subresource == "status":
            causes = resource.strategy.validate_status(new, old)
            if causes:
                raise errors.invalid(resource.group, resource.kind, was["name"], causes)
        if params.get("dryRun"):
            return new
        if finalizers_gone(new, old):
            self.store.remove(self.key(resource, was.get("namespace", ""), was["name"]))
            self.writes.record(verb, resource, new, None)
            return new
        stored_otherwise = was["uid"] in self._stored_otherwise
        self._stored_otherwise.discard(was["uid"])
        if managers.same_but_times(old, new) and not stored_otherwise:
            return old
        stored = self.store.put(self.key(resource, was.get("namespace", ""), was["name"]), new)
        self.writes.record(verb if not subresource else f"{verb}/{subresource}", resource, stored, stored)
        return stored

    def check_version(self, resource: Resource, old: Obj, version: str | None) -> None:
        if version and version != old["metadata"]["resourceVersion"]:
            raise errors.conflict(resource.group, resource.plural, old["metadata"]["name"], errors.MODIFIED)

    def _precondition(self, resource: Resource, name: str, sent: str, have: str) -> errors.ApiError:
        why = f"Precondition failed: UID in precondition: {sent}, UID in object meta: {have}"
        return errors.conflict(resource.group, resource.plural, name, why)

    def _need_namespace(self, resource: Resource, namespace: str) -> None:
        if not resource.namespaced:
            return
        found = self.store.get(Key("", "namespaces", "", namespace))
        if found is None:
            raise errors.not_found("", "namespaces", namespace)
        if "deletionTimestamp" in found["metadata"]:
            raise errors.forbidden(resource.group, resource.plural, "", f"namespace {namespace} is being terminated")

    def _allocate_ip(self) -> str:
        self._ips += 1
        return f"10.96.{self._ips // 250}.{self._ips % 250 + 1}"


__all__ = ["APPLY", "FakeApiServer", "Strategy"]
