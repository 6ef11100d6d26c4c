"""Fault injection: what happened on the server, what the client saw, and that others are spared."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fakeapi import (
    Crash,
    CrashAtWrite,
    Cut,
    FakeTransport,
    Partition,
    Policy,
    RandomFaults,
    Refuse,
    Script,
    Stale,
    Together,
    World,
)
from fakeapi.routes import Call

PATH = "/api/v1/namespaces/default/configmaps"


class Client:
    def __init__(self, policy: Policy, name: str = "operator") -> None:
        self.world = World(policy=policy)
        self.transport = FakeTransport(self.world.frontend, name)

    async def create(self, name: str) -> int:
        return (await self.transport.request("POST", PATH, body={"metadata": {"name": name}}))[0]

    async def names(self) -> list[str]:
        _, _, body = await self.transport.request("GET", PATH)
        return [item["metadata"]["name"] for item in body["items"]]

    def stored(self) -> list[str]:
        return [key.name for key, _ in self.world.server.store.all() if key.plural == "configmaps"]


def writes(call: Call) -> bool:
    return call.writes


async def test_without_a_policy_nothing_goes_wrong() -> None:
    client = Client(Policy())
    assert await client.create("a") == 201
    assert await client.names() == ["a"]


@pytest.mark.parametrize("code", [409, 429, 500, 503])
async def test_refused_requests_are_not_executed(code: int) -> None:
    policy = Script()
    policy.add(writes, Refuse(code, retry_after=3))
    client = Client(policy)
    status, headers, body = await client.transport.request("POST", PATH, body={"metadata": {"name": "a"}})
    assert status == body["code"] == code
    assert client.stored() == []
    if code == 429:
        assert headers["Retry-After"] == "3"
        assert body["details"]["retryAfterSeconds"] == 3
    assert await client.create("a") == 201


@pytest.mark.parametrize(("silent", "error"), [(True, TimeoutError), (False, ConnectionResetError)])
@pytest.mark.parametrize("after", [False, True])
async def test_lost_connections(silent: bool, error: type[Exception], after: bool) -> None:
    policy = Script()
    policy.add(writes, Cut(silent), after=after)
    client = Client(policy)
    with pytest.raises(error):
        await client.create("a")
    assert client.stored() == (["a"] if after else [])


async def test_stale_list_is_an_older_truth() -> None:
    policy = Script()
    client = Client(policy)
    for name in "abc":
        await client.create(name)
    policy.add(lambda call: call.lists, Stale(2))
    assert await client.names() == ["a"]
    assert await client.names() == ["a", "b", "c"]


@pytest.mark.parametrize("committed", [False, True])
async def test_crash_at_the_third_write(committed: bool) -> None:
    policy = CrashAtWrite(3, committed, "operator")
    client = Client(policy)
    await client.create("a")
    await client.names()
    await client.create("b")
    with pytest.raises(Crash):
        await client.create("c")
    assert client.stored() == (["a", "b", "c"] if committed else ["a", "b"])
    assert str(policy.happened) == "POST ConfigMap default/"
    await client.create("d")


async def test_a_crash_is_not_swallowed_like_an_error() -> None:
    client = Client(CrashAtWrite(1, False, "operator"))

    async def careless() -> str:
        try:
            await client.create("a")
        except Exception:
            return "survived its own death"
        return "nothing happened"

    with pytest.raises(Crash):
        await careless()


async def test_faults_spare_other_clients() -> None:
    client = Client(CrashAtWrite(1, True, "operator"), name="somebody")
    await client.create("a")
    client.world.api.create("", "configmaps", "default", {"metadata": {"name": "b"}})
    assert sorted(client.stored()) == ["a", "b"]


async def test_partition() -> None:
    policy = Partition("operator")
    client = Client(policy)
    await client.create("a")
    policy.on = True
    with pytest.raises(TimeoutError):
        await client.names()
    assert policy.cut_watch("operator")
    assert not policy.cut_watch("other")
    policy.on = False
    assert await client.names() == ["a"]


async def test_a_dead_process_sends_nothing() -> None:
    client = Client(Policy())
    await client.transport.close()
    with pytest.raises(ConnectionResetError):
        await client.create("a")
    assert client.stored() == []


def _story(seed: int) -> list[Any]:
    policy = RandomFaults(random.Random(seed), "operator", drop_event=0.2, repeat_event=0.2, hold_event=0.2)
    return [policy.events("operator", [{"type": "ADDED", "n": n}]) for n in range(100)]


def test_random_faults_repeat_with_their_seed() -> None:
    assert _story(1) == _story(1)
    assert _story(1) != _story(2)
    told = [event["n"] for events in _story(1) for event in events]
    assert len(set(told)) < 100, "some are dropped"
    assert len(told) > len(set(told)), "some are repeated"
    assert told != sorted(told), "some come late"


async def test_random_faults_reach_every_kind_of_trouble() -> None:
    noise = RandomFaults(random.Random(3), "operator", refuse=0.2, lose=0.2, stale=0.3, die=0.2)
    client = Client(Together([Partition("operator"), noise]))
    seen = set()
    for n in range(200):
        try:
            seen.add(await client.create(f"c{n}"))
        except (Crash, TimeoutError) as failure:
            seen.add(type(failure).__name__)
    assert seen >= {201, 409, 429, 500, 503, "Crash", "TimeoutError"}
    noise.on = False
    assert await client.create("calm") == 201


async def test_the_write_log_says_who_wrote_what() -> None:
    client = Client(Policy())
    log = client.world.server.writes
    mark = log.mark()
    await client.create("a")
    await client.create("a")
    await client.names()
    (write,) = log.since(mark)
    assert (write.verb, write.kind, write.namespace, write.name, write.client) == (
        "create",
        "ConfigMap",
        "default",
        "a",
        "operator",
    )
    assert log.since(mark, "somebody") == []
