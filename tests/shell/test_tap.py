"""Each event goes to the sink once and in order, however the stream is cut, and Kopf keeps what it decides by."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from finetune_operator.core.types import FINETUNEJOBS, PODS, Obj
from finetune_operator.shell.tap import TappedSession

PATH = "/apis/finetune.dev/v1alpha1/finetunejobs"
WATCH = PATH + "?allowWatchBookmarks=true&watch=true"
Json = dict[str, Any]


def event(kind: str, name: str, version: int) -> Json:
    return {
        "type": kind,
        "object": {"kind": "FineTuneJob", "metadata": {"name": name, "resourceVersion": f"{version}"}},
    }


def bookmark(version: int) -> Json:
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": f"{version}"}}}


GONE = {"type": "ERROR", "object": {"code": 410}}
EVENTS = [event("ADDED", "a", 1), event("MODIFIED", "ä" * 40, 2), event("DELETED", "a", 3)]


class Server:
    """Sends `pieces` one by one."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.status = 200

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=self.status, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for piece in self.pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        await response.write_eof()
        return response


class Rig:
    def __init__(self, server: Server, url: str, session: aiohttp.ClientSession) -> None:
        self.server, self.url = server, url
        self.seen: list[tuple[str | None, str]] = []
        self.kinds: set[tuple[Any, Any]] = set()
        self.session = TappedSession(session, server=url + "/", resources=[FINETUNEJOBS, PODS], sink=self.sink)

    def sink(self, kind: str | None, obj: Obj) -> None:
        self.seen.append((kind, obj["metadata"]["name"]))
        self.kinds.add((obj.get("kind"), obj.get("apiVersion")))

    async def left(self, path: str) -> list[Json]:
        """What Kopf gets to see of a watch."""
        response = await self.session.request("get", self.url + path)
        async with response:
            text = b"".join([chunk async for chunk in response.content.iter_chunked(1024 * 1024)])
        return [json.loads(line) for line in text.splitlines()]

    async def json(self, path: str) -> Any:
        response = await self.session.request("GET", self.url + path)
        async with response:
            return await response.json()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    server = Server()
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    http = TestServer(app)
    await http.start_server()
    async with aiohttp.ClientSession() as session:
        yield Rig(server, str(http.make_url("")).rstrip("/"), session)
    await http.close()


def lines(*events: Json) -> bytes:
    return b"".join(json.dumps(e, ensure_ascii=False).encode() + b"\n" for e in events)


def cut(raw: bytes, size: int) -> list[bytes]:
    return [raw[start : start + size] for start in range(0, len(raw), size)]


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
async def test_events_arrive_however_the_stream_is_cut(rig: Rig, size: int) -> None:
    rig.server.pieces = cut(lines(*EVENTS), size)
    left = await rig.left(WATCH)
    assert rig.seen == [(e["type"], e["object"]["metadata"]["name"]) for e in EVENTS]
    assert left[-1] == bookmark(3), "Kopf goes on from the newest"
    assert {e["type"] for e in left} == {"BOOKMARK"}


async def test_the_last_line_needs_no_newline(rig: Rig) -> None:
    rig.server.pieces = [lines(*EVENTS).rstrip()]
    assert (await rig.left(WATCH))[-1] == bookmark(3)
    assert len(rig.seen) == 3


async def test_errors_and_bookmarks_stay_kopfs(rig: Rig) -> None:
    rig.server.pieces = [lines(EVENTS[0], bookmark(9), GONE)]
    left = await rig.left(WATCH)
    assert left == [bookmark(9), GONE]
    assert rig.seen == [("ADDED", "a")]


async def test_what_is_not_understood_is_left_to_kopf(rig: Rig) -> None:
    odd: list[Json] = [{"type": "NEW", "object": {}}, {"type": "ADDED", "object": None}]
    rig.server.pieces = [lines(*odd), b"[]\n"]
    assert await rig.left(WATCH) == [*odd, []]
    assert rig.seen == []


async def test_an_object_that_cannot_be_taken_in_stops_nothing(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    nameless = {"type": "MODIFIED", "object": {"metadata": {"resourceVersion": "2"}}}
    rig.server.pieces = [lines(EVENTS[0], nameless, EVENTS[2])]
    assert (await rig.left(WATCH))[-1] == bookmark(3)
    assert rig.seen == [("ADDED", "a"), ("DELETED", "a")]
    assert "could not be taken in" in caplog.text


async def test_a_list_is_taken_in_and_kopf_gets_its_version(rig: Rig) -> None:
    whole = {"kind": "PodList", "metadata": {"resourceVersion": "7", "continue": "c"}}
    rig.server.pieces = cut(json.dumps(whole | {"items": [{"metadata": {"name": "p"}}] * 120}).encode(), 999)
    assert await rig.json("/api/v1/pods?limit=500") == whole | {"items": []}
    assert rig.seen == [(None, "p")] * 120
    assert rig.kinds == {("Pod", "v1")}


@pytest.mark.parametrize("raw", [b'{"metadata": {}}', b"[1]", b'"text"'])
async def test_an_answer_that_is_no_list_is_left_as_it_is(rig: Rig, raw: bytes) -> None:
    rig.server.pieces = [raw]
    assert await rig.json(PATH) == json.loads(raw)


@pytest.mark.parametrize(
    ("path", "status"),
    [(WATCH.replace("finetunejobs", "others"), 200), (PATH + "/one?watch=true", 200), (WATCH, 410)],
)
async def test_other_answers_are_not_touched(rig: Rig, path: str, status: int) -> None:
    rig.server.status = status
    rig.server.pieces = [lines(*EVENTS)]
    assert await rig.left(path) == EVENTS
    assert rig.seen == []


async def test_it_is_otherwise_the_session(rig: Rig) -> None:
    assert rig.session.closed is False
    await rig.session.close()
    assert rig.session._session.closed is True
