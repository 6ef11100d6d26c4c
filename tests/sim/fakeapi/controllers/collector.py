"""Garbage collection by ownerReferences, with foreground, background and orphan semantics."""

from __future__ import annotations

from fakeapi.deletion import FOREGROUND, ORPHAN
from fakeapi.jsontools import copy
from fakeapi.store import Key, Obj

from .base import Controller


class GarbageCollector(Controller):
    name = "garbage-collector"

    def step(self) -> bool:
        store = self.cluster.server.store
        for key, obj in store.all():
            resource = self.cluster.server.resources.get((key.group, key.plural))
            if resource is None or not resource.collects_garbage:
                continue
            meta = obj["metadata"]
            finalizers = meta.get("finalizers") or []
            if "deletionTimestamp" in meta and ORPHAN in finalizers:
                return self._orphan(key, obj)
            if "deletionTimestamp" in meta and FOREGROUND in finalizers:
                if self._delete_dependents(key, obj):
                    return True
                continue
            if meta.get("ownerReferences") and "deletionTimestamp" not in meta and self._collect(key, obj):
                return True
        return False

    def _dependents(self, uid: str) -> list[tuple[Key, Obj]]:
        return [
            (key, obj)
            for key, obj in self.cluster.server.store.all()
            if any(ref["uid"] == uid for ref in obj["metadata"].get("ownerReferences") or [])
        ]

    def _orphan(self, key: Key, obj: Obj) -> bool:
        uid = obj["metadata"]["uid"]
        for dependent_key, dependent in self._dependents(uid):
            self._drop_owners(dependent_key, dependent, {uid})
            return True
        self.cluster.drop_finalizer(key.group, key.plural, obj, ORPHAN)
        return True

    def _delete_dependents(self, key: Key, obj: Obj) -> bool:
        uid = obj["metadata"]["uid"]
        blocked = False
        for dependent_key, dependent in self._dependents(uid):
            blocks = any(
                r["uid"] == uid and r.get("blockOwnerDeletion")
                for r in dependent["metadata"].get("ownerReferences") or []
            )
            blocked = blocked or blocks
            if "deletionTimestamp" not in dependent["metadata"] and self._collect(dependent_key, dependent):
                return True
        if blocked:
            return False
        self.cluster.drop_finalizer(key.group, key.plural, obj, FOREGROUND)
        return True

    def _collect(self, key: Key, obj: Obj) -> bool:
        """Deletes a dependent whose owners are all gone or going; drops the references to those that are gone."""
        solid, gone, waiting = set(), set(), set()
        for ref in obj["metadata"]["ownerReferences"]:
            owner = self._owner(key, ref)
            if owner is None:
                gone.add(ref["uid"])
            elif "deletionTimestamp" in owner["metadata"] and FOREGROUND in (owner["metadata"].get("finalizers") or []):
                waiting.add(ref["uid"])
            else:
                solid.add(ref["uid"])
        if solid:
            if not gone and not waiting:
                return False
            self._drop_owners(key, obj, gone | waiting)
            return True
        policy = "Background"
        if waiting and self._dependents(obj["metadata"]["uid"]):
            policy = "Foreground"
        finalizers = obj["metadata"].get("finalizers") or []
        if ORPHAN in finalizers:
            policy = "Orphan"
        meta = obj["metadata"]
        self.cluster.delete(
            key.group,
            key.plural,
            obj,
            propagationPolicy=policy,
            preconditions={"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]},
        )
        return True

    def _owner(self, key: Key, ref: Obj) -> Obj | None:
        resource = self.cluster.server.by_kind(ref["apiVersion"], ref["kind"])
        if resource is None:
            return None
        found = self.cluster.find(resource.group, resource.plural, key.namespace, ref["name"])
        return found if found is not None and found["metadata"]["uid"] == ref["uid"] else None

    def _drop_owners(self, key: Key, obj: Obj, uids: set[str]) -> None:
        new = copy(obj)
        new["metadata"]["ownerReferences"] = [r for r in obj["metadata"]["ownerReferences"] if r["uid"] not in uids]
        self.cluster.put(key.group, key.plural, new)
