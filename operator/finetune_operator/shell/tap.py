"""Takes events out of Kopf's watch streams on their way to Kopf.

Kopf keeps the streams alive, but what it does with each event before the handler has it (a task for each object,
causes, a diff, two deadlines) costs more than all that the store does with it; in bursts it was a third of the
operator's CPU. So the session that Kopf reads with gives each event to the sink as soon as its line is there, and Kopf
a bookmark in its place: Kopf still knows from where to go on, and still decides about reconnects, errors, 410 and
lists. A list reaches it empty, with the version to watch from.

Only what Kopf reads by `content.iter_chunked` or `content.read` is taken out. Should another Kopf read otherwise, its
events arrive by its handlers, later but none is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, cast

import aiohttp
from pydantic_core import from_json, to_json

from finetune_operator.core.types import Obj, Resource
from finetune_operator.kube.client import path_of

Sink = Callable[[str | None, Obj], None]
"""Takes a watch event: ADDED, MODIFIED, DELETED, or None for an object of a list."""
_TAKEN = ("ADDED", "MODIFIED", "DELETED")
_READ = 2**18
_TURN = 50
log = logging.getLogger(__name__)


class TappedSession:
    """A session whose lists and watches of these resources, cluster-wide at this server, are read along."""

    def __init__(
        self, session: aiohttp.ClientSession, *, server: str, resources: Iterable[Resource], sink: Sink
    ) -> None:
        self._session = session
        self._sink = _forgiving(sink)
        self._resources = {server.rstrip("/") + path_of(resource, None): resource for resource in resources}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def request(self, method: str, url: str, **how: Any) -> aiohttp.ClientResponse:
        response = await self._session.request(method, url, **how)
        path, _, query = url.partition("?")
        resource = self._resources.get(path)
        if resource is not None and response.status == 200 and method.upper() == "GET":
            kind = _Watch if "watch=true" in query.split("&") else _List
            response.content = cast(aiohttp.StreamReader, kind(response.content, resource, self._sink))
        return response


def _forgiving(sink: Sink) -> Sink:
    """An object that cannot be taken in is a bug about that object; the watch goes on."""

    def take(event: str | None, obj: Obj) -> None:
        try:
            sink(event, obj)
        except Exception:
            log.exception("an event could not be taken in")

    return take


class _Content:
    """Of a response: all but reading is left to the real one."""

    def __init__(self, content: aiohttp.StreamReader, resource: Resource, sink: Sink) -> None:
        self._content, self._resource, self._sink = content, resource, sink

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)


class _List(_Content):
    async def read(self, n: int = -1) -> bytes:
        raw = await self._content.read(n)
        try:
            answer = from_json(raw)
            items = answer["items"] or []
        except (ValueError, KeyError, TypeError):
            return raw
        for position, item in enumerate(items):
            if position % _TURN == 0:
                await asyncio.sleep(0)
            self._sink(None, {"kind": self._resource.kind, "apiVersion": self._resource.api_version} | item)
        return to_json(answer | {"items": []})


class _Watch(_Content):
    def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        return _Lines(self._content, min(n, _READ), self._sink)


class _Lines:
    """What is left of a watch stream for Kopf, piece by piece."""

    def __init__(self, content: aiohttp.StreamReader, size: int, sink: Sink) -> None:
        self._chunks = content.iter_chunked(size)
        self._sink = sink
        self._rest = b""

    def __aiter__(self) -> _Lines:
        return self

    async def __anext__(self) -> bytes:
        while True:
            data = await anext(self._chunks, b"")
            if not data and not self._rest:
                raise StopAsyncIteration
            # At its end the stream may leave off without a newline.
            *lines, self._rest = (self._rest + (data or b"\n")).split(b"\n")
            left = self._take(lines)
            if left:
                return left
            await asyncio.sleep(0)  # what is buffered is read without waiting

    def _take(self, lines: Iterable[bytes]) -> bytes:
        left: list[bytes] = []
        version = None
        for line in lines:
            try:
                event = from_json(line) if line else {}
                kind, obj = event.get("type"), event.get("object")
            except (ValueError, AttributeError):
                kind, obj = None, None
            if kind in _TAKEN and isinstance(obj, dict):
                version = obj.get("metadata", {}).get("resourceVersion", version)
                self._sink(kind, obj)
            elif line:
                left.append(line)
                version = None
        if version is not None:
            left.append(to_json({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}))
        return b"".join(line + b"\n" for line in left)
