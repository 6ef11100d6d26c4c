"""The loopback HTTP front end: the same answers over a socket, and watches as streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from fakeapi import Cut, FakeApiServer, Frontend, HttpFrontend, Script

PATH = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def http() -> AsyncIterator[HttpFrontend]:
    async with HttpFrontend(Frontend(FakeApiServer(), Script()), bookmark_every=0.1) as front:
        yield front


async def lines(response: aiohttp.ClientResponse, count: int) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while len(out) < count:
            out.append(json.loads(await response.content.readline()))
    return out


async def test_requests(http: HttpFrontend) -> None:
    async with aiohttp.ClientSession(base_url=http.url, headers={"User-Agent": "me/1.0"}) as session:
        async with session.post(PATH, json={"metadata": {"name": "a"}, "data": {"k": "v"}}) as answer:
            assert answer.status == 201
        async with session.patch(
            f"{PATH}/a",
            data="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {l: w}\n",
            headers={"Content-Type": "application/apply-patch+yaml"},
            params={"fieldManager": "m"},
        ) as answer:
            assert (await answer.json())["data"] == {"k": "v", "l": "w"}
        async with session.get(f"{PATH}/none") as answer:
            assert answer.status == 404
            assert (await answer.json())["reason"] == "NotFound"
        async with session.get("/apis") as answer:
            assert (await answer.json())["kind"] == "APIGroupList"
        async with session.get("/healthz") as answer:
            assert await answer.text() == "ok"
        async with session.post(PATH, data="{nonsense") as answer:
            assert answer.status == 400
    server = http.frontend.server
    entry = server.store.get(server.key(server.resource("", "configmaps"), "default", "a"))
    assert entry is not None
    assert [e["manager"] for e in entry["metadata"]["managedFields"]] == ["m", "me"]
    assert {w.client for w in server.writes.entries} == {"", "me"}


async def test_watch_streams_events_and_bookmarks(http: HttpFrontend) -> None:
    server = http.frontend.server
    configmaps = server.resource("", "configmaps")
    params = {"watch": "true", "resourceVersion": str(server.store.revision), "allowWatchBookmarks": "true"}
    async with aiohttp.ClientSession(base_url=http.url) as session, session.get(PATH, params=params) as answer:
        assert answer.status == 200
        server.create(configmaps, "default", {"metadata": {"name": "a"}}, {}, "x")
        (event,) = await lines(answer, 1)
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "a")
        (bookmark,) = await lines(answer, 1)
        assert bookmark["type"] == "BOOKMARK"
        http.cut_watches()
        assert await answer.content.readline() == b"" or await answer.content.read() is not None


async def test_watch_ends_when_asked_to(http: HttpFrontend) -> None:
    params = {"watch": "true", "timeoutSeconds": "1", "resourceVersion": str(http.frontend.server.store.revision)}
    async with aiohttp.ClientSession(base_url=http.url) as session, session.get(PATH, params=params) as answer:
        async with asyncio.timeout(20):
            assert await answer.read() == b""


async def test_expired_watch_says_so_and_ends(http: HttpFrontend) -> None:
    http.frontend.server.store.compact()
    params = {"watch": "true", "resourceVersion": "2"}
    async with aiohttp.ClientSession(base_url=http.url) as session, session.get(PATH, params=params) as answer:
        async with asyncio.timeout(20):
            event = json.loads(await answer.read())
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_cut_connections_reach_the_client_as_such(http: HttpFrontend) -> None:
    assert isinstance(http.frontend.policy, Script)
    http.frontend.policy.add(lambda call: call.writes, Cut(), after=True)
    async with aiohttp.ClientSession(base_url=http.url) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.post(PATH, json={"metadata": {"name": "a"}})
        async with session.get(f"{PATH}/a") as answer:
            assert answer.status == 200, "it was executed"
