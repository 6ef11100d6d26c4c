from typing import Any

from fakeapi import World

from finetune_operator.core.serving.types import Claim, DeploymentObserved
from finetune_operator.core.types import DEPLOYMENTS, HTTPROUTES, JOBS, SERVICES
from finetune_operator.kube.client import Client
from finetune_operator.kube.keys import deployment_key
from finetune_operator.kube.observe_deployment import observe_deployment, observe_deployment_fresh
from finetune_operator.kube.store import Store
from tests.kube.builders import (
    Json,
    engine_pod,
    finetunejob,
    modeldeployment,
    new_finetunejob,
    new_modeldeployment,
    owner,
    pod,
    served,
    unborn,
)

KEY = deployment_key("team", "chat")


def filled(*objects: Json, claims: Any = lambda obj: ()) -> Store:
    store = Store(claims)
    for obj in objects:
        store.apply("ADDED", obj)
    return store


def names(objects: Any) -> list[str]:
    return [o["metadata"]["name"] for o in objects]


def look(store: Store, **more: Any) -> DeploymentObserved:
    seen = observe_deployment(store, KEY, **more)
    assert seen is not None
    return seen


def job_pod(name: str, *, job_uid: str, **more: Any) -> Json:
    body = served("Pod", name, revision=None, **more)
    body["metadata"]["ownerReferences"] = [owner("Job", "j", job_uid)]
    return body | {"status": {"phase": "Succeeded"}}


def test_nothing_without_the_modeldeployment() -> None:
    assert observe_deployment(filled(served("Deployment", "chat-aaa")), KEY) is None


def test_everything_that_bears_on_it() -> None:
    store = filled(
        modeldeployment(),
        finetunejob(),
        finetunejob("another", uid="x"),
        served("Deployment", "chat-aaa"),
        served("Deployment", "chat-bbb", revision="bbb"),
        served("Service", "chat-aaa"),
        served("HTTPRoute", "chat", revision=None),
        served("Job", "chat-verify-k", uid="j1", revision=None),
        engine_pod(),
        job_pod("chat-verify-k-0", job_uid="j1"),
        served("Deployment", "far-aaa", of="far", owner_uid="far"),
    )
    seen = look(store, conflicts={"Service/x": "words"})
    assert seen.deployment["metadata"]["name"] == "chat"
    assert names(seen.children) == ["chat-aaa", "chat-bbb"]
    assert names(seen.services) == ["chat-aaa"]
    assert seen.route is not None
    assert names(seen.jobs) == ["chat-verify-k"]
    assert names(seen.pods) == ["chat-aaa-5f7-x", "chat-verify-k-0"]
    assert names(seen.fine_tune_jobs) == ["bot"]
    assert seen.conflicts == {"Service/x": "words"}
    assert (seen.claims, seen.engines, seen.fresh, seen.gone_pods) == ({}, None, False, frozenset())


def test_a_label_without_our_owner_reference_counts_for_nothing() -> None:
    store = filled(
        modeldeployment(),
        served("Deployment", "chat-aaa", owner_uid="former"),
        served("Service", "chat-aaa", owner_uid="former"),
        served("HTTPRoute", "chat", owner_uid="former"),
        served("Job", "chat-verify-k", owner_uid="former", uid="j1"),
        job_pod("chat-verify-k-0", job_uid="j1"),
        engine_pod(),
    )
    seen = look(store)
    assert (seen.children, seen.services, seen.route, seen.jobs, seen.pods) == ((), (), None, (), ())


def test_an_engine_pod_is_its_deployments_by_revision_and_replica_set() -> None:
    store = filled(
        modeldeployment(),
        served("Deployment", "chat-aaa"),
        served("Deployment", "chat-bbb", revision="bbb"),
        engine_pod("mine"),
        engine_pod("its-sibling", replica_set="chat-bbb-77", revision="bbb"),
        engine_pod("wrong-revision", revision="bbb"),
        engine_pod("not-ours", replica_set="chat-ccc-5f7", revision="aaa"),
        engine_pod("longer-name", replica_set="chat-aaa-x-5f7"),
        served("Pod", "no-replica-set", owner_uid="md-uid"),
        pod("bot-1-0-a"),
    )
    assert names(look(store).pods) == ["its-sibling", "mine"]


def test_the_pods_of_a_verifier_that_are_gone_are_told_apart() -> None:
    store = filled(
        modeldeployment(),
        served("Deployment", "chat-aaa"),
        served("Job", "chat-verify-k", uid="j1", revision=None),
        job_pod("chat-verify-k-0", job_uid="j1"),
        engine_pod(),
    )
    store.apply("DELETED", job_pod("chat-verify-k-0", job_uid="j1", rv=3))
    store.apply("DELETED", engine_pod(rv=3))
    seen = look(store)
    assert names(seen.pods) == ["chat-verify-k-0"], "of engines that are gone nothing is left to learn"
    assert seen.gone_pods == {"uid-chat-verify-k-0"}


def test_the_jobs_that_a_selector_chooses() -> None:
    def labelled(name: str, value: str, namespace: str = "team") -> Json:
        job = finetunejob(name, uid=f"uid-{name}-{namespace}", namespace=namespace)
        job["metadata"]["labels"] = {"model": value}
        return job

    store = filled(
        modeldeployment(model={"fineTuneJobSelector": {"matchLabels": {"model": "bot"}}}),
        labelled("b", "bot"),
        labelled("a", "bot"),
        labelled("c", "other"),
        labelled("d", "bot", namespace="elsewhere"),
    )
    assert names(look(store).fine_tune_jobs) == ["a", "b"]


def test_a_model_by_uri_needs_no_job() -> None:
    assert look(filled(modeldeployment(model={"uri": "s3://x"}), finetunejob())).fine_tune_jobs == ()


def test_the_oldest_of_those_at_our_address_is_named() -> None:
    def claims(obj: Any) -> tuple[tuple[str, str], ...]:
        return (("a.example.com", "/"), (obj["metadata"]["name"], "/"))

    store = filled(
        modeldeployment(),
        modeldeployment("young", uid="y", created="2026-01-03T00:00:00Z"),
        modeldeployment("old", uid="o", namespace="elsewhere", created="2026-01-02T00:00:00Z"),
        claims=claims,
    )
    assert look(store).claims == {("a.example.com", "/"): Claim("elsewhere/old", "2026-01-02T00:00:00Z")}


class Rig:
    def __init__(self, world: World, client: Client) -> None:
        self.world, self.client = world, client
        self.deployment: Json = world.api.create("finetune.dev", "modeldeployments", "team", new_modeldeployment())
        self.uid: str = self.deployment["metadata"]["uid"]

    def child(self, kind: str, name: str, **more: Any) -> Json:
        return unborn(served(kind, name, owner_uid=self.uid, **more))


async def test_a_fresh_reading_is_what_the_api_server_says(world: World, client: Client) -> None:
    rig = Rig(world, client)
    world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob())
    never = served("Deployment", "chat-old", owner_uid=rig.uid)
    store = filled(rig.deployment, never)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "main", "image": "i"}]}}
    selector = {"matchLabels": {"a": "b"}}
    deployment = rig.child("Deployment", "chat-aaa", spec={"selector": selector, "template": template})
    await client.create(DEPLOYMENTS, "team", deployment)
    await client.create(SERVICES, "team", rig.child("Service", "chat-aaa", spec={"clusterIP": "None"}))
    await client.create(HTTPROUTES, "team", rig.child("HTTPRoute", "chat", revision=None, spec={"rules": []}))
    job_template = {"spec": {**template["spec"], "restartPolicy": "Never"}}  # type: ignore[dict-item]
    await client.create(JOBS, "team", rig.child("Job", "chat-verify-k", revision=None, spec={"template": job_template}))
    seen = await observe_deployment_fresh(client, store, KEY)
    assert seen is not None
    assert seen.fresh
    assert names(seen.children) == ["chat-aaa"]
    assert names(seen.services) == ["chat-aaa"]
    assert names(seen.jobs) == ["chat-verify-k"]
    assert names(seen.fine_tune_jobs) == ["bot"]
    assert seen.route is not None


async def test_a_job_that_went_away_is_not_served_from_memory(world: World, client: Client) -> None:
    rig = Rig(world, client)
    store = filled(rig.deployment, finetunejob())
    seen = await observe_deployment_fresh(client, store, KEY)
    assert seen is not None
    assert seen.fine_tune_jobs == ()


async def test_without_the_gateway_api_its_routes_are_not_asked_for(client: Client) -> None:
    bare = World()
    bare.api.create("", "namespaces", "", {"metadata": {"name": "team"}})
    asked: list[str] = []

    class Watchful(Client):
        async def list(self, resource: Any, *args: Any, **more: Any) -> Any:
            asked.append(resource.kind)
            return [], "1"

        async def get(self, *args: Any) -> Json:
            return modeldeployment(model={"uri": "s3://x"})

    seen = await observe_deployment_fresh(Watchful(bare.transport("operator")), Store(), KEY, gateway_api=False)
    assert seen is not None
    assert asked == ["Deployment", "Service", "Job", "Pod"]


async def test_a_fresh_reading_of_one_that_is_gone(client: Client) -> None:
    store = filled(modeldeployment())
    assert await observe_deployment_fresh(client, store, KEY) is None
    assert store.keys() == []
