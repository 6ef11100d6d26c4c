from typing import Any

from fakeapi import World

from finetune_operator.core.types import JOBS, Sample
from finetune_operator.kube.client import Client
from finetune_operator.kube.keys import job_key
from finetune_operator.kube.observe_job import observe_job, observe_job_fresh
from finetune_operator.kube.store import Store
from tests.kube.builders import Json, batch_job, finetunejob, new_finetunejob, node, owner, pod, service

KEY = job_key("team", "bot")


def filled(*objects: Json) -> Store:
    store = Store()
    for obj in objects:
        store.apply("ADDED", obj)
    return store


def names(objects: Any) -> list[str]:
    return [o["metadata"]["name"] for o in objects]


def test_nothing_without_the_job() -> None:
    assert observe_job(filled(batch_job()), KEY) is None


def test_everything_that_bears_on_the_job() -> None:
    store = filled(
        finetunejob(),
        batch_job(),
        pod("bot-1-0-a"),
        pod("bot-preflight", owner_kind="FineTuneJob", owner_uid="ftj-uid", node="n2"),
        node("n1"),
        node("n2"),
        node("n3"),
        service(),
    )
    sample = Sample(1, None)
    seen = observe_job(store, KEY, sample=sample, conflicts={"Service/x": "words"})
    assert seen is not None
    assert names(seen.jobs) == ["bot-1"]
    assert names(seen.pods) == ["bot-1-0-a", "bot-preflight"]
    assert sorted(seen.nodes) == ["n1", "n2"]
    assert seen.gang_service is not None
    assert seen.sample is sample
    assert seen.conflicts == {"Service/x": "words"}
    assert not seen.fresh
    assert seen.gone_pods == frozenset()


def test_a_label_without_our_owner_reference_counts_for_nothing() -> None:
    store = filled(
        finetunejob(),
        batch_job("bot-1", uid="foreign", owner_uid="another-uid"),
        pod("bot-1-0-a", owner_uid="foreign"),
        pod("lonely", owner_uid="x", metadata={**pod("lonely")["metadata"], "ownerReferences": []}),
    )
    seen = observe_job(store, KEY)
    assert seen is not None
    assert (seen.jobs, seen.pods) == ((), ())


def test_pods_that_outlived_their_job_count_unless_they_are_older_than_the_finetunejob() -> None:
    store = filled(
        finetunejob(),
        pod("bot-1-0-late", owner_uid="gone-job", created="2026-01-01T11:00:00Z"),
        pod("bot-1-0-early", owner_uid="gone-job", created="2026-01-01T09:00:00Z"),
    )
    seen = observe_job(store, KEY)
    assert seen is not None
    assert names(seen.pods) == ["bot-1-0-late"]


def test_gone_pods_are_told_apart() -> None:
    store = filled(finetunejob(), batch_job(), pod("bot-1-0-a"), pod("bot-1-1-b"), node("n1"))
    store.apply("DELETED", pod("bot-1-0-a", rv=2))
    seen = observe_job(store, KEY)
    assert seen is not None
    assert names(seen.pods) == ["bot-1-1-b", "bot-1-0-a"]
    assert seen.gone_pods == {"uid-bot-1-0-a"}


async def test_a_fresh_reading_is_what_the_api_server_says(world: World, client: Client) -> None:
    job = world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob())
    uid = job["metadata"]["uid"]
    store = filled(job, batch_job("bot-9", owner_uid=uid, uid="never-was"))
    body: Json = batch_job("bot-1", owner_uid=uid)
    body["metadata"] = {k: v for k, v in body["metadata"].items() if k not in ("uid", "resourceVersion")}
    container = {"name": "main", "image": "i"}
    body["spec"] = {
        "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
    }
    await client.create(JOBS, "team", body)
    seen = await observe_job_fresh(client, store, KEY)
    assert seen is not None
    assert names(seen.jobs) == ["bot-1"]
    assert seen.fresh


async def test_a_fresh_reading_of_a_job_that_is_gone(world: World, client: Client) -> None:
    store = filled(finetunejob())
    assert await observe_job_fresh(client, store, KEY) is None
    assert store.keys() == []


def test_the_owner_builder_makes_controllers() -> None:
    assert owner("Job", "j", "u")["controller"] is True
