"""Requests in, answers out: routing, faults, and the shapes of lists. Shared by the in-process and HTTP front ends."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import errors, pods_api, scaling
from .faults import Crash, Cut, Die, Policy, Refuse, Stale
from .jsontools import copy
from .routes import Call, discovery, parse
from .server import FakeApiServer
from .watch import Watch


@dataclass
class Response:
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    watch: Watch | None = None


class LostConnection(ConnectionResetError):
    """The answer never arrived; whether the request was executed, the client cannot know."""


class Frontend:
    def __init__(self, server: FakeApiServer, policy: Policy | None = None) -> None:
        self.server = server
        self.policy = policy or Policy()
        self.calls: list[str] = []

    def request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        client: str = "client",
    ) -> Response:
        """Executes one request. Raises LostConnection, TimeoutError or Crash where the policy says so."""
        headers = {k.lower(): v for k, v in (headers or {}).items()}
        if method == "GET":
            if path.strip("/") in ("healthz", "livez", "readyz"):
                return Response(200, "ok")
            document = discovery(self.server, path)
            if document is not None:
                return Response(200, document)
        try:
            call = parse(self.server, method, path)
        except errors.ApiError as failure:
            return _failed(failure)
        call.params, call.body, call.client = dict(params or {}), body, client
        call.content_type = headers.get("content-type", "application/json").partition(";")[0]
        agent = headers.get("user-agent", client).partition("/")[0]
        fault = self.policy.before(call)
        self._suffer(fault)
        if isinstance(fault, Refuse):
            return _failed(_refusal(fault, call))
        self.calls.append(str(call))
        self.server.writes.client = client
        try:
            response = self._execute(call, agent, fault.back if isinstance(fault, Stale) else 0)
        except errors.ApiError as failure:
            response = _failed(failure)
        finally:
            self.server.writes.client = ""
        self._suffer(self.policy.after(call, response.status))
        return response

    def _suffer(self, fault: object) -> None:
        if isinstance(fault, Die):
            raise Crash
        if isinstance(fault, Cut):
            raise TimeoutError("injected timeout") if fault.timeout else LostConnection("injected disconnect")

    def _execute(self, call: Call, agent: str, back: int) -> Response:
        server, resource = self.server, call.resource
        manager = call.params.get("fieldManager") or agent
        if call.subresource == "scale":
            return self._scale(call, manager)
        match call.method:
            case "GET":
                if call.watch:
                    return Response(200, watch=Watch(server, resource, call.namespace, call.params))
                if call.name:
                    return Response(200, copy(server.get(resource, call.namespace, call.name)))
                return Response(200, self._list(call, back))
            case "POST":
                if call.subresource in ("binding", "eviction"):
                    return Response(201, pods_api.post(server, call))
                if call.name:
                    raise errors.method_not_allowed()
                created = server.create(resource, call.namespace, call.body, call.params, manager)
                return Response(201, copy(created))
            case "PUT" if call.name:
                obj, new = server.update(
                    resource, call.namespace, call.name, call.body, call.params, manager, call.subresource
                )
                return Response(201 if new else 200, copy(obj))
            case "PATCH" if call.name:
                obj, new = server.patch(
                    resource,
                    call.namespace,
                    call.name,
                    call.body,
                    call.content_type,
                    call.params,
                    manager,
                    call.subresource,
                )
                return Response(201 if new else 200, copy(obj))
            case "DELETE" if not call.subresource:
                if not call.name:
                    return Response(200, self._delete_all(call))
                deleted = server.delete(resource, call.namespace, call.name, call.body, call.params)
                return Response(200, copy(deleted))
        raise errors.method_not_allowed()

    def _scale(self, call: Call, manager: str) -> Response:
        server, resource, where = self.server, call.resource, (call.namespace, call.name)
        match call.method:
            case "GET":
                return Response(200, scaling.view(resource, server.get(resource, *where)))
            case "PUT" | "PATCH":
                body, verb = call.body, "update/scale"
                if call.method == "PATCH":
                    body, verb = scaling.patch(server, resource, *where, body, call.content_type), "patch/scale"
                return Response(200, scaling.put(server, resource, *where, body, call.params, manager, verb))
        raise errors.method_not_allowed()

    def _list(self, call: Call, back: int) -> Any:
        server, resource, params = self.server, call.resource, call.params
        at, start = None, None
        if params.get("continue"):
            at, start = _read_token(params["continue"])
            if at < server.store.compacted:
                raise errors.expired("The provided continue parameter is too old to display a consistent list result.")
        elif params.get("resourceVersion", "0") != "0":
            asked = int(params["resourceVersion"])
            if asked > server.store.revision:
                raise errors.ApiError(
                    504,
                    "Timeout",
                    f"Too large resource version: {asked}, current: {server.store.revision}",
                    retry_after=1,
                )
            if params.get("resourceVersionMatch") == "Exact":
                at = asked
        if back and at is None:
            at = max(server.store.compacted, server.store.revision - back)
        items, revision = server.list(resource, call.namespace, params, at=at)
        names = [(o["metadata"].get("namespace", ""), o["metadata"]["name"]) for o in items]
        first = next((i for i, n in enumerate(names) if n > start), len(items)) if start else 0
        limit = int(params.get("limit") or 0)
        page = items[first : first + limit] if limit else items[first:]
        meta: dict[str, Any] = {"resourceVersion": str(revision)}
        if limit and len(page) == limit:
            # The server looks no further than the page: what is left may or may not match a selector.
            last = names[first + len(page) - 1]
            keys = server.store.at(resource.group, resource.plural, revision)
            left = sum((k.namespace, k.name) > last for k in keys if call.namespace in ("", k.namespace))
            if left:
                meta["continue"] = _token(revision, last)
                if not (params.get("labelSelector") or params.get("fieldSelector")):
                    meta["remainingItemCount"] = left
        page = [copy(obj) for obj in page]
        if not resource.custom:
            for obj in page:
                del obj["kind"], obj["apiVersion"]
        return {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": meta, "items": page}

    def _delete_all(self, call: Call) -> Any:
        items, _ = self.server.list(call.resource, call.namespace, call.params)
        for obj in items:
            meta = obj["metadata"]
            self.server.delete(call.resource, meta.get("namespace", ""), meta["name"], call.body, call.params)
        return {
            "kind": f"{call.resource.kind}List",
            "apiVersion": call.resource.api_version,
            "metadata": {"resourceVersion": str(self.server.store.revision)},
            "items": [copy(obj) for obj in items],
        }


def _failed(failure: errors.ApiError) -> Response:
    headers = {"Retry-After": str(failure.retry_after)} if failure.retry_after is not None else {}
    return Response(failure.code, failure.body(), headers)


def _refusal(fault: Refuse, call: Call) -> errors.ApiError:
    resource = call.resource
    if fault.code == 409:
        return errors.conflict(resource.group, resource.plural, call.name, errors.MODIFIED)
    if fault.code == 429:
        return errors.too_many_requests("injected: too many requests", fault.retry_after or 1)
    return errors.server_error(fault.code)


def _token(revision: int, last: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps([revision, *last]).encode()).decode()


def _read_token(text: str) -> tuple[int, tuple[str, str]]:
    try:
        revision, namespace, name = json.loads(base64.urlsafe_b64decode(text))
    except (binascii.Error, ValueError) as failure:
        raise errors.bad_request("continue key is not valid") from failure
    return int(revision), (namespace, name)
