"""One random script, two API servers: what the comparison of the fake with the real one is made of.

A script is a list of symbolic operations ("update cm-1 at the version read before last"), so that both servers can
run it although their uids and revisions differ. Answers are compared after those are replaced by symbols.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from fakeapi import APPLY, FakeApiServer, Frontend, Watch

from tests.apiserver.operations import Kind, Op

Obj = dict[str, Any]
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


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


class Runner:
    """Runs a script against one server and says, in symbols, what came of each operation."""

    def __init__(self, server: Server, namespace: str) -> None:
        self.server, self.namespace = server, namespace
        self.events = f"{namespace}-events"
        """Where Events are made and read: the real server writes some of its own into the namespaces of Services."""
        self._symbols: dict[str, str] = {}
        self._seen: dict[tuple[str, str], list[str]] = {}

    def run(self, op: Op) -> Any:
        kind, namespace = op.kind, self._namespace(op.kind)
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

    def _namespace(self, kind: Kind) -> str:
        return self.events if kind.kind == "Event" else self.namespace

    def _read(self, kind: Kind, name: str) -> Obj | None:
        status, obj = self.server.call("GET", kind.path(self._namespace(kind), name), {}, None, "application/json")
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
