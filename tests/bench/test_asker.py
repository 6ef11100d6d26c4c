"""The load generator counts what was answered, and by whom."""

from __future__ import annotations

import time

import pytest

from bench import asker
from bench.echo import serve


@pytest.fixture
async def named() -> object:
    server = await serve("old", 0, "127.0.0.1")
    host, port = server.sockets[0].getsockname()
    yield f"{host}:{port}"
    server.close()


async def test_requests_are_counted_and_none_fails(named: str) -> None:
    found = await asker.rate(named, "bench.test", connections=3, seconds=0.3)
    assert found.failed == 0
    assert found.per_second > 10
    assert found.p50_ms <= found.p99_ms


async def test_who_answers_alone_is_told_with_the_time_it_took(named: str) -> None:
    async with asker.Asker(named, "bench.test") as one:
        assert await one.ask() == (200, b"old")
        first, last = await asker.until_answered_by(one, "old", time.perf_counter())
        assert last == 0 < first
        with pytest.raises(asker.Broken, match="new does not answer alone"):
            await asker.until_answered_by(one, "new", time.perf_counter(), seconds=0.2)


async def test_another_answer_than_http_is_refused_in_words() -> None:
    server = await serve("old", 0, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    async with asker.Asker(f"127.0.0.1:{port}", "bench.test") as one:
        one._writer.close()  # type: ignore[union-attr]
        with pytest.raises((asker.Broken, ConnectionError)):
            await one.ask()
    server.close()
