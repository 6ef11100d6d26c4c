import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestClient, TestServer

from finetune_operator.shell.config import ConfigError
from finetune_operator.shell.http import LagMeter, application, serve
from finetune_operator.shell.metrics import Metrics
from tests.shell.fakeloop import FakeLoop, clock, run


class State:
    live: str | None = None
    ready: str | None = "the first LIST is not complete"


@pytest.fixture
async def client() -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    app = application(live=lambda: State.live, ready=lambda: State.ready, metrics=Metrics())
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_health_in_words(client: TestClient) -> None:  # type: ignore[type-arg]
    live, ready = await client.get("/livez"), await client.get("/readyz")
    assert (live.status, await live.text()) == (200, "ok\n")
    assert (ready.status, await ready.text()) == (503, "the first LIST is not complete\n")


async def test_metrics(client: TestClient) -> None:  # type: ignore[type-arg]
    answer = await client.get("/metrics")
    assert answer.content_type == "text/plain"
    assert "finetune_operator_leader 0.0" in await answer.text()


async def test_a_taken_address_is_told_in_words() -> None:
    app = application(live=lambda: None, ready=lambda: None, metrics=Metrics())
    runner = await serve(app, "127.0.0.1", 0)
    host, port = runner.addresses[0][:2]
    async with ClientSession() as session, session.get(f"http://{host}:{port}/livez") as answer:
        assert answer.status == 200
    other = application(live=lambda: None, ready=lambda: None, metrics=Metrics())
    with pytest.raises(ConfigError, match=f"--listen {host}:{port}: .*choose a free address"):
        await serve(other, host, port)
    await runner.cleanup()


def test_a_loop_that_hangs_is_not_alive() -> None:
    async def story() -> None:
        meter = LagMeter(clock, Metrics())
        task = asyncio.create_task(meter.run())
        await asyncio.sleep(5)
        assert meter.check() is None
        loop = asyncio.get_running_loop()
        assert isinstance(loop, FakeLoop)
        loop.now += 12  # as if one callback had taken twelve seconds
        await asyncio.sleep(0.5)
        assert "late" in (meter.check() or "")
        await asyncio.sleep(5)
        assert meter.check() is None
        task.cancel()

    run(story())
