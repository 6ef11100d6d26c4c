"""A plain client of the API server, as fast as one can be in Python: creates what it is given, decides nothing."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any

import aiohttp

from bench.audit import BENCH_USER
from e2e.cluster import ApiServer

Json = dict[str, Any]


class Refused(Exception):
    """An answer of 400 or above to a call of the benchmark itself."""


class Plain:
    """Use as `async with Plain(api) as plain:`."""

    def __init__(self, api: ApiServer) -> None:
        self.url = api.url
        authority = api.plane.authority
        pair = authority.issue("bench", BENCH_USER, "system:masters")
        self._tls = ssl.create_default_context(cafile=str(authority.ca.cert))
        self._tls.load_cert_chain(pair.cert, pair.key)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Plain:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._tls), timeout=aiohttp.ClientTimeout(total=60)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use `async with Plain(api) as plain:`")
        return self._session

    async def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Json:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        async with self.session.request(method, self.url + path, data=data, headers=headers) as answer:
            raw = await answer.read()
            if answer.status >= 400:
                raise Refused(f"{method} {path}: {answer.status} {raw[:500].decode(errors='replace')}")
            parsed: Json = json.loads(raw)
            return parsed

    async def create_all(self, items: Iterable[tuple[str, Json]], *, in_flight: int = 32) -> None:
        """POST of each (path, body), `in_flight` at a time."""
        source = iter(items)

        async def lane() -> None:
            for path, body in source:
                await self.call("POST", path, body)

        async with asyncio.TaskGroup() as lanes:
            for _ in range(in_flight):
                lanes.create_task(lane())

    async def count(self, path: str) -> int:
        """How many objects a collection holds, without reading them."""
        answer = await self.call("GET", f"{path}?limit=1")
        return len(answer["items"]) + int(answer["metadata"].get("remainingItemCount") or 0)

    async def watch(self, path: str) -> AsyncIterator[tuple[str, Json]]:
        """(event type, object) from now on; ends with the connection."""
        version = (await self.call("GET", f"{path}?limit=1"))["metadata"]["resourceVersion"]
        query = f"?watch=1&resourceVersion={version}&timeoutSeconds=3600"
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.session.get(
            self.url + path + query, headers={"Accept": "application/json"}, timeout=timeout, read_bufsize=1 << 20
        ) as answer:
            async for line in answer.content:
                event = json.loads(line)
                yield event["type"], event["object"]
