import asyncio
from typing import Any

import pytest
from fakeapi import Cut, FakeTransport, Partition, Policy, World
from fakeapi.faults import Together
from fakeapi.routes import Call

from finetune_operator.kube.client import Client
from finetune_operator.shell.election import LEASE_NAME, Election, LeaseLost, Timing
from tests.shell.fakeloop import clock, run, wall


def replica(world: World, name: str) -> Election:
    client = Client(FakeTransport(world.frontend, name))
    return Election(client, namespace="team", identity=name, clock=clock, now=wall, timing=Timing(15.0))


def holder(world: World) -> str:
    return str(world.get("coordination.k8s.io", "leases", "team", LEASE_NAME)["spec"]["holderIdentity"])


def test_the_first_leads_and_the_second_waits(world: World) -> None:
    async def story() -> None:
        one, two = replica(world, "one"), replica(world, "two")
        await one.acquire()
        holding = asyncio.create_task(one.hold())
        waiting = asyncio.create_task(two.acquire())
        await asyncio.sleep(120)
        assert one.leading
        assert not waiting.done()
        assert not two.leading
        assert two.reached_at is not None
        assert holder(world) == "one"
        for task in (holding, waiting):
            task.cancel()

    run(story())


def test_a_released_lease_is_taken_at_the_next_look(world: World) -> None:
    async def story() -> None:
        one, two = replica(world, "one"), replica(world, "two")
        await one.acquire()
        waiting = asyncio.create_task(two.acquire())
        await asyncio.sleep(1)
        await one.release()
        assert not one.leading
        began = clock()
        await waiting
        assert clock() - began <= 2.5
        assert holder(world) == "two"

    run(story())


def test_a_dead_leader_is_followed_after_the_duration_and_not_before(world: World) -> None:
    async def story() -> None:
        one, two = replica(world, "one"), replica(world, "two")
        await one.acquire()
        began = clock()
        await two.acquire()
        assert 15 < clock() - began <= 20
        spec = world.get("coordination.k8s.io", "leases", "team", LEASE_NAME)["spec"]
        assert spec["leaseTransitions"] == 1

    run(story())


def test_the_same_pod_restarted_leads_again_at_once(world: World) -> None:
    async def story() -> None:
        await replica(world, "one").acquire()
        began = clock()
        await replica(world, "one").acquire()
        assert clock() == began

    run(story())


def test_a_partitioned_leader_gives_up_before_another_takes_over(world: World) -> None:
    partition = Partition("one")
    world.frontend.policy = partition

    async def story() -> None:
        one, two = replica(world, "one"), replica(world, "two")
        await one.acquire()
        ended: dict[str, float] = {}

        async def hold() -> None:
            with pytest.raises(LeaseLost):
                await one.hold()
            ended["one"] = clock()

        holding = asyncio.create_task(hold())
        waiting = asyncio.create_task(two.acquire())
        await asyncio.sleep(20)
        partition.on = True
        await asyncio.gather(holding, waiting)
        assert ended["one"] < clock()
        assert not one.leading

    run(story())


def test_a_stolen_lease_is_lost(world: World) -> None:
    async def story() -> None:
        one = replica(world, "one")
        await one.acquire()
        lease = world.get("coordination.k8s.io", "leases", "team", LEASE_NAME)
        lease["spec"]["holderIdentity"] = "thief"
        world.api.put("coordination.k8s.io", "leases", lease)
        with pytest.raises(LeaseLost, match="another replica"):
            await one.hold()

    run(story())


def test_short_trouble_costs_nothing(world: World) -> None:
    class Flaky(Policy):
        calls = 0

        def before(self, call: Call) -> Any:
            self.calls += 1
            return Cut() if self.calls % 5 == 0 else None

    async def story() -> None:
        one, two = replica(world, "one"), replica(world, "two")
        await one.acquire()
        world.frontend.policy = Together([Flaky()])
        holding = asyncio.create_task(one.hold())
        waiting = asyncio.create_task(two.acquire())
        await asyncio.sleep(300)
        assert not holding.done()
        assert not waiting.done()
        for task in (holding, waiting):
            task.cancel()

    run(story())


def test_two_that_start_together_do_not_both_lead(world: World) -> None:
    async def story() -> None:
        replicas = [replica(world, f"r{n}") for n in range(5)]
        tasks = [asyncio.create_task(r.acquire()) for r in replicas]
        await asyncio.sleep(1)
        assert sum(r.leading for r in replicas) == 1
        for task in tasks:
            task.cancel()

    run(story())


def test_a_connection_that_goes_silent_leaves_time_for_another(world: World) -> None:
    class Silent(FakeTransport):
        hang = False

        async def request(self, method: str, path: str, **more: Any) -> Any:
            if self.hang:
                self.hang = False
                await asyncio.Event().wait()
            return await super().request(method, path, **more)

    async def story() -> None:
        transport = Silent(world.frontend, "one")
        one = Election(Client(transport), namespace="team", identity="one", clock=clock, now=wall, timing=Timing(8.0))
        await one.acquire()
        holding = asyncio.create_task(one.hold())
        for _ in range(10):
            transport.hang = True
            await asyncio.sleep(10)
        assert not holding.done()
        assert one.leading
        holding.cancel()

    run(story())


def test_release_without_the_api_server_does_not_hang(world: World) -> None:
    partition = Partition("one")
    world.frontend.policy = partition

    async def story() -> None:
        one = replica(world, "one")
        await one.acquire()
        partition.on = True
        began = clock()
        await one.release()
        assert clock() - began <= 2.5

    run(story())


def test_giving_up_comes_before_taking_over() -> None:
    timing = Timing(15.0)
    assert timing.retry < timing.deadline < timing.duration
    assert 2 * (timing.retry + timing.patience) < timing.deadline + timing.retry
