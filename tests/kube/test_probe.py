from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from finetune_operator.core.types import Probe
from finetune_operator.kube.probe import ANSWER_MAX, ProbeClient, ProbeFailed, probe_session

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PROGRESS = {
    "attempt": 2,
    "stage": "Training",
    "step": 7,
    "totalSteps": 10,
    "epoch": 0.5,
    "updatedAt": "2026-01-02T03:04:05Z",
    "unknownField": {"a": 1},
}


class Pod:
    """A launcher whose answers a test chooses."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str | None, Any]] = []
        self.answer: Handler = lambda request: _json(PROGRESS)
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, request.path, request.headers.get("X-Finetune-Token"), body))
        return await self.answer(request)


async def _json(body: Any, status: int = 200) -> web.Response:
    return web.json_response(body, status=status)


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
    async with probe_session() as session:
        yield session


@pytest.fixture
def client(session: ClientSession, pod: Pod) -> ProbeClient:
    return ProbeClient(session, port=pod.port, allow_loopback=True)


def probe(ip: str = "127.0.0.1", attempt: int = 2) -> Probe:
    return Probe(attempt=attempt, pod="bot-2-0-x", pod_uid="u", ip=ip, token="the-token")


async def test_progress_with_the_token_and_unknown_fields_ignored(client: ProbeClient, pod: Pod) -> None:
    progress = await client.progress(probe())
    assert (progress.step, progress.total_steps) == (7, 10)
    assert pod.requests == [("GET", "/progress", "the-token", None)]


async def test_a_request_for_a_checkpoint(client: ProbeClient, pod: Pod) -> None:
    pod.answer = lambda request: _json({}, 202)
    await client.request_checkpoint(probe(), "spot reclaim", stop=True)
    assert pod.requests == [("POST", "/checkpoint", "the-token", {"reason": "spot reclaim", "stop": True})]


@pytest.mark.parametrize(
    "body",
    [[], "text", {"attempt": 2}, {**PROGRESS, "loss": "nan!"}, {**PROGRESS, "epoch": float("inf")}],
    ids=["list", "text", "incomplete", "wrong type", "not finite"],
)
async def test_what_is_not_a_report_is_refused(client: ProbeClient, pod: Pod, body: Any) -> None:
    pod.answer = lambda request: _json(body)
    with pytest.raises(ProbeFailed, match="not a progress report"):
        await client.progress(probe())


async def test_another_attempts_report_is_refused(client: ProbeClient) -> None:
    with pytest.raises(ProbeFailed, match="attempt 2"):
        await client.progress(probe(attempt=3))


async def test_redirects_are_not_followed(client: ProbeClient, pod: Pod) -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/elsewhere")

    pod.answer = redirect
    with pytest.raises(ProbeFailed, match="302"):
        await client.progress(probe())
    assert [path for _, path, _, _ in pod.requests] == ["/progress"]


async def test_a_long_answer_is_not_read_to_its_end(client: ProbeClient, pod: Pod) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b" " * (ANSWER_MAX + 1))

    pod.answer = flood
    with pytest.raises(ProbeFailed, match="longer than 65536"):
        await client.progress(probe())


async def test_deeply_nested_json_is_refused(client: ProbeClient, pod: Pod) -> None:
    async def nested(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"[" * 60_000)

    pod.answer = nested
    with pytest.raises(ProbeFailed):
        await client.progress(probe())


async def test_strings_are_clipped(client: ProbeClient, pod: Pod) -> None:
    report = {"step": 1, "attempt": 2, "uri": "s3://" + "x" * 5000, "bytes": 1, "seconds": 1, "digest": "d" * 500}
    pod.answer = lambda request: _json({**PROGRESS, "checkpoint": {**report, "at": "2026-01-02T03:04:05Z"}})
    progress = await client.progress(probe())
    assert progress.checkpoint is not None
    assert (len(progress.checkpoint.uri), len(progress.checkpoint.digest)) == (1024, 63)


async def test_nobody_there(session: ClientSession) -> None:
    client = ProbeClient(session, port=1, allow_loopback=True)
    with pytest.raises(ProbeFailed, match="GET /progress"):
        await client.progress(probe())


@pytest.mark.parametrize("ip", ["127.0.0.1", "169.254.169.254", "::1", "0.0.0.0", "224.0.0.1", "fe80::1", "host", ""])
async def test_only_pods_addresses_are_called(session: ClientSession, ip: str) -> None:
    with pytest.raises(ProbeFailed, match="address"):
        await ProbeClient(session).progress(probe(ip))
