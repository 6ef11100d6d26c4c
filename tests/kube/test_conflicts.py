from fakeapi import World

from finetune_operator.kube.client import Client
from finetune_operator.kube.conflicts import Conflicts
from finetune_operator.kube.keys import job_key
from tests.kube.builders import MANAGED, new_finetunejob, owner

KEY = job_key("team", "bot")


async def test_a_conflict_is_looked_at_again_and_forgotten_when_the_name_is_free(world: World, client: Client) -> None:
    job = world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob())
    theirs = world.api.create("", "services", "team", {"metadata": {"name": "s"}, "spec": {"clusterIP": "None"}})
    conflicts = Conflicts(client, recheck=15)
    conflicts.add(KEY, {"Service/s": "words"}, 100.0)
    await conflicts.refresh(KEY, job, 110.0)
    assert conflicts.of(KEY) == {"Service/s": "words"}, "too early for another look"
    await conflicts.refresh(KEY, job, 115.0)
    assert "named s exists" in conflicts.of(KEY)["Service/s"]
    world.api.delete("", "services", theirs)
    await conflicts.refresh(KEY, job, 120.0)
    assert conflicts.of(KEY) != {}, "looked at five seconds ago"
    await conflicts.refresh(KEY, job, 130.0)
    assert conflicts.of(KEY) == {}


async def test_a_name_that_became_ours_is_no_conflict(world: World, client: Client) -> None:
    job = world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob())
    mine = {
        "metadata": {
            "name": "s",
            "labels": dict(MANAGED),
            "ownerReferences": [owner("FineTuneJob", "bot", job["metadata"]["uid"])],
        },
        "spec": {"clusterIP": "None"},
    }
    world.api.create("", "services", "team", mine)
    conflicts = Conflicts(client)
    conflicts.add(KEY, {"Service/s": "words"}, 0.0)
    await conflicts.refresh(KEY, job, 60.0)
    assert conflicts.of(KEY) == {}


async def test_jobs_are_apart_and_can_be_forgotten(client: Client) -> None:
    conflicts = Conflicts(client)
    conflicts.add(KEY, {"Service/s": "words"}, 0.0)
    assert conflicts.of(job_key("team", "other")) == {}
    conflicts.forget(KEY)
    assert conflicts.of(KEY) == {}
