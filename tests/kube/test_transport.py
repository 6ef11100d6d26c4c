from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from finetune_operator.kube.transport import AiohttpTransport

Serve = Callable[[Callable[[web.Request], Awaitable[web.Response]]], Awaitable[AiohttpTransport]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[TestServer] = []
    transports: list[AiohttpTransport] = []

    async def start(handler: Callable[[web.Request], Awaitable[web.Response]]) -> AiohttpTransport:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app)
        servers.append(server)
        await server.start_server()
        transports.append(AiohttpTransport(str(server.make_url("")), aiohttp.ClientSession))
        return transports[-1]

    yield start
    for transport in transports:
        await transport.close()
    for server in servers:
        await server.close()


async def echo(request: web.Request) -> web.Response:
    seen = {
        "method": request.method,
        "path": request.path,
        "query": dict(request.query),
        "type": request.headers.get("Content-Type"),
        "body": await request.text(),
    }
    return web.json_response(seen, headers={"X-Kind": "echo"})


async def test_a_request_arrives_as_it_was_made(serve: Serve) -> None:
    transport = await serve(echo)
    status, headers, seen = await transport.request(
        "PATCH",
        "/api/v1/pods/p",
        params={"force": "true"},
        body={"a": [1]},
        content_type="application/merge-patch+json",
    )
    assert (status, headers["X-Kind"]) == (200, "echo")
    assert seen == {
        "method": "PATCH",
        "path": "/api/v1/pods/p",
        "query": {"force": "true"},
        "type": "application/merge-patch+json",
        "body": '{"a":[1]}',
    }


async def test_answers_that_are_not_json_come_as_text_and_empty_ones_as_an_empty_object(serve: Serve) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=502, text="" if request.path == "/empty" else "bad gateway")

    transport = await serve(answer)
    assert (await transport.request("GET", "/empty"))[2] == {}
    assert (await transport.request("GET", "/"))[::2] == (502, "bad gateway")


async def test_no_server_is_a_connection_error() -> None:
    transport = AiohttpTransport("http://127.0.0.1:1", aiohttp.ClientSession)
    with pytest.raises(ConnectionError):
        await transport.request("GET", "/")
    await transport.close()


async def test_a_session_that_somebody_closed_is_opened_again(serve: Serve) -> None:
    transport = await serve(echo)
    first = transport.session()
    await first.close()
    assert (await transport.request("GET", "/"))[0] == 200
    assert transport.session() is not first


async def test_a_closed_transport_opens_no_session_that_nobody_would_close() -> None:
    opened: list[aiohttp.ClientSession] = []

    def connect() -> aiohttp.ClientSession:
        opened.append(aiohttp.ClientSession())
        return opened[-1]

    transport = AiohttpTransport("http://127.0.0.1:1", connect)
    transport.session()
    await transport.close()
    with pytest.raises(ConnectionError, match="closed"):
        transport.session()
    with pytest.raises(ConnectionError, match="closed"):
        await transport.request("GET", "/readyz")
    assert [session.closed for session in opened] == [True]
