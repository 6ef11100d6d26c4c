"""The loopback HTTP front end: the same server for clients that speak HTTP, such as Kopf itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import yaml
from aiohttp import web

from .faults import Crash
from .frontend import Frontend
from .jsontools import copy
from .watch import Watch


class HttpFrontend:
    """`async with HttpFrontend(frontend) as base_url: …`

    Bookmarks are sent to idle watches every `bookmark_every` seconds. A Crash cannot kill a client in the same
    process over HTTP; it closes the connection and calls `on_crash`. `client` names all callers for faults and the
    write log (default: their User-Agent).
    """

    def __init__(
        self,
        frontend: Frontend,
        *,
        bookmark_every: float = 1.0,
        on_crash: Callable[[], None] | None = None,
        client: str | None = None,
    ) -> None:
        self.frontend = frontend
        self.bookmark_every = bookmark_every
        self._on_crash = on_crash
        self._client = client
        self._wakers: set[asyncio.Event] = set()
        self._watches: set[Watch] = set()
        self._runner: web.AppRunner | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self.url = ""

    async def __aenter__(self) -> HttpFrontend:
        app = web.Application(client_max_size=8 * 2**20)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        self._unsubscribe = self.frontend.server.store.subscribe(lambda _: self._wake())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._unsubscribe:
            self._unsubscribe()
        self.cut_watches()
        if self._runner:
            await self._runner.cleanup()

    def cut_watches(self) -> None:
        for watch in self._watches:
            watch.close()
        self._wake()

    def _wake(self) -> None:
        for waker in self._wakers:
            waker.set()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body: Any = None
        if raw:
            try:
                body = yaml.safe_load(raw) if "yaml" in request.content_type else json.loads(raw)
            except ValueError:
                return web.json_response({"kind": "Status", "status": "Failure", "code": 400}, status=400)
        client = self._client or request.headers.get("User-Agent", "http").partition("/")[0]
        try:
            response = self.frontend.request(
                request.method, request.path, dict(request.query), dict(request.headers), body, client=client
            )
        except (TimeoutError, ConnectionError, Crash) as failure:
            if isinstance(failure, Crash) and self._on_crash:
                self._on_crash()
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("injected fault") from None
        if response.watch is not None:
            return await self._stream(request, response.watch, client)
        if isinstance(response.body, str):
            return web.Response(text=response.body, status=response.status)
        return web.json_response(response.body, status=response.status, headers=response.headers)

    async def _stream(self, request: web.Request, watch: Watch, client: str) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        limit = float(request.query.get("timeoutSeconds") or 3600)
        self._watches.add(watch)
        try:
            async with contextlib.aclosing(self._lines(watch, client, limit)) as lines:
                async for line in lines:
                    await stream.write(line)
            await stream.write_eof()
        except ConnectionResetError:
            pass
        finally:
            self._watches.discard(watch)
        return stream

    async def _lines(self, watch: Watch, client: str, limit: float) -> AsyncGenerator[bytes, None]:
        waker = asyncio.Event()
        self._wakers.add(waker)
        policy = self.frontend.policy
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        try:
            while not watch.closed and loop.time() < end:
                waker.clear()
                if policy.cut_watch(client):
                    return
                for event in policy.events(client, watch.poll()):
                    yield json.dumps(copy(event)).encode() + b"\n"
                if watch.closed:
                    return
                try:
                    async with asyncio.timeout(min(self.bookmark_every, max(0.0, end - loop.time()))):
                        await waker.wait()
                except TimeoutError:
                    bookmark = watch.bookmark()
                    if bookmark:
                        yield json.dumps(bookmark).encode() + b"\n"
        finally:
            self._wakers.discard(waker)
