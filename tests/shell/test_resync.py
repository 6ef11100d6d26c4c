import asyncio
from typing import Any

import pytest
from fakeapi import Partition, Policy, Refuse, Script, World
from fakeapi.routes import Call

from finetune_operator.core.names import LABEL_JOB
from finetune_operator.kube import errors
from finetune_operator.kube.client import Client
from finetune_operator.kube.keys import Key, job_key
from finetune_operator.kube.store import Store
from finetune_operator.shell.resync import SELECTORS, Resync
from tests.kube.builders import MANAGED, new_finetunejob
from tests.shell.fakeloop import clock, run

KEY = job_key("team", "bot")


class Rig:
    def __init__(self, world: World) -> None:
        self.store = Store()
        self.woken: list[Key] = []
        self.missed: list[tuple[str, int]] = []
        self.resync = Resync(
            Client(world.transport("operator")),
            self.store,
            enqueue=self.woken.append,
            clock=clock,
            interval=300,
            missed=lambda kind, count: self.missed.append((kind, count)),
        )


def test_the_first_round_learns_everything_and_wakes_every_job(world: World) -> None:
    world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob())
    world.api.create("", "services", "team", {"metadata": {"name": "theirs"}, "spec": {"clusterIP": "None"}})
    mine = {"metadata": {"name": "mine", "labels": dict(MANAGED)}, "spec": {"clusterIP": "None"}}
    world.api.create("", "services", "team", mine)

    async def story() -> None:
        rig = Rig(world)
        await rig.resync.round()
        assert rig.woken == [KEY]
        assert rig.store.count("Node") == 1
        assert rig.store.get("Service", "team", "mine") is not None
        assert rig.store.get("Service", "team", "theirs") is None, "only what carries our label is listed"
        assert rig.missed == []

    run(story())


def test_what_was_deleted_without_an_event_is_found(world: World) -> None:
    job = world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob())

    async def story() -> None:
        rig = Rig(world)
        await rig.resync.round()
        rig.woken.clear()
        await rig.resync.round()
        assert rig.woken == [], "nothing changed, nobody is woken"
        world.api.delete("finetune.dev", "finetunejobs", job)
        await rig.resync.round()
        assert rig.woken == [KEY]
        assert rig.store.keys() == []
        assert rig.missed == [("FineTuneJob", 1)]

    run(story())


def test_what_was_found_before_a_round_failed_is_not_lost(world: World) -> None:
    world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob())
    labels = {**MANAGED, LABEL_JOB: "bot"}
    container = {"name": "main", "image": "i"}
    body = {"metadata": {"name": "bot-preflight", "labels": labels}, "spec": {"containers": [container]}}
    made = world.api.create("", "pods", "team", body)

    async def story() -> None:
        rig = Rig(world)
        await rig.resync.round()
        rig.woken.clear()
        world.api.delete("", "pods", made)
        world.settle()
        script = Script()
        script.add(lambda call: call.resource.plural == "jobs", Refuse(403))
        world.frontend.policy = script
        with pytest.raises(errors.Forbidden):
            await rig.resync.round()
        assert rig.woken == [KEY]
        assert rig.resync.rounds == 1

    run(story())


def test_many_objects_come_in_pages(world: World) -> None:
    for n in range(1203):
        world.server.create(
            world.server.resource("", "services"),
            "team",
            {"metadata": {"name": f"s{n}", "labels": dict(MANAGED)}, "spec": {"clusterIP": "None"}},
            {},
            "user",
        )

    async def story() -> None:
        rig = Rig(world)
        await rig.resync.round()
        assert rig.store.count("Service") == 1203

    run(story())


def test_an_expired_token_begins_anew(world: World) -> None:
    class Expire(Policy):
        done = False

        def before(self, call: Call) -> Any:
            if not self.done and call.resource.plural == "services":
                self.done = True
                return Refuse(410)
            return None

    world.frontend.policy = Expire()

    async def story() -> None:
        rig = Rig(world)
        await rig.resync.round()
        assert rig.resync.rounds == 1

    run(story())


def test_rounds_go_on_through_trouble_and_staleness_is_told(world: World) -> None:
    partition = Partition("operator")
    world.frontend.policy = partition

    async def story() -> None:
        rig = Rig(world)
        await rig.resync.round()
        task = asyncio.create_task(rig.resync.run())
        await asyncio.sleep(1000)
        assert rig.resync.rounds == 5, "one at the start, one after 20 s, then every 300 s"
        partition.on = True
        await asyncio.sleep(1500)
        assert rig.resync.stale
        partition.on = False
        await asyncio.sleep(60)
        assert not rig.resync.stale
        assert rig.resync.age < 90
        task.cancel()

    run(story())


def test_a_first_round_that_fails_is_told(world: World) -> None:
    world.frontend.policy = Partition("operator", on=True)

    async def story() -> None:
        rig = Rig(world)
        with pytest.raises(errors.Ambiguous):
            await rig.resync.round()
        assert rig.resync.rounds == 0
        assert rig.woken == []

    run(story())


def test_children_are_listed_by_our_label_and_before_their_owners() -> None:
    kinds = [resource.kind for resource in SELECTORS]
    assert kinds == ["Node", "Service", "Pod", "Job", "Deployment", "HTTPRoute", "FineTuneJob", "ModelDeployment"]
    labels = {resource.kind: selector for resource, selector in SELECTORS.items() if selector}
    assert set(labels) == {"Service", "Pod", "Job", "Deployment", "HTTPRoute"}
    assert set(labels.values()) == {"app.kubernetes.io/managed-by=finetune-operator"}
