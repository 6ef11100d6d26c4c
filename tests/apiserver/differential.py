"""One random script, two API servers: what the comparison of the fake with the real one is made of.

A script is a list of symbolic operations ("update cm-1 at the version read before last"), so that both servers can
run it although their uids and revisions differ. Answers are compared after those are replaced by symbols.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import ssl
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from fakeapi import APPLY, FakeApiServer, Frontend, Watch

Obj = dict[str, Any]
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

WIDGETS: Obj = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.test"},
    "spec": {
        "group": "example.test",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "size": {"type": "integer", "default": 1, "minimum": 0},
                                    "mode": {"type": "string", "enum": ["A", "B"]},
                                    "inner": {
                                        "type": "object",
                                        "default": {},
                                        "properties": {
                                            "depth": {"type": "integer", "default": 3},
                                            "note": {"type": "string"},
                                        },
                                    },
                                    "tags": {
                                        "type": "array",
                                        "items": {"type": "string"},
                                        "x-kubernetes-list-type": "set",
                                    },
                                    "plain": {"type": "array", "items": {"type": "string"}},
                                    "options": {"type": "object", "additionalProperties": {"type": "string"}},
                                },
                            },
                            "status": {
                                "type": "object",
                                "properties": {
                                    "phase": {"type": "string"},
                                    "count": {"type": "integer"},
                                    "conditions": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["type"],
                                        "items": {
                                            "type": "object",
                                            "required": ["type", "status"],
                                            "properties": {
                                                "type": {"type": "string"},
                                                "status": {"type": "string"},
                                            },
                                        },
                                    },
                                },
                            },
                        },
                    }
                },
            }
        ],
    },
}


class Server(Protocol):
    def call(self, method: str, path: str, params: dict[str, str], body: Any, content_type: str) -> tuple[int, Any]: ...

    def watch(self, path: str, params: dict[str, str]) -> list[Obj]: ...


class RealServer:
    """A keep-alive HTTPS connection with the administrator's certificate."""

    def __init__(self, api: Any) -> None:
        pair = api.plane.admin()
        context = ssl.create_default_context(cafile=str(api.plane.authority.ca.cert))
        context.load_cert_chain(pair.cert, pair.key)
        where = urlsplit(api.url)
        self._new = lambda: http.client.HTTPSConnection(where.hostname, where.port, context=context, timeout=30)
        self._connection = self._new()

    def call(
        self, method: str, path: str, params: dict[str, str], body: Any, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        url = path + ("?" + urlencode(params) if params else "")
        raw = json.dumps(body) if body is not None else None
        headers = {"Content-Type": content_type, "User-Agent": "diff/1.0", "Accept": "application/json"}
        self._connection.request(method, url, raw, headers)
        answer = self._connection.getresponse()
        data = answer.read()
        try:
            return answer.status, json.loads(data)
        except ValueError:
            return answer.status, data.decode(errors="replace")

    def watch(self, path: str, params: dict[str, str]) -> list[Obj]:
        """All events until the server ends the watch."""
        connection = self._new()
        query = urlencode({**params, "watch": "true", "timeoutSeconds": "2"})
        connection.request("GET", f"{path}?{query}", headers={"Accept": "application/json"})
        answer = connection.getresponse()
        lines = answer.read().decode().splitlines()
        connection.close()
        return [json.loads(line) for line in lines if line.strip()]

    def close(self) -> None:
        self._connection.close()


class FakeServer:
    def __init__(self, server: FakeApiServer) -> None:
        self.server = server
        self._frontend = Frontend(server)

    def call(
        self, method: str, path: str, params: dict[str, str], body: Any, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        headers = {"content-type": content_type, "user-agent": "diff/1.0"}
        response = self._frontend.request(method, path, params, headers, body, client="diff")
        return response.status, response.body

    def watch(self, path: str, params: dict[str, str]) -> list[Obj]:
        response = self._frontend.request("GET", path, {**params, "watch": "true"})
        assert isinstance(response.watch, Watch)
        return response.watch.poll()


# Kinds under comparison


@dataclass(frozen=True)
class Kind:
    kind: str
    api: str
    plural: str
    status: bool = False

    def path(self, namespace: str, name: str = "", sub: str = "") -> str:
        root = f"/apis/{self.api}" if "/" in self.api else f"/api/{self.api}"
        tail = (f"/{name}" if name else "") + (f"/{sub}" if sub else "")
        return f"{root}/namespaces/{namespace}/{self.plural}{tail}"


KINDS = [
    Kind("ConfigMap", "v1", "configmaps"),
    Kind("Secret", "v1", "secrets"),
    Kind("Service", "v1", "services", status=True),
    Kind("Job", "batch/v1", "jobs", status=True),
    Kind("Lease", "coordination.k8s.io/v1", "leases"),
    Kind("Pod", "v1", "pods", status=True),
    Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies"),
    Kind("Event", "v1", "events"),
    Kind("Widget", "example.test/v1", "widgets", status=True),
]


@dataclass
class Op:
    verb: str  # create get put merge json strategic apply delete list
    kind: Kind
    name: str
    body: Any = None
    params: dict[str, str] = field(default_factory=dict)
    sub: str = ""
    version: str = ""  # "" | current | stale | bogus: which resourceVersion the request carries
    uid: str = ""  # "" | current | bogus

    def __str__(self) -> str:
        extra = " ".join(f"{k}={v}" for k, v in (("version", self.version), ("uid", self.uid), ("sub", self.sub)) if v)
        return f"{self.verb} {self.kind.kind}/{self.name} {extra} {self.params} {json.dumps(self.body)}"


class Runner:
    """Runs a script against one server and says, in symbols, what came of each operation."""

    def __init__(self, server: Server, namespace: str) -> None:
        self.server, self.namespace = server, namespace
        self._symbols: dict[str, str] = {}
        self._seen: dict[tuple[str, str], list[str]] = {}

    def run(self, op: Op) -> Any:
        kind, namespace = op.kind, self.namespace
        path = kind.path(namespace, op.name, op.sub)
        before = self._read(kind, op.name) if op.name else None
        body = json.loads(json.dumps(op.body)) if op.body is not None else None
        match op.verb:
            case "create":
                status, answer = self.server.call("POST", kind.path(namespace), op.params, body, "application/json")
            case "get":
                status, answer = self.server.call("GET", path, op.params, None, "application/json")
            case "put":
                status, answer = self.server.call(
                    "PUT", path, op.params, self._put_body(op, before), "application/json"
                )
            case "merge" | "strategic":
                content = MERGE if op.verb == "merge" else STRATEGIC
                self._stamp(op, before, body)
                status, answer = self.server.call("PATCH", path, op.params, body, content)
            case "json":
                status, answer = self.server.call("PATCH", path, op.params, body, JSON_PATCH)
            case "apply":
                body = {"apiVersion": kind.api, "kind": kind.kind, **(body or {})}
                body["metadata"] = {"name": op.name, **body.get("metadata", {})}
                self._stamp(op, before, body)
                status, answer = self.server.call("PATCH", path, op.params, body, APPLY)
            case "delete":
                status, answer = self.server.call(
                    "DELETE", path, op.params, self._delete_body(op, before), "application/json"
                )
            case "list":
                status, answer = self.server.call("GET", kind.path(namespace), op.params, None, "application/json")
            case other:
                raise AssertionError(other)
        after = self._read(kind, op.name) if op.name else None
        return {
            "status": status,
            "reason": answer.get("reason") if status >= 400 else None,
            "answer": self._answer(answer) if status < 400 else None,
            "after": self.normal(after),
            "wrote": (before or {}).get("metadata", {}).get("resourceVersion")
            != (after or {}).get("metadata", {}).get("resourceVersion"),
            "replaced": bool(before and after and before["metadata"]["uid"] != after["metadata"]["uid"]),
        }

    def _read(self, kind: Kind, name: str) -> Obj | None:
        status, obj = self.server.call("GET", kind.path(self.namespace, name), {}, None, "application/json")
        if status != 200:
            return None
        versions = self._seen.setdefault((kind.kind, name), [])
        if not versions or versions[-1] != obj["metadata"]["resourceVersion"]:
            versions.append(obj["metadata"]["resourceVersion"])
        return obj

    def _version(self, op: Op, before: Obj | None) -> str | None:
        versions = self._seen.get((op.kind.kind, op.name), [])
        match op.version:
            case "current":
                return before["metadata"]["resourceVersion"] if before else "1"
            case "stale":
                return versions[-2] if len(versions) > 1 else "1"
        return None

    def _uid(self, op: Op, before: Obj | None) -> str | None:
        match op.uid:
            case "current":
                return before["metadata"]["uid"] if before else "00000000-0000-4000-8000-000000000001"
            case "bogus":
                return "00000000-0000-4000-8000-000000000002"
        return None

    def _stamp(self, op: Op, before: Obj | None, body: Obj) -> None:
        meta = body.setdefault("metadata", {})
        if version := self._version(op, before):
            meta["resourceVersion"] = version
        if uid := self._uid(op, before):
            meta["uid"] = uid

    def _put_body(self, op: Op, before: Obj | None) -> Obj:
        """Read, modify, write: the current object with the changes of `op.body` merged in."""
        body: Obj = json.loads(json.dumps(before)) if before else {"metadata": {"name": op.name}}
        for name in ("resourceVersion", "uid"):
            body["metadata"].pop(name, None)
        body = _overlay(body, op.body)
        self._stamp(op, before, body)
        return body

    def _delete_body(self, op: Op, before: Obj | None) -> Obj:
        body: Obj = {"kind": "DeleteOptions", "apiVersion": "v1", **(op.body or {})}
        conditions = {}
        if uid := self._uid(op, before):
            conditions["uid"] = uid
        if version := self._version(op, before):
            conditions["resourceVersion"] = version
        if conditions:
            body["preconditions"] = conditions
        return body

    # Symbols

    def _symbol(self, text: str) -> str:
        return self._symbols.setdefault(text, f"uid-{len(self._symbols)}")

    def _answer(self, answer: Any) -> Any:
        if answer.get("kind", "").endswith("List"):
            meta = answer["metadata"]
            return {
                "items": [self.normal(item) for item in answer["items"]],
                "more": bool(meta.get("continue")),
                "left": meta.get("remainingItemCount"),
            }
        return self.normal(answer)

    def normal(self, obj: Obj | None) -> Any:
        if obj is None:
            return None
        return self._walk(json.loads(json.dumps(obj)), "")

    def _walk(self, value: Any, key: str) -> Any:
        if isinstance(value, dict):
            out = {}
            for name, item in sorted(value.items()):
                if name in ("resourceVersion", "time") or (item in ({}, []) and name in ("status", "labels")):
                    continue
                out[self._text(name, "")] = self._walk(item, name)
            return out
        if isinstance(value, list):
            items = [self._walk(item, key) for item in value]
            if key == "managedFields":
                items.sort(key=lambda e: json.dumps(e, sort_keys=True))
            return items
        return self._text(value, key) if isinstance(value, str) else value

    def _text(self, value: str, key: str) -> str:
        if key in ("clusterIP", "clusterIPs") and value != "None":
            return "an-ip"
        if re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]+(\.\d+)?Z", value) and key.endswith("Timestamp"):
            return "a-time"
        value = re.sub(
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", lambda m: self._symbol(m[0]), value
        )
        return value.replace(self.namespace, "NAMESPACE")


def _overlay(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = _overlay(out.get(key), value)
    return out


# The script


class Writer:
    """Writes random scripts. Few names and few values, so that operations meet."""

    def __init__(self, seed: int, kinds: list[Kind] | None = None) -> None:
        self.rng = random.Random(seed)
        self._kinds = kinds or KINDS

    def script(self, length: int) -> list[Op]:
        return [self._op() for _ in range(length)]

    def _op(self) -> Op:
        rng = self.rng
        kind = rng.choice(self._kinds)
        name = rng.choice(["a", "b", "c"])
        verbs = (
            ["create"] * 4
            + ["apply"] * 6
            + ["put"] * 3
            + ["merge"] * 4
            + ["json", "strategic", "get", "list"]
            + ["delete"] * 2
        )
        verb = rng.choice(verbs)
        sub = "status" if kind.status and verb in ("apply", "put", "merge") and rng.random() < 0.35 else ""
        op = Op(verb, kind, name, sub=sub)
        if verb in ("create",):
            op.body = {"metadata": {**self._meta(), "name": name}, **self._full(kind)}
            if rng.random() < 0.9:
                op.body |= {"apiVersion": kind.api, "kind": kind.kind}
            if rng.random() < 0.2:
                op.params["fieldManager"] = "m1"
            if rng.random() < 0.05:
                op.body["metadata"]["resourceVersion"] = "5"
        elif verb in ("put", "merge", "strategic"):
            op.body = {"status": self._status(kind)} if sub else self._change(kind)
            op.version = rng.choice(["", "", "current", "current", "stale"])
            op.uid = rng.choice(["", "", "", "current", "bogus"]) if verb == "put" else ""
            op.params["fieldManager"] = rng.choice(["m1", "m2", "editor"])
            if verb == "put" and sub == "" and rng.random() < 0.3:
                op.body["metadata"] = {**op.body.get("metadata", {}), "annotations": {"rewritten": "yes"}}
        elif verb == "json":
            op.body = rng.choice(
                [
                    [{"op": "add", "path": "/metadata/annotations", "value": {"j": "1"}}],
                    [{"op": "replace", "path": "/metadata/labels/x", "value": "json"}],
                    [{"op": "test", "path": "/metadata/name", "value": name}],
                    [{"op": "remove", "path": "/metadata/annotations/nothing"}],
                ]
            )
        elif verb == "apply":
            body = {"status": self._status(kind)} if sub else self._partial(kind)
            if not sub and rng.random() < 0.6:
                body["metadata"] = self._meta()
            op.body = body
            op.params = {"fieldManager": rng.choice(["m1", "m2"])}
            if rng.random() < 0.4:
                op.params["force"] = "true"
            if rng.random() < 0.03:
                op.params.pop("fieldManager")
            op.version = rng.choice([""] * 8 + ["current", "stale"])
            op.uid = rng.choice([""] * 12 + ["current", "bogus"])
        elif verb == "delete":
            op.uid = rng.choice(["", "current", "bogus"])
            op.version = rng.choice(["", "", "current", "stale"])
            op.body = rng.choice(
                [None, {"propagationPolicy": "Foreground"}, {"propagationPolicy": "Background"},
                 {"propagationPolicy": "Orphan"}, {"gracePeriodSeconds": 0}, {"gracePeriodSeconds": 5}]
            )  # fmt: skip
        elif verb == "list":
            op.name = ""
            op.params = dict(
                rng.choice(
                    [{}, {"labelSelector": "x=1"}, {"labelSelector": "x in (1,2),y!=2"}, {"labelSelector": "!x"},
                     {"limit": "1"}, {"limit": "2"}, {"fieldSelector": "metadata.name=b"},
                     {"fieldSelector": "metadata.name!=b", "limit": "1"}, {"fieldSelector": "spec.nope=1"}]
                )
            )  # fmt: skip
        return op

    def _meta(self) -> Obj:
        rng = self.rng
        out: Obj = {}
        if rng.random() < 0.7:
            out["labels"] = {k: rng.choice(["1", "2"]) for k in rng.sample(["x", "y", "z"], rng.randint(0, 3))}
        if rng.random() < 0.3:
            out["annotations"] = {k: rng.choice(["1", "2"]) for k in rng.sample(["p", "q"], rng.randint(1, 2))}
        if rng.random() < 0.15:
            out["finalizers"] = rng.sample(["example.test/f", "example.test/g"], rng.randint(1, 2))
        if rng.random() < 0.2:
            out["ownerReferences"] = [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": n, "uid": f"00000000-0000-4000-8000-00000000000{n}"}
                for n in rng.sample(["3", "4"], rng.randint(1, 2))
            ]
        return out

    def _strings(self) -> dict[str, str]:
        rng = self.rng
        return {k: rng.choice(["1", "2"]) for k in rng.sample(["k1", "k2", "k3"], rng.randint(0, 3))}

    def _secret_data(self) -> dict[str, str]:
        return {k: {"1": "MQ==", "2": "Mg=="}[v] for k, v in self._strings().items()}

    def _ports(self) -> list[Obj]:
        rng = self.rng
        out = []
        for port in rng.sample([80, 81, 82], rng.randint(1, 3)):
            entry: Obj = {"port": port, "name": f"p{port}"}
            if rng.random() < 0.4:
                entry["targetPort"] = rng.choice([8080, "web"])
            if rng.random() < 0.3:
                entry["protocol"] = "TCP"
            out.append(entry)
        return out

    def _container(self) -> Obj:
        rng = self.rng
        out: Obj = {"name": rng.choice(["main", "side"]), "image": rng.choice(["i:1", "i:latest", "i"])}
        if rng.random() < 0.5:
            out["env"] = [
                {"name": n, "value": rng.choice(["1", "2"])} for n in rng.sample(["E1", "E2"], rng.randint(1, 2))
            ]
        if rng.random() < 0.3:
            out["resources"] = {"limits": {"cpu": rng.choice(["1", "2"])}}
        if rng.random() < 0.3:
            out["ports"] = [{"containerPort": 8080}]
        if rng.random() < 0.2:
            out["readinessProbe"] = {"httpGet": {"port": 8080}}
        return out

    def _pod_spec(self) -> Obj:
        rng = self.rng
        out: Obj = {"restartPolicy": "Never", "containers": [self._container()], "automountServiceAccountToken": False}
        if rng.random() < 0.3:
            out["volumes"] = [{"name": "v", "configMap": {"name": "x"}}, {"name": "e", "emptyDir": {}}]
        if rng.random() < 0.3:
            out["nodeSelector"] = {"disk": rng.choice(["ssd", "hdd"])}
        if rng.random() < 0.3:
            out["terminationGracePeriodSeconds"] = 7
        if rng.random() < 0.2:
            out["tolerations"] = [{"key": "spot", "operator": "Exists"}]
        return out

    def _full(self, kind: Kind) -> Obj:
        rng = self.rng
        match kind.kind:
            case "ConfigMap":
                return {"data": self._strings(), **({"immutable": True} if rng.random() < 0.1 else {})}
            case "Secret":
                return rng.choice(
                    [{"data": self._secret_data()}, {"stringData": self._strings()},
                     {"data": self._secret_data(), "stringData": self._strings(), "immutable": rng.random() < 0.2}]
                )  # fmt: skip
            case "Service":
                spec: Obj = {"ports": self._ports(), "selector": {"app": rng.choice(["a", "b"])}}
                if rng.random() < 0.5:
                    spec["clusterIP"] = "None"
                if rng.random() < 0.3:
                    spec["publishNotReadyAddresses"] = True
                return {"spec": spec}
            case "Job":
                return {"spec": self._job_spec()}
            case "Lease":
                return {"spec": self._lease_spec()}
            case "Pod":
                return {"spec": self._pod_spec()}
            case "NetworkPolicy":
                return {"spec": self._policy_spec()}
            case "Event":
                return {
                    "involvedObject": {"kind": "ConfigMap", "name": "a", "namespace": "NAMESPACE"},
                    "reason": rng.choice(["R1", "R2"]),
                    "message": "m",
                    "type": "Normal",
                }
        return {"spec": self._widget_spec(), "status": {"phase": "Ignored"}}

    def _job_spec(self) -> Obj:
        rng = self.rng
        spec: Obj = {"template": {"spec": self._pod_spec()}}
        if rng.random() < 0.7:
            spec |= {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 0}
        if rng.random() < 0.3:
            spec["suspend"] = True
        if rng.random() < 0.3:
            spec["template"]["metadata"] = {"labels": {"t": "1"}}
        if rng.random() < 0.3:
            spec["podReplacementPolicy"] = "Failed"
        if rng.random() < 0.05:
            spec["template"]["spec"]["restartPolicy"] = "Always"
        if rng.random() < 0.2:
            spec["podFailurePolicy"] = {
                "rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            }
        return spec

    def _lease_spec(self) -> Obj:
        rng = self.rng
        spec: Obj = {"holderIdentity": rng.choice(["h1", "h2"])}
        if rng.random() < 0.6:
            spec["leaseDurationSeconds"] = rng.choice([15, 30, 0])
        if rng.random() < 0.6:
            spec["renewTime"] = rng.choice(["2025-01-01T00:00:00.000000Z", "2025-01-01T00:00:01.500000Z"])
        if rng.random() < 0.4:
            spec["leaseTransitions"] = rng.choice([0, 1])
        return spec

    def _policy_spec(self) -> Obj:
        rng = self.rng
        spec: Obj = {"podSelector": {"matchLabels": {"app": rng.choice(["a", "b"])}}, "policyTypes": ["Ingress"]}
        if rng.random() < 0.7:
            spec["ingress"] = [
                {"from": [{"podSelector": {}}], "ports": [{"port": rng.choice([80, 81]), "protocol": "TCP"}]}
            ]
        return spec

    def _widget_spec(self) -> Obj:
        rng = self.rng
        spec: Obj = {}
        if rng.random() < 0.5:
            spec["size"] = rng.choice([1, 2, -1]) if rng.random() < 0.2 else rng.choice([1, 2])
        if rng.random() < 0.4:
            spec["mode"] = rng.choice(["A", "B", "B", "C"])
        if rng.random() < 0.4:
            spec["inner"] = rng.choice([{}, {"note": "n"}, {"depth": 4}, {"note": "m", "extra": 1}])
        if rng.random() < 0.4:
            spec["tags"] = rng.sample(["t1", "t2", "t3"], rng.randint(0, 3))
        if rng.random() < 0.4:
            spec["plain"] = rng.sample(["t1", "t2"], rng.randint(0, 2))
        if rng.random() < 0.4:
            spec["options"] = self._strings()
        if rng.random() < 0.1:
            spec["unknown"] = "pruned"
        return spec

    def _partial(self, kind: Kind) -> Obj:
        """For apply: sometimes everything, sometimes one corner."""
        rng = self.rng
        if rng.random() < 0.6:
            body = self._full(kind)
            if kind.kind != "Widget":
                return body
            return {"spec": body["spec"]}
        match kind.kind:
            case "Service":
                return {"spec": {"ports": self._ports()}}
            case "Job":
                return {"spec": {"suspend": rng.random() < 0.5}}
            case "Lease":
                return {"spec": {"holderIdentity": rng.choice(["h1", "h2"])}}
            case "Widget":
                return {"spec": {"options": self._strings()}}
            case "Pod":
                return {}
        return self._full(kind)

    def _change(self, kind: Kind) -> Obj:
        rng = self.rng
        roll = rng.random()
        if roll < 0.35:
            value = rng.choice(["1", "2", None])
            return {"metadata": {"labels": {rng.choice(["x", "y"]): value}}}
        if roll < 0.5:
            return {"metadata": {"finalizers": rng.choice([["example.test/f"], [], None])}}
        match kind.kind:
            case "ConfigMap":
                return rng.choice(
                    [{"data": {"k1": rng.choice(["1", "2", None])}}, {"data": None}, {"immutable": True},
                     {"binaryData": {"k9": "MQ=="}}, {"data": {"bad key": "1"}}]
                )  # fmt: skip
            case "Secret":
                return rng.choice(
                    [
                        {"data": {"k1": rng.choice(["MQ==", "Mg==", None])}},
                        {"stringData": {"k2": "3"}},
                        {"type": "kubernetes.io/x"},
                    ]
                )
            case "Service":
                return rng.choice(
                    [{"spec": {"selector": {"app": "c"}}}, {"spec": {"ports": self._ports()}},
                     {"spec": {"publishNotReadyAddresses": True}}, {"spec": {"clusterIP": "None"}}]
                )  # fmt: skip
            case "Job":
                return rng.choice(
                    [{"spec": {"suspend": rng.random() < 0.5}}, {"spec": {"parallelism": 3}},
                     {"spec": {"backoffLimit": 3}},
                     {"spec": {"completions": 5}}, {"spec": {"completionMode": "NonIndexed"}},
                     {"spec": {"template": {"spec": {"nodeSelector": {"disk": "nvme"}}}}},
                     {"spec": {"template": {"spec": {"restartPolicy": "OnFailure"}}}},
                     {"spec": {"template": {"metadata": {"annotations": {"note": "1"}}}}}]
                )  # fmt: skip
            case "Lease":
                return {"spec": self._lease_spec()}
            case "Pod":
                return rng.choice(
                    [{"spec": {"nodeSelector": {"disk": "nvme"}}}, {"spec": {"activeDeadlineSeconds": 50}},
                     {"metadata": {"annotations": {"note": "1"}}}]
                )  # fmt: skip
            case "NetworkPolicy":
                return {"spec": self._policy_spec()}
            case "Event":
                return {"message": rng.choice(["m", "n"]), "count": rng.choice([1, 2])}
        return {"spec": self._widget_spec()}

    def _status(self, kind: Kind) -> Obj:
        rng = self.rng
        match kind.kind:
            case "Job":
                return {"active": rng.choice([1, 2]), "ready": rng.choice([0, 1])}
            case "Service":
                return {"conditions": [self._condition() | {"reason": "R", "message": ""}]}
            case "Pod":
                return {"phase": rng.choice(["Pending", "Running"]), "conditions": [self._condition()]}
        out: Obj = {"phase": rng.choice(["P1", "P2"])}
        if rng.random() < 0.6:
            out["conditions"] = [
                {"type": t, "status": rng.choice(["True", "False"])} for t in rng.sample(["A", "B"], rng.randint(1, 2))
            ]
        if rng.random() < 0.3:
            out["count"] = rng.choice([1, 2, "three"])
        return out

    def _condition(self) -> Obj:
        return {
            "type": self.rng.choice(["Ready", "Other"]),
            "status": self.rng.choice(["True", "False"]),
            "lastTransitionTime": "2025-01-01T00:00:00Z",
        }
