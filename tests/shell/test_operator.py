"""The whole operator against the fake API server over loopback HTTP, Kopf included."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any

import aiohttp
import pytest
from fakeapi import HttpFrontend, Refuse, Script, World, install_crd

from finetune_operator.core.serving.types import DeploymentObserved
from finetune_operator.core.types import Config, Observed, Plan
from finetune_operator.shell import resync, tasks
from finetune_operator.shell.config import load
from finetune_operator.shell.connection import Access
from finetune_operator.shell.election import LEASE_NAME
from finetune_operator.shell.operator import Operator
from tests.crds import OURS, crd
from tests.kube.builders import Json, gateway_crd, new_finetunejob, new_modeldeployment

FLAGS = ["--namespace", "team", "--trainer-image", "t:1", "--small-image", "s:1", "--listen", "127.0.0.1:0"]


def seen_plan(observed: Observed, now: datetime, config: Config) -> Plan:
    """Says in status how much it saw."""
    status = {"phase": "Running", "message": f"suspend {observed.job['spec'].get('suspend')}"}
    old = observed.job.get("status") or {}
    return Plan() if {k: old.get(k) for k in status} == status else Plan(status=status)


def seen_deployment(observed: DeploymentObserved, now: datetime, config: Config) -> Plan:
    """Says in status how much it saw."""
    jobs = [job["metadata"]["name"] + " " + job["status"].get("phase", "") for job in observed.fine_tune_jobs]
    others = sorted({claim.owner for claim in observed.claims.values()})
    status = {"phase": "Pending", "message": f"gateway api {config.gateway_api}, jobs {jobs}", "reason": str(others)}
    old = observed.deployment.get("status") or {}
    return Plan() if {k: old.get(k) for k in status} == status else Plan(status=status)


class Running:
    def __init__(self, operator: Operator, task: asyncio.Task[int], world: World) -> None:
        self.operator, self.task, self.world = operator, task, world

    async def until(self, predicate: Callable[[], Any], seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while not predicate():  # noqa: ASYNC110 - the fake server tells nobody
                await asyncio.sleep(0.02)

    async def get(self, path: str) -> tuple[int, str]:
        host, port = self.operator.address
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}{path}") as answer:
            return answer.status, await answer.text()

    def status(self, name: str = "bot") -> Json:
        job = self.world.find("finetune.dev", "finetunejobs", "team", name)
        return (job or {}).get("status") or {}

    def deployment(self, name: str = "chat") -> Json:
        found = self.world.find("finetune.dev", "modeldeployments", "team", name)
        return (found or {}).get("status") or {}

    def lease(self) -> Json:
        found = self.world.find("coordination.k8s.io", "leases", "team", LEASE_NAME)
        return (found or {}).get("spec") or {}


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(world: World) -> AsyncIterator[Start]:
    async with contextlib.AsyncExitStack() as stack:

        async def begin(*flags: str, on: World = world) -> Running:
            http = await stack.enter_async_context(HttpFrontend(on.frontend, bookmark_every=0.2))
            options = load([*FLAGS, "--identity", "one", *flags], {})
            operator = Operator(options, Access(http.url, None, lambda: None), seen_plan, seen_deployment)
            task = asyncio.create_task(operator.run())

            async def end() -> None:
                operator.stop()
                async with asyncio.timeout(30):
                    await asyncio.wait({task})

            stack.push_async_callback(end)
            return Running(operator, task, on)

        yield begin


async def test_it_leads_learns_watches_reconciles_and_leaves_in_order(start: Start, world: World) -> None:
    world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob("early"))
    one = await start()
    await one.until(lambda: one.status("early").get("phase") == "Running")
    assert one.lease()["holderIdentity"] == "one"
    job = world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob())
    await one.until(lambda: one.status().get("message") == "suspend False")
    job = world.find("finetune.dev", "finetunejobs", "team", "bot")
    world.api.put("finetune.dev", "finetunejobs", {**job, "spec": {**job["spec"], "suspend": True}})
    await one.until(lambda: one.status().get("message") == "suspend True")
    assert (await one.get("/livez"))[0] == 200
    assert (await one.get("/readyz"))[0] == 200
    metrics = (await one.get("/metrics"))[1]
    assert "finetune_operator_leader 1.0" in metrics
    assert 'finetune_operator_jobs{phase="Running"} 2.0' in metrics
    kinds = {w.kind for w in world.server.writes.since(0) if w.client != "user" and w.kind != "Namespace"}
    assert kinds >= {"FineTuneJob", "Lease", "Secret"}
    one.operator.stop()
    async with asyncio.timeout(20):
        assert await one.task == 0
    assert one.lease()["holderIdentity"] == ""


async def test_a_settled_cluster_is_not_written_to(start: Start, world: World) -> None:
    for n in range(5):
        world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob(f"bot{n}"))
    one = await start()
    await one.until(lambda: all(one.status(f"bot{n}").get("phase") == "Running" for n in range(5)))
    statuses = [w for w in world.server.writes.since(0) if w.kind == "FineTuneJob" and w.client != "user"]
    assert len(statuses) == 5, "one status write per job"


async def test_a_stolen_lease_ends_the_process_with_an_error(start: Start, world: World) -> None:
    one = await start("--lease-seconds", "2")
    await one.until(lambda: one.lease().get("holderIdentity") == "one")
    lease = world.find("coordination.k8s.io", "leases", "team", LEASE_NAME)
    while True:
        try:
            world.api.put("coordination.k8s.io", "leases", {**lease, "spec": {**lease["spec"], "holderIdentity": "x"}})
            break
        except Exception:
            lease = world.find("coordination.k8s.io", "leases", "team", LEASE_NAME)
    async with asyncio.timeout(20):
        assert await one.task == 1
    assert one.lease()["holderIdentity"] == "x", "another's lease is not released"


async def test_a_dead_watcher_ends_the_process_with_an_error(start: Start, world: World) -> None:
    script = Script()
    script.add(lambda call: call.watch and call.resource.plural == "finetunejobs", Refuse(404))
    world.frontend.policy = script
    one = await start()
    async with asyncio.timeout(20):
        assert await one.task == 1
    assert one.lease()["holderIdentity"] == "", "the other replica may start at once"


async def test_a_standby_waits_is_ready_and_takes_over(start: Start, world: World) -> None:
    spec = {"holderIdentity": "other", "leaseDurationSeconds": 2, "renewTime": "2026-01-02T03:04:05.000000Z"}
    world.api.create("coordination.k8s.io", "leases", "team", {"metadata": {"name": LEASE_NAME}, "spec": spec})
    one = await start("--lease-seconds", "2")
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(RuntimeError):
                if (await one.get("/readyz"))[0] == 200:
                    break
            await asyncio.sleep(0.02)
    await one.until(lambda: one.lease()["holderIdentity"] == "one")


async def test_stopping_a_standby(start: Start, world: World) -> None:
    spec = {"holderIdentity": "other", "leaseDurationSeconds": 60, "renewTime": "2026-01-02T03:04:05.000000Z"}
    world.api.create("coordination.k8s.io", "leases", "team", {"metadata": {"name": LEASE_NAME}, "spec": spec})
    one = await start()
    await one.until(lambda: one.world.find("", "secrets", "team", "finetune-operator-key"))
    one.operator.stop()
    async with asyncio.timeout(10):
        assert await one.task == 0
    assert one.lease()["holderIdentity"] == "other"


async def test_without_the_crd_it_says_so_and_waits(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "RETRY", 0.1)
    bare = World()
    bare.api.create("", "namespaces", "", {"metadata": {"name": "team"}})
    one = await start(on=bare)
    await one.until(lambda: any("kubectl apply -f crds/" in r.getMessage() for r in caplog.records))
    assert not one.task.done()
    assert (await one.get("/readyz"))[0] == 503
    for plural in OURS:
        install_crd(bare.server, crd(plural))
    bare.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob())
    await one.until(lambda: one.status().get("phase") == "Running")


async def test_a_deployment_sees_its_job_finish(start: Start, world: World) -> None:
    one = await start()
    world.api.create("finetune.dev", "modeldeployments", "team", new_modeldeployment())
    await one.until(lambda: one.deployment().get("message") == "gateway api True, jobs []")
    world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob())
    await one.until(lambda: one.deployment().get("message") == "gateway api True, jobs ['bot Running']")
    assert 'finetune_operator_deployments{phase="Pending"} 1.0' in (await one.get("/metrics"))[1]


async def test_two_deployments_at_one_address_learn_of_each_other(start: Start, world: World) -> None:
    def at(name: str, host: str) -> Json:
        body = new_modeldeployment(name)
        return {**body, "spec": {**body["spec"], "traffic": {"hostnames": [host]}}}

    one = await start("--policy-hostnames", "*")
    world.api.create("finetune.dev", "modeldeployments", "team", at("chat", "a.example.com"))
    world.api.create("finetune.dev", "modeldeployments", "team", at("other", "b.example.com"))
    await one.until(lambda: one.deployment().get("reason") == one.deployment("other").get("reason") == "[]")
    chat = world.find("finetune.dev", "modeldeployments", "team", "chat")
    world.api.put("finetune.dev", "modeldeployments", {**chat, "spec": at("chat", "b.example.com")["spec"]})
    await one.until(lambda: one.deployment().get("reason") == "['team/other']")
    await one.until(lambda: one.deployment("other").get("reason") == "['team/chat']")


async def test_without_the_gateway_api_jobs_go_on_and_it_makes_place_when_it_appears(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resync, "_SECOND_ROUND", 0.3)
    bare = World(nodes={"n1": {}})
    bare.api.create("", "namespaces", "", {"metadata": {"name": "team"}})
    for plural in OURS:
        install_crd(bare.server, crd(plural))
    bare.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob())
    bare.api.create("finetune.dev", "modeldeployments", "team", new_modeldeployment())
    one = await start("--resync-seconds", "1", on=bare)
    await one.until(lambda: one.status().get("phase") == "Running")
    await one.until(lambda: str(one.deployment().get("message")).startswith("gateway api False"))
    install_crd(bare.server, gateway_crd())
    async with asyncio.timeout(20):
        assert await one.task == 0, "it ends in order; the next process watches routes"
    two = await start(on=bare)
    await two.until(lambda: str(two.deployment().get("message")).startswith("gateway api True"))
