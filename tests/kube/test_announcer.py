from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from fakeapi import Refuse, Script, World

from finetune_operator.core.types import EventNote, Plan
from finetune_operator.kube.announcer import Announcer
from finetune_operator.kube.client import Client
from finetune_operator.kube.execute import Executor
from finetune_operator.kube.store import Store
from tests.kube.builders import Json, new_finetunejob

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def event(name: str, uid: str = "u") -> Json:
    about = {"kind": "FineTuneJob", "namespace": "team", "name": "bot", "uid": uid}
    body: Json = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "team"}}
    return body | {"involvedObject": about, "reason": "R", "message": "m", "type": "Normal"}


def sent(world: World) -> list[str]:
    return [write.name for write in world.server.writes.since(0, "operator")]


@contextlib.asynccontextmanager
async def running(announcer: Announcer) -> AsyncIterator[None]:
    task = asyncio.create_task(announcer.run())
    try:
        yield
        async with asyncio.timeout(20):
            await announcer.drained()
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_events_of_an_object_go_in_their_order(world: World, client: Client) -> None:
    announcer = Announcer(client)
    for number in range(20):
        announcer(event(f"a{number:02}", "u1"))
        announcer(event(f"b{number:02}", "u2"))
    async with running(announcer):
        pass
    names = sent(world)
    for letter in "ab":
        assert [n for n in names if n.startswith(letter)] == [f"{letter}{number:02}" for number in range(20)]


async def test_a_lost_event_holds_up_no_other(world: World, client: Client) -> None:
    script = Script()
    script.add(lambda call: call.resource.plural == "events", Refuse(403), times=1)
    world.frontend.policy = script
    announcer = Announcer(client)
    async with running(announcer):
        announcer(event("first"))
        announcer(event("second"))
    assert sent(world) == ["second"]


async def test_nor_does_one_that_is_a_bug(world: World, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Client):
        async def create(self, resource: Any, namespace: str | None, body: Any) -> Json:
            if body["metadata"]["name"] == "first":
                raise RuntimeError("unheard of")
            return await super().create(resource, namespace, body)

    announcer = Announcer(Failing(world.transport("operator")))
    async with running(announcer):
        announcer(event("first"))
        announcer(event("second"))
    assert sent(world) == ["second"]
    assert "could not be sent" in caplog.text


async def test_a_flood_keeps_the_newest(world: World, client: Client) -> None:
    announcer = Announcer(client, senders=1, kept=3)
    for number in range(10):
        announcer(event(f"e{number}"))
    async with running(announcer):
        pass
    assert sent(world) == ["e7", "e8", "e9"]


async def test_a_pass_does_not_wait_for_its_events(world: World, client: Client) -> None:
    job = world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob())
    waiting: list[Any] = []
    executor = Executor(client, Store(), now=lambda: NOW, instance="me", announce=waiting.append)
    result = await executor.run(Plan(events=(EventNote("Normal", "Preflight", "words"),)), job)
    assert result.events == 0
    assert sent(world) == []
    assert [(e["reason"], e["involvedObject"]["uid"]) for e in waiting] == [("Preflight", job["metadata"]["uid"])]
