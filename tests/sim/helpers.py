"""Small verbs for table tests of the fake API server."""

from __future__ import annotations

from typing import Any

from fakeapi import APPLY, FakeApiServer, Frontend, register_custom

Obj = dict[str, Any]
MERGE = "application/merge-patch+json"
ROOTS = {"pods": "/api/v1", "configmaps": "/api/v1", "secrets": "/api/v1", "services": "/api/v1", "nodes": "/api/v1",
         "namespaces": "/api/v1", "events": "/api/v1", "jobs": "/apis/batch/v1",
         "leases": "/apis/coordination.k8s.io/v1", "widgets": "/apis/example.test/v1"}  # fmt: skip
POD_SPEC: Obj = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "i:1"}]}


def job(name: str, **spec: Any) -> Obj:
    base = {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 0}
    return {"metadata": {"name": name}, "spec": {**base, "template": {"spec": POD_SPEC}, **spec}}


class Api:
    """`api.post("configmaps", {...})` and so on, in namespace default; failures raise `Refused`."""

    def __init__(self, frontend: Frontend | None = None) -> None:
        self.frontend = frontend or Frontend(FakeApiServer())
        self.server = self.frontend.server
        if ("example.test", "widgets") not in self.server.resources:
            register_custom(self.server, "example.test", "v1", "widgets", "Widget")

    def path(self, plural: str, name: str = "", sub: str = "") -> str:
        scope = "" if plural in ("nodes", "namespaces") else "/namespaces/default"
        return f"{ROOTS[plural]}{scope}/{plural}" + (f"/{name}" if name else "") + (f"/{sub}" if sub else "")

    def call(self, method: str, path: str, body: Any = None, content: str = "application/json", **params: str) -> Any:
        response = self.frontend.request(method, path, params, {"content-type": content}, body, client="test")
        if response.status >= 400:
            raise Refused(response.status, response.body)
        return response.body

    def post(self, plural: str, body: Obj, **params: str) -> Obj:
        if plural == "widgets":
            body = {"apiVersion": "example.test/v1", "kind": "Widget", **body}
        return dict(self.call("POST", self.path(plural), body, **params))

    def get(self, plural: str, name: str) -> Obj:
        return dict(self.call("GET", self.path(plural, name)))

    def put(self, plural: str, obj: Obj, sub: str = "", **params: str) -> Obj:
        return dict(self.call("PUT", self.path(plural, obj["metadata"]["name"], sub), obj, **params))

    def merge(self, plural: str, name: str, body: Obj, sub: str = "", **params: str) -> Obj:
        return dict(self.call("PATCH", self.path(plural, name, sub), body, MERGE, **params))

    def apply(self, plural: str, name: str, body: Obj, sub: str = "", *, manager: str = "m", **params: str) -> Obj:
        resource = next(r for r in self.server.resources.values() if r.plural == plural)
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        body["metadata"] = {"name": name, **body.get("metadata", {})}
        return dict(self.call("PATCH", self.path(plural, name, sub), body, APPLY, fieldManager=manager, **params))

    def delete(self, plural: str, name: str, **options: Any) -> Obj:
        return dict(self.call("DELETE", self.path(plural, name), options or None))

    def list(self, plural: str, **params: str) -> Obj:
        return dict(self.call("GET", self.path(plural), None, **params))

    def names(self, plural: str, **params: str) -> list[str]:
        return [item["metadata"]["name"] for item in self.list(plural, **params)["items"]]


class Refused(Exception):
    def __init__(self, code: int, body: Obj) -> None:
        super().__init__(f"{code} {body.get('reason')}: {body.get('message')}")
        self.code, self.body = code, body
        self.reason = body.get("reason")


def owned(obj: Obj) -> dict[str, Any]:
    """Manager name → its fields."""
    return {e["manager"]: e["fieldsV1"] for e in obj["metadata"].get("managedFields", [])}
