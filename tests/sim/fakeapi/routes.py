"""From a URL to what it means, and the discovery documents that clients read first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import errors
from .kinds import Resource

if TYPE_CHECKING:
    from .server import FakeApiServer

WRITES = ("POST", "PUT", "PATCH", "DELETE")


@dataclass
class Call:
    """One request, understood. Fault policies decide on these."""

    method: str
    path: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    params: dict[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = ""
    client: str = ""

    @property
    def watch(self) -> bool:
        return self.method == "GET" and self.params.get("watch") in ("true", "1")

    @property
    def lists(self) -> bool:
        return self.method == "GET" and not self.name and not self.watch

    @property
    def writes(self) -> bool:
        return self.method in WRITES

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        tail = f"/{self.subresource}" if self.subresource else ""
        return f"{self.method} {self.resource.kind} {where}{self.name}{tail}"


def parse(server: FakeApiServer, method: str, path: str) -> Call:
    parts = [p for p in path.split("/") if p]
    if parts[:1] == ["api"] and len(parts) > 2:
        group, rest = "", parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, rest = parts[1], parts[3:]
    else:
        raise errors.unknown_path()
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] != "status":
        namespace, rest = rest[1], rest[2:]
    resource = server.resource(group, rest[0])
    version = parts[1] if not group else parts[2]
    if version != resource.version or len(rest) > 3:
        raise errors.unknown_path()
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    if subresource and subresource not in resource.subresources:
        raise errors.unknown_path()
    if namespace and not resource.namespaced:
        raise errors.unknown_path()
    if resource.namespaced and name and not namespace:
        raise errors.unknown_path()
    return Call(method, path, resource, namespace, name, subresource)


_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def discovery(server: FakeApiServer, path: str) -> Any:
    """The body of a discovery document, or None if the path is not one."""
    parts = [p for p in path.split("/") if p]
    match parts:
        case ["version"]:
            return {"major": "1", "minor": "37", "gitVersion": "v1.37.2-fake", "platform": "linux/amd64"}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["api", "v1"]:
            return _resources(server, "", "v1")
        case ["apis"]:
            names = sorted({r.group for r in server.resources.values() if r.group})
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(server, name) for name in names]}
        case ["apis", group]:
            if any(r.group == group for r in server.resources.values()):
                return {"kind": "APIGroup", "apiVersion": "v1", **_group(server, group)}
        case ["apis", group, version]:
            if any((r.group, r.version) == (group, version) for r in server.resources.values()):
                return _resources(server, group, version)
    return None


def _group(server: FakeApiServer, group: str) -> dict[str, Any]:
    versions = sorted({r.version for r in server.resources.values() if r.group == group})
    listed = [{"groupVersion": f"{group}/{v}", "version": v} for v in versions]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


def _resources(server: FakeApiServer, group: str, version: str) -> dict[str, Any]:
    out: list[dict[str, Any]] = []
    for r in server.resources.values():
        if (r.group, r.version) != (group, version):
            continue
        entry: dict[str, Any] = {
            "name": r.plural,
            "singularName": r.kind.lower(),
            "namespaced": r.namespaced,
            "kind": r.kind,
            "verbs": _VERBS,
        }
        if r.short_names:
            entry["shortNames"] = list(r.short_names)
        if r.categories:
            entry["categories"] = list(r.categories)
        out.append(entry)
        for sub in r.subresources:
            verbs = ["get", "patch", "update"] if sub in ("status", "scale") else ["create"]
            entry = {"name": f"{r.plural}/{sub}", "singularName": "", "namespaced": r.namespaced, "kind": r.kind}
            if sub == "scale":
                entry |= {"group": "autoscaling", "version": "v1", "kind": "Scale"}
            out.append({**entry, "verbs": verbs})
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": out}
