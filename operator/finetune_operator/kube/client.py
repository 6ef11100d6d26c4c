"""A thin client of the API server: dicts in, dicts out, one HTTP call each, over a transport that tests replace.

What it decides: reads are repeated when the server stumbles, writes are repeated only when the server said that it did
not take them (429). Any other failed write is reported, and the caller plans again from what it then reads. Writes in
flight are bounded, so that thousands of jobs at once do not become thousands of connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

from finetune_operator.core.names import MANAGER
from finetune_operator.core.types import Obj, Resource
from finetune_operator.kube import errors

Json = dict[str, Any]
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
TIMEOUT = 30.0
PAGE = 500
_RETRIES = 3
_RETRY_AFTER_MAX = 30.0


class Transport(Protocol):
    """Sends one request and returns (status, headers, parsed JSON or text).

    Raises TimeoutError or OSError when there is no answer.
    """

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any | None = None,
        content_type: str | None = None,
        timeout: float = TIMEOUT,  # noqa: ASYNC109 - the server's answer, not our patience with ourselves
    ) -> tuple[int, Mapping[str, str], Any]: ...


class Observer(Protocol):
    """Told of each call's end, for metrics. `outcome` is `ok` or the exception's class name."""

    def __call__(self, verb: str, kind: str, outcome: str) -> None: ...


def path_of(resource: Resource, namespace: str | None, name: str | None = None, sub: str | None = None) -> str:
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    scope = f"/namespaces/{namespace}" if namespace and resource.namespaced else ""
    return root + scope + f"/{resource.plural}" + (f"/{name}" if name else "") + (f"/{sub}" if sub else "")


class Client:
    def __init__(
        self,
        transport: Transport,
        *,
        max_writes: int = 32,
        observer: Observer | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._transport = transport
        self._writes = asyncio.Semaphore(max_writes)
        self._observer = observer
        self._sleep = sleep

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        return await self._read("get", resource, path_of(resource, namespace, name))

    async def pages(
        self, resource: Resource, namespace: str | None = None, *, selector: str = "", page: int = PAGE
    ) -> AsyncIterator[tuple[list[Json], str]]:
        """All objects, page by page, each with the list's resourceVersion. Items get their kind and apiVersion.

        Raises Gone when the continue token expired: the pages so far are then not one consistent list.
        """
        params = {"limit": str(page)} | ({"labelSelector": selector} if selector else {})
        while True:
            answer = await self._read("list", resource, path_of(resource, namespace), params)
            items: list[Json] = answer.get("items") or []
            for item in items:
                item.setdefault("kind", resource.kind)
                item.setdefault("apiVersion", resource.api_version)
            meta = answer.get("metadata") or {}
            yield items, str(meta.get("resourceVersion") or "")
            if not meta.get("continue"):
                return
            params["continue"] = meta["continue"]

    async def list(
        self, resource: Resource, namespace: str | None = None, *, selector: str = ""
    ) -> tuple[list[Json], str]:
        """All objects at one resourceVersion; begins anew once if the continue token expires meanwhile."""
        for last in (False, True):
            items: list[Json] = []
            version = ""
            try:
                async for chunk, at in self.pages(resource, namespace, selector=selector):
                    items.extend(chunk)
                    version = at
            except errors.Gone:
                if last:
                    raise
                continue
            return items, version
        raise AssertionError("unreachable")

    async def serves(self, resource: Resource) -> bool:
        """Whether the API server knows this kind at all."""
        root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
        try:
            answer = await self._read("discover", resource, root)
        except errors.NotFound:
            return False
        return any(found.get("name") == resource.plural for found in answer.get("resources") or ())

    async def create(self, resource: Resource, namespace: str | None, body: Obj) -> Json:
        params = {"fieldManager": MANAGER}
        return await self._write("create", resource, "POST", path_of(resource, namespace), params, body, JSON)

    async def apply(
        self, resource: Resource, namespace: str | None, name: str, body: Obj, *, force: bool = False
    ) -> Json:
        params = {"fieldManager": MANAGER, "force": str(force).lower()}
        path = path_of(resource, namespace, name)
        return await self._write("apply", resource, "PATCH", path, params, body, APPLY_PATCH)

    async def merge_patch(self, resource: Resource, namespace: str | None, name: str, body: Obj) -> Json:
        params = {"fieldManager": MANAGER}
        path = path_of(resource, namespace, name)
        return await self._write("patch", resource, "PATCH", path, params, body, MERGE_PATCH)

    async def replace(self, resource: Resource, namespace: str | None, name: str, body: Obj) -> Json:
        params = {"fieldManager": MANAGER}
        return await self._write("update", resource, "PUT", path_of(resource, namespace, name), params, body, JSON)

    async def update_status(self, resource: Resource, obj: Obj, status: Obj) -> Json:
        """PUT of the whole status at the resourceVersion of `obj`: stale fields go, and a Conflict says plan again.

        Spec and metadata stay out of the body: the status subresource ignores them.
        """
        meta = obj["metadata"]
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {k: meta[k] for k in ("name", "namespace", "uid", "resourceVersion") if k in meta},
            "status": status,
        }
        path = path_of(resource, meta.get("namespace"), meta["name"], "status")
        return await self._write("update_status", resource, "PUT", path, {"fieldManager": MANAGER}, body, JSON)

    async def delete(
        self, resource: Resource, namespace: str | None, name: str, *, uid: str | None, foreground: bool = True
    ) -> Json:
        body: Json = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground" if foreground else "Background",
        }
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        return await self._write("delete", resource, "DELETE", path_of(resource, namespace, name), {}, body, JSON)

    async def _read(self, verb: str, resource: Resource, path: str, params: Mapping[str, str] | None = None) -> Json:
        for attempt in range(_RETRIES + 1):
            try:
                return await self._call(verb, resource, "GET", path, params, None, None)
            except (errors.Ambiguous, errors.TooManyRequests) as error:
                if attempt == _RETRIES:
                    raise
                await self._sleep(_pause(error, attempt))
        raise AssertionError("unreachable")

    async def _write(
        self, verb: str, resource: Resource, method: str, path: str, params: Mapping[str, str], body: Obj, kind: str
    ) -> Json:
        for attempt in range(_RETRIES + 1):
            try:
                async with self._writes:
                    return await self._call(verb, resource, method, path, params, body, kind)
            except errors.TooManyRequests as error:
                if attempt == _RETRIES:
                    raise
                await self._sleep(_pause(error, attempt))
        raise AssertionError("unreachable")

    async def _call(
        self,
        verb: str,
        resource: Resource,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: Obj | None,
        content_type: str | None,
    ) -> Json:
        what = f"{verb} {path}"
        try:
            status, headers, answer = await self._transport.request(
                method, path, params=params, body=body, content_type=content_type, timeout=TIMEOUT
            )
            if status >= 400:
                raise errors.from_answer(what, status, headers, answer)
            if not isinstance(answer, dict):
                raise errors.ServerError(f"{what}: the answer is not JSON", status=status)
        except errors.ApiError as error:
            self._tell(verb, resource, type(error).__name__)
            raise
        except TimeoutError as error:
            self._tell(verb, resource, errors.RequestTimeout.__name__)
            raise errors.RequestTimeout(f"{what}: no answer within {TIMEOUT:g} s") from error
        except OSError as error:
            self._tell(verb, resource, errors.ConnectionLost.__name__)
            raise errors.ConnectionLost(f"{what}: {error or type(error).__name__}") from error
        self._tell(verb, resource, "ok")
        return answer

    def _tell(self, verb: str, resource: Resource, outcome: str) -> None:
        if self._observer is not None:
            self._observer(verb, resource.kind, outcome)


def _pause(error: errors.ApiError, attempt: int) -> float:
    """Seconds before the next try: what the server asked for, else 0.2, 0.4, 0.8 …"""
    wished = error.retry_after if error.retry_after is not None else 0.2 * 2**attempt
    return float(min(wished, _RETRY_AFTER_MAX))
