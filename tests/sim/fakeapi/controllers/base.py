"""What the controllers share: reading and writing with the privileges of a component of the control plane."""

from __future__ import annotations

from typing import Any

from fakeapi.errors import ApiError
from fakeapi.jsontools import copy
from fakeapi.server import FakeApiServer

Obj = dict[str, Any]


def active(pod: Obj) -> bool:
    """Neither finished nor on its way out."""
    return not finished(pod) and "deletionTimestamp" not in pod["metadata"]


def finished(pod: Obj) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def condition(obj: Obj, kind: str) -> Obj | None:
    conditions = obj.get("status", {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == kind), None)


def is_true(obj: Obj, kind: str) -> bool:
    found = condition(obj, kind)
    return found is not None and found["status"] == "True"


class Cluster:
    """Typed access to the store for one component, which signs its writes with its own name."""

    def __init__(self, server: FakeApiServer, name: str) -> None:
        self.server, self.name = server, name

    @property
    def now(self) -> float:
        return self.server.clock.now()

    def objects(self, group: str, plural: str) -> list[Obj]:
        return list(self.server.store.of_type(group, plural).values())

    def pods(self) -> list[Obj]:
        return self.objects("", "pods")

    def nodes(self) -> list[Obj]:
        return self.objects("", "nodes")

    def find(self, group: str, plural: str, namespace: str, name: str) -> Obj | None:
        resource = self.server.resource(group, plural)
        return self.server.store.get(self.server.key(resource, namespace, name))

    def owned_pods(self, uid: str) -> list[Obj]:
        return [p for p in self.pods() if any(r["uid"] == uid for r in p["metadata"].get("ownerReferences") or [])]

    def create(self, group: str, plural: str, namespace: str, body: Obj) -> Obj:
        with self._signed():
            return self.server.create(self.server.resource(group, plural), namespace, body, {}, self.name)

    def put(self, group: str, plural: str, obj: Obj, subresource: str = "") -> Obj:
        meta = obj["metadata"]
        with self._signed():
            stored, _ = self.server.update(
                self.server.resource(group, plural),
                meta.get("namespace", ""),
                meta["name"],
                obj,
                {},
                self.name,
                subresource,
            )
        return stored

    def delete(self, group: str, plural: str, obj: Obj, **options: Any) -> None:
        """A missing or replaced object is fine."""
        meta = obj["metadata"]
        options.setdefault("preconditions", {"uid": meta["uid"]})
        with self._signed():
            try:
                self.server.delete(
                    self.server.resource(group, plural), meta.get("namespace", ""), meta["name"], options, {}
                )
            except ApiError as failure:
                if failure.code not in (404, 409):
                    raise

    def drop_finalizer(self, group: str, plural: str, obj: Obj, finalizer: str) -> None:
        new = copy(obj)
        new["metadata"]["finalizers"] = [f for f in new["metadata"].get("finalizers") or [] if f != finalizer]
        self.put(group, plural, new)

    def _signed(self) -> _Signature:
        return _Signature(self.server, self.name)


class _Signature:
    def __init__(self, server: FakeApiServer, name: str) -> None:
        self._server, self._name, self._before = server, name, ""

    def __enter__(self) -> None:
        self._before, self._server.writes.client = self._server.writes.client, self._name

    def __exit__(self, *_: object) -> None:
        self._server.writes.client = self._before


class Controller:
    name = "controller"

    def __init__(self, server: FakeApiServer) -> None:
        self.cluster = Cluster(server, self.name)

    def step(self) -> bool:
        """Makes one small change; False if there is nothing to do now."""
        raise NotImplementedError

    def due(self) -> float | None:
        """The next instant at which time alone makes `step` worth calling."""
        return None
