import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from fakeapi import Cut, Refuse, Script, World
from fakeapi.routes import Call

from finetune_operator.core.names import GANG_SERVICE
from finetune_operator.core.types import HTTPROUTES, JOBS, SERVICES, Delete, EventNote, MergePatch, Plan
from finetune_operator.kube import errors
from finetune_operator.kube.client import Client
from finetune_operator.kube.execute import Executor, Result
from finetune_operator.kube.store import Store
from tests.kube.builders import MANAGED, Json, new_finetunejob, new_modeldeployment, owner, served, unborn

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
READY = {"phase": "Pending"}


class Rig:
    def __init__(self, world: World, client: Client) -> None:
        self.world, self.store = world, Store()
        self.executor = Executor(client, self.store, now=lambda: NOW, instance="me")
        self.job: Json = world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob())
        self.uid: str = self.job["metadata"]["uid"]
        self.store.apply("ADDED", self.job)

    async def run(self, **plan: Any) -> Result:
        return await self.executor.run(Plan(**plan), self.job)

    def body(self, kind: str, name: str, *, uid: str | None = None, **more: Any) -> Json:
        meta = {"name": name, "namespace": "team", "labels": dict(MANAGED)}
        return {
            "apiVersion": {"Job": "batch/v1", "NetworkPolicy": "networking.k8s.io/v1"}.get(kind, "v1"),
            "kind": kind,
            "metadata": meta | {"ownerReferences": [owner("FineTuneJob", "bot", uid or self.uid)]},
            **more,
        }

    def service(self, name: str, **more: Any) -> Json:
        return self.body("Service", name, spec={"clusterIP": "None"}, **more)

    def batch_job(self, name: str, **more: Any) -> Json:
        template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "i"}]}}
        return self.body("Job", name, spec={"template": template}, **more)

    def verbs(self) -> list[str]:
        return [f"{w.verb} {w.kind}/{w.name}" for w in self.world.server.writes.since(0, "operator")]

    def found(self, plural: str, name: str, group: str = "") -> Json | None:
        found: Json | None = self.world.find(group, plural, "team", name)
        return found


@pytest.fixture
def rig(world: World, client: Client) -> Rig:
    return Rig(world, client)


async def test_the_order_is_status_creates_patches_deletes_events(rig: Rig) -> None:
    rig.world.api.create("", "services", "team", rig.service("old"))
    old = rig.found("services", "old")
    assert old is not None
    version = old["metadata"]["resourceVersion"]
    patch = MergePatch(SERVICES, "team", "old", {"metadata": {"resourceVersion": version, "labels": {"a": "b"}}})
    result = await rig.run(
        status=READY,
        creates=(rig.service("one"), rig.batch_job("bot-1")),
        patches=(patch,),
        deletes=(Delete(SERVICES, "team", "old", old["metadata"]["uid"]),),
        events=(EventNote("Normal", "Preflight", "words"),),
    )
    verbs = rig.verbs()
    assert [v.split()[0] for v in verbs[:4]] == [verbs[0].split()[0], "create", "create", "patch"]
    assert verbs[0].endswith("FineTuneJob/bot")
    assert verbs[1:4] == ["create Service/one", "create Job/bot-1", "patch Service/old"]
    assert verbs[4].endswith("Service/old")
    assert verbs[-1].startswith("create Event/bot.")
    assert (result.writes, result.events) == (5, 1)
    assert result.again
    assert result.error is None


async def test_our_own_writes_are_known_at_once(rig: Rig) -> None:
    await rig.run(status=READY, creates=(rig.batch_job("bot-1"),))
    stored = rig.store.get("FineTuneJob", "team", "bot")
    assert stored is not None
    assert stored["status"]["phase"] == "Pending"
    assert rig.store.get("Job", "team", "bot-1") is not None


async def test_an_old_reading_ends_the_pass_before_anything_happens(rig: Rig) -> None:
    rig.world.api.put("finetune.dev", "finetunejobs", {**rig.job, "spec": {**rig.job["spec"], "suspend": True}})
    result = await rig.run(
        status=READY, creates=(rig.batch_job("bot-1"),), events=(EventNote("Normal", "Reason", "words"),)
    )
    assert rig.verbs() == []
    assert result.again
    assert not result.status_written


async def test_nothing_planned_nothing_written(rig: Rig) -> None:
    result = await rig.run()
    assert (result.writes, result.again, result.error) == (0, False, None)
    assert rig.verbs() == []


async def test_a_name_that_is_already_ours_is_success(rig: Rig) -> None:
    rig.world.api.create("batch", "jobs", "team", rig.batch_job("bot-1"))
    result = await rig.run(creates=(rig.batch_job("bot-1"), rig.service("next")))
    assert result.conflicts == {}
    assert result.again
    assert rig.store.get("Job", "team", "bot-1") is not None
    assert rig.found("services", "next") is not None


async def test_unwatched_kinds_that_are_already_ours_do_not_loop(rig: Rig) -> None:
    body = rig.body("NetworkPolicy", "bot-gang", spec={"podSelector": {}})
    rig.world.api.create("networking.k8s.io", "networkpolicies", "team", body)
    result = await rig.run(creates=(body,))
    assert (result.again, result.conflicts, result.error) == (False, {}, None)


async def test_what_stood_before_is_looked_for_and_not_refused_again(rig: Rig) -> None:
    """Each attempt and each revision asks for its NetworkPolicy, that it comes back when somebody deleted it."""
    body = rig.body("NetworkPolicy", "bot-gang", spec={"podSelector": {}})
    assert (await rig.run(creates=(body,))).writes == 1
    refused = Script()
    refused.add(lambda call: call.method == "POST", Refuse(500, "no write is expected"), times=99)
    rig.world.frontend.policy = refused
    again = await rig.run(creates=(body,))
    assert (again.writes, again.again, again.error) == (0, False, None)
    rig.world.frontend.policy = Script()
    rig.world.api.delete(
        "networking.k8s.io", "networkpolicies", rig.found("networkpolicies", "bot-gang", "networking.k8s.io")
    )
    back = await rig.run(creates=(body,))
    assert back.writes == 1
    assert rig.found("networkpolicies", "bot-gang", "networking.k8s.io") is not None


async def test_one_that_was_found_standing_is_remembered(rig: Rig) -> None:
    body = rig.body("NetworkPolicy", "bot-gang", spec={"podSelector": {}})
    rig.world.api.create("networking.k8s.io", "networkpolicies", "team", body)
    await rig.run(creates=(body,))
    refused = Script()
    refused.add(lambda call: call.method == "POST", Refuse(500, "no write is expected"), times=99)
    rig.world.frontend.policy = refused
    assert (await rig.run(creates=(body,))).error is None


async def test_gangs_that_want_the_shared_service_at_once_are_not_refused(rig: Rig) -> None:
    """Two passes planned from the same reading: the second waits for the first, and plans again."""
    refused = rig.body("Service", GANG_SERVICE, spec={"clusterIP": "None"})
    first, second = await asyncio.gather(rig.run(creates=(refused,)), rig.run(creates=(refused,)))
    assert (first.writes, second.writes, second.again, second.conflicts) == (1, 0, True, {})
    known = rig.store.get("Service", "team", GANG_SERVICE)
    assert known is not None
    owners = [*known["metadata"]["ownerReferences"], owner("FineTuneJob", "other", "u2", controller=False)]
    body = {"metadata": {"resourceVersion": known["metadata"]["resourceVersion"], "ownerReferences": owners}}
    patch = MergePatch(SERVICES, "team", GANG_SERVICE, body)
    one, two = await asyncio.gather(rig.run(patches=(patch,)), rig.run(patches=(patch,)))
    assert (one.writes, two.writes, two.again) == (1, 0, True)
    assert len(rig.verbs()) == 2, "no write was sent that had to be refused"


async def test_somebody_elses_object_is_a_conflict_in_words_and_stays(rig: Rig) -> None:
    theirs = {"metadata": {"name": GANG_SERVICE}, "spec": {"ports": [{"port": 1}]}}
    rig.world.api.create("", "services", "team", theirs)
    before = rig.found("services", GANG_SERVICE)
    result = await rig.run(creates=(rig.service(GANG_SERVICE), rig.batch_job("bot-1")))
    assert list(result.conflicts) == [f"Service/{GANG_SERVICE}"]
    sentence = result.conflicts[f"Service/{GANG_SERVICE}"]
    assert "was not made by this FineTuneJob" in sentence
    assert "delete or rename it" in sentence
    assert rig.found("services", GANG_SERVICE) == before
    assert rig.found("jobs", "bot-1", "batch") is None


async def test_the_gang_service_of_a_neighbour_is_shared(rig: Rig) -> None:
    rig.world.api.create("", "services", "team", rig.service(GANG_SERVICE, uid="neighbour"))
    result = await rig.run(creates=(rig.service(GANG_SERVICE),))
    assert (result.conflicts, result.error) == ({}, None)
    assert rig.store.get("Service", "team", GANG_SERVICE) is not None


async def test_an_object_of_a_former_job_of_this_name_is_waited_for(rig: Rig) -> None:
    rig.world.api.create("batch", "jobs", "team", rig.batch_job("bot-1", uid="former"))
    result = await rig.run(creates=(rig.batch_job("bot-1"),))
    assert isinstance(result.error, errors.Conflict)
    assert "former FineTuneJob" in result.error.message
    assert result.conflicts == {}


async def test_an_object_that_is_going_away_is_waited_for(rig: Rig) -> None:
    body = rig.batch_job("bot-1")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    rig.world.api.create("batch", "jobs", "team", body)
    rig.world.api.delete("batch", "jobs", rig.found("jobs", "bot-1", "batch"))
    result = await rig.run(creates=(rig.batch_job("bot-1"), rig.service("never")))
    assert result.error is not None
    assert "still being deleted" in result.error.message
    assert rig.found("services", "never") is None


async def test_a_token_secret_that_exists_is_ours_by_its_name_and_never_read(rig: Rig) -> None:
    secret = rig.body("Secret", "bot-1-token-abc", stringData={"token": "t"})
    rig.world.api.create("", "secrets", "team", secret)
    reads: list[str] = []

    class Watchful(Script):
        def before(self, call: Call) -> Any:
            if call.client == "operator" and not call.writes:
                reads.append(str(call))
            return super().before(call)

    rig.world.frontend.policy = Watchful()
    result = await rig.run(creates=(secret,))
    assert (result.conflicts, result.error) == ({}, None)
    assert reads == []


async def test_an_answer_that_was_lost_ends_the_pass_and_the_next_one_finds_what_happened(rig: Rig) -> None:
    script = Script()
    script.add(lambda call: call.client == "operator" and call.writes, Cut(), after=True)
    rig.world.frontend.policy = script
    plan = Plan(creates=(rig.batch_job("bot-1"), rig.service("next")))
    result = await rig.executor.run(plan, rig.job)
    assert isinstance(result.error, errors.Ambiguous)
    assert rig.found("services", "next") is None
    again = await rig.executor.run(plan, rig.job)
    assert again.error is None
    assert rig.verbs() == ["create Job/bot-1", "create Service/next"]


async def test_deletes_are_for_one_uid_and_a_missing_object_is_success(rig: Rig) -> None:
    rig.world.api.create("", "services", "team", rig.service("mine"))
    result = await rig.run(
        deletes=(Delete(JOBS, "team", "never-was", "u"), Delete(SERVICES, "team", "mine", "another-uid"))
    )
    assert result.error is None
    assert result.again
    assert rig.found("services", "mine") is not None


async def test_a_namespace_that_is_going_away_is_not_an_error(rig: Rig) -> None:
    message = "jobs is forbidden: unable to create new content in namespace team because it is being terminated"

    class Going(Client):
        async def create(self, *args: Any, **more: Any) -> Json:
            raise errors.Forbidden(message, status=403)

    executor = Executor(Going(rig.world.transport("operator")), rig.store, now=lambda: NOW, instance="me")
    result = await executor.run(Plan(creates=(rig.batch_job("bot-1"),)), rig.job)
    assert (result.error, result.writes) == (None, 0)


async def test_a_lost_event_changes_nothing(rig: Rig) -> None:
    script = Script()
    script.add(
        lambda call: call.client == "operator" and call.resource.plural == "events",
        Refuse(500),
    )
    rig.world.frontend.policy = script
    result = await rig.run(events=(EventNote("Warning", "Failed", "x" * 5000), EventNote("Normal", "Ok", "words")))
    assert (result.error, result.events, result.writes) == (None, 1, 0)
    assert not result.again


async def test_an_event_is_about_the_job(rig: Rig) -> None:
    await rig.run(events=(EventNote("Warning", "AttemptFailed", "x" * 5000),))
    ((event,), _) = rig.world.server.list(rig.world.server.resource("", "events"), "team", {})
    assert event["involvedObject"]["uid"] == rig.uid
    assert (event["type"], event["reason"], len(event["message"])) == ("Warning", "AttemptFailed", 1024)
    assert event["firstTimestamp"] == "2026-01-02T03:04:05Z"


async def test_the_same_for_a_modeldeployment(rig: Rig) -> None:
    mine = rig.world.api.create("finetune.dev", "modeldeployments", "team", new_modeldeployment())
    uid = mine["metadata"]["uid"]
    rig.store.apply("ADDED", mine)

    rules = [{"backendRefs": [{"name": "chat-aaa", "weight": 100}]}]
    route = unborn(served("HTTPRoute", "chat", owner_uid=uid, spec={"rules": rules}))
    result = await rig.executor.run(
        Plan(status={"phase": "Progressing"}, creates=(route,), events=(EventNote("Normal", "Stepping", "words"),)),
        mine,
    )
    assert (result.writes, result.events, result.error) == (2, 1, None)
    assert rig.verbs()[0].endswith("ModelDeployment/chat")
    stored = rig.store.get("ModelDeployment", "team", "chat")
    assert stored is not None
    assert stored["status"]["phase"] == "Progressing"
    ((event,), _) = rig.world.server.list(rig.world.server.resource("", "events"), "team", {})
    assert (event["involvedObject"]["kind"], event["involvedObject"]["uid"]) == ("ModelDeployment", uid)
    known = rig.store.get("HTTPRoute", "team", "chat")
    assert known is not None
    body = {"metadata": {"resourceVersion": known["metadata"]["resourceVersion"]}, "spec": {"rules": []}}
    patched = await rig.executor.run(Plan(patches=(MergePatch(HTTPROUTES, "team", "chat", body),)), stored)
    assert (patched.writes, patched.error) == (1, None)
    assert rig.store.get("HTTPRoute", "team", "chat")["spec"] == {"rules": []}  # type: ignore[index]
    stale = await rig.executor.run(Plan(patches=(MergePatch(HTTPROUTES, "team", "chat", body),)), stored)
    assert (stale.writes, stale.again) == (0, True), "somebody else changed it meanwhile: plan again"


async def test_a_route_of_somebody_else_is_told_with_our_kind(rig: Rig) -> None:
    mine = rig.world.api.create("finetune.dev", "modeldeployments", "team", new_modeldeployment())
    theirs = unborn(served("HTTPRoute", "chat", spec={"rules": []}))
    del theirs["metadata"]["ownerReferences"]
    rig.world.api.create("gateway.networking.k8s.io", "httproutes", "team", theirs)
    body = unborn(served("HTTPRoute", "chat", owner_uid=mine["metadata"]["uid"], spec={"rules": []}))
    result = await rig.executor.run(Plan(creates=(body,)), mine)
    assert result.conflicts["HTTPRoute/chat"] == (
        "an HTTPRoute named chat exists in namespace team and was not made by this ModelDeployment; "
        "it is left alone: delete or rename it, or give the ModelDeployment another name"
    )


async def test_an_object_of_a_former_modeldeployment_of_this_name_is_waited_for(rig: Rig) -> None:
    mine = rig.world.api.create("finetune.dev", "modeldeployments", "team", new_modeldeployment())
    former = unborn(served("Service", "chat-aaa", owner_uid="former", spec={"clusterIP": "None"}))
    rig.world.api.create("", "services", "team", former)
    body = unborn(served("Service", "chat-aaa", owner_uid=mine["metadata"]["uid"], spec={"clusterIP": "None"}))
    result = await rig.executor.run(Plan(creates=(body,)), mine)
    assert result.error is not None
    assert "belongs to a former ModelDeployment of this name" in result.error.message


async def test_a_jobs_object_is_no_deployments(rig: Rig) -> None:
    mine = rig.world.api.create("finetune.dev", "modeldeployments", "team", new_modeldeployment("bot"))
    rig.world.api.create("", "services", "team", rig.service("bot-aaa"))
    body = unborn(served("Service", "bot-aaa", of="bot", owner_uid=mine["metadata"]["uid"], spec={"clusterIP": "None"}))
    result = await rig.executor.run(Plan(creates=(body,)), mine)
    assert "belongs to FineTuneJob/bot" in result.conflicts["Service/bot-aaa"]


async def test_a_finetunejob_that_is_gone_ends_the_pass_quietly(rig: Rig) -> None:
    rig.world.api.delete("finetune.dev", "finetunejobs", rig.job)
    result = await rig.run(status=READY, creates=(rig.batch_job("bot-1"),))
    assert (result.error, result.writes) == (None, 0)
    assert rig.found("jobs", "bot-1", "batch") is None
