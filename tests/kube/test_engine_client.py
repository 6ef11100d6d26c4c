import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from finetune_operator.kube import engine_client
from finetune_operator.kube.engine_client import EngineClient, EngineFailed, Mark, engine_session
from tests.kube.engines import REAL_PAGE, target

TARGET = target(ip="127.0.0.1")
COMPLETION = {"choices": [{"index": 0, "text": " w", "finish_reason": "length"}]}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Pod:
    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.answer: Handler = completes
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, request.path, body))
        assert "Authorization" not in request.headers
        return await self.answer(request)


async def completes(request: web.Request) -> web.StreamResponse:
    return web.json_response(COMPLETION)


def says(body: Any, status: int = 200) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status)

    return answer


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    pod = Pod()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", pod.handle)
    async with TestServer(app) as server:
        pod.port = server.port or 0
        yield pod


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with engine_session() as session:
        yield session


@pytest.fixture
def client(session: ClientSession, pod: Pod) -> EngineClient:
    return EngineClient(session, port=pod.port, allow_loopback=True)


async def failure(client: EngineClient, *, timeout: float = 5.0) -> EngineFailed:
    with pytest.raises(EngineFailed) as caught:
        await client.complete(TARGET, timeout)
    return caught.value


async def test_the_page_comes_as_it_is(client: EngineClient, pod: Pod) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(body=REAL_PAGE, content_type="text/plain")

    pod.answer = page
    assert await client.metrics(TARGET) == REAL_PAGE
    assert pod.requests == [("GET", "/metrics", None)]


async def test_one_token_is_asked_for(client: EngineClient, pod: Pod) -> None:
    await client.complete(TARGET, 5.0)
    ((method, path, body),) = pod.requests
    assert (method, path) == ("POST", "/v1/completions")
    assert (body["model"], body["max_tokens"], body["stream"]) == ("bot", 1, False)


async def test_an_engines_refusal_is_told_with_its_words(client: EngineClient, pod: Pod) -> None:
    pod.answer = says({"error": {"message": "EngineCore encountered\nan issue " + "x" * 500, "code": 500}}, 500)
    error = await failure(client)
    assert str(error).startswith("POST /v1/completions answered 500: EngineCore encountered an issue xxx")
    assert len(str(error)) < 250
    assert error.mark is Mark.REFUSED


async def test_a_request_that_the_engine_does_not_count_leaves_no_mark(client: EngineClient, pod: Pod) -> None:
    pod.answer = says({"error": {"message": "The model `bot` does not exist."}}, 404)
    error = await failure(client)
    assert str(error) == "POST /v1/completions answered 404: The model `bot` does not exist."
    assert error.mark is Mark.NONE


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": ["x"]}, ["x"], "x"])
async def test_an_answer_without_a_completion_is_a_failure(client: EngineClient, pod: Pod, answer: Any) -> None:
    pod.answer = says(answer)
    assert "200 without a completion" in str(await failure(client))


async def test_an_abort_behind_a_200_is_a_failure(client: EngineClient, pod: Pod) -> None:
    pod.answer = says({"choices": [{"text": "", "finish_reason": "abort"}]})
    error = await failure(client)
    assert "finish_reason abort" in str(error)
    assert error.mark is Mark.GIVEN_UP


async def test_patience_ends(client: EngineClient, pod: Pod) -> None:
    gone = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        return web.Response()

    pod.answer = hang
    error = await failure(client, timeout=0.1)
    assert str(error) == "POST /v1/completions: no answer within 0.1 s"
    assert error.mark is Mark.GIVEN_UP
    async with asyncio.timeout(10):
        await gone.wait()  # the engine is told that nobody waits any longer


async def test_redirects_are_not_followed(client: EngineClient, pod: Pod) -> None:
    async def away(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    pod.answer = away
    assert "answered 302" in str(await failure(client))
    assert len(pod.requests) == 1


async def test_an_endless_page_is_cut(client: EngineClient, pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_client, "PAGE_MAX", 1000)

    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 5000)

    pod.answer = page
    with pytest.raises(EngineFailed, match="longer than 1000 bytes"):
        await client.metrics(TARGET)


async def test_nobody_listens(session: ClientSession, unused_tcp_port: int) -> None:
    client = EngineClient(session, port=unused_tcp_port, allow_loopback=True)
    with pytest.raises(EngineFailed, match="GET /metrics: connection refused"):
        await client.metrics(TARGET)


async def test_only_pods_are_called(session: ClientSession) -> None:
    client = EngineClient(session)
    with pytest.raises(EngineFailed, match="not a pod's address"):
        await client.metrics(target(ip="169.254.169.254"))
