import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

import pytest
from fakeapi import Cut, Refuse, Script, World

from finetune_operator.core.serving.types import DeploymentObserved, Engines, Scrape
from finetune_operator.core.types import FINETUNEJOBS, Config, EventNote, Observed, Plan, Probe, Sample
from finetune_operator.kube.client import Client
from finetune_operator.kube.keys import Key, deployment_key, job_key
from finetune_operator.kube.store import Store
from finetune_operator.shell.lanes import Lane
from finetune_operator.shell.metrics import Metrics
from finetune_operator.shell.pace import Pace
from finetune_operator.shell.queue import WorkQueue
from finetune_operator.shell.reconciler import Reconciler
from tests.kube.builders import MANAGED, Json, finetunejob, new_finetunejob, new_modeldeployment, owner
from tests.kube.engines import scrape, target
from tests.shell.fakeloop import EPOCH, clock, run, wall

KEY = job_key("team", "bot")
CHAT = deployment_key("team", "chat")
CONFIG = Config("finetune-system", "trainer:1", "small:1", "s3://runs", "", b"k" * 32)
PlanFn = Callable[[Observed], Plan]


class Polls:
    def __init__(self) -> None:
        self.wanted: list[Probe | None] = []
        self.forgotten: list[Key] = []

    def sample(self, key: Key) -> Sample | None:
        return Sample(7, None)

    def want(self, key: Key, probe: Probe | None) -> None:
        self.wanted.append(probe)

    def forget(self, key: Key) -> None:
        self.forgotten.append(key)


class Scrapes:
    def __init__(self) -> None:
        self.wanted: list[Scrape | None] = []
        self.forgotten: list[Key] = []
        self.view: Engines | None = None

    def engines(self, key: Key) -> Engines | None:
        return self.view

    def want(self, key: Key, scrape: Scrape | None) -> None:
        self.wanted.append(scrape)

    def forget(self, key: Key) -> None:
        self.forgotten.append(key)


class Slow:
    """The transport of an API server that takes its time."""

    def __init__(self, world: World) -> None:
        self._transport = world.transport("operator")
        self.seconds = 0.0

    async def request(self, *args: Any, **more: Any) -> Any:
        await asyncio.sleep(self.seconds)
        return await self._transport.request(*args, **more)


class Rig:
    def __init__(self, world: World, plan: PlanFn) -> None:
        self.world = world
        self.store = Store()
        self.queue: WorkQueue[Key] = WorkQueue(clock=clock, jitter=lambda: 0.999999)
        self.metrics = Metrics()
        self.polls = Polls()
        self.seen: list[Observed] = []
        self.intervals: list[float] = []
        self.transport = Slow(world)
        self.plan_deployment: Callable[[DeploymentObserved], Plan] = lambda observed: Plan()
        self.scrapes = Scrapes()
        self.pace = Pace(15.0, runs=lambda: 1000, places=4)

        def remember(observed: Observed, now: datetime, config: Config) -> Plan:
            self.seen.append(observed)
            self.intervals.append(config.progress_write_seconds)
            return plan(observed)

        self.reconciler = Reconciler(
            client=Client(self.transport, sleep=asyncio.sleep),
            store=self.store,
            queue=self.queue,
            plan=remember,
            plan_deployment=lambda observed, now, config: self.plan_deployment(observed),
            config=CONFIG,
            now=wall,
            clock=clock,
            instance="me",
            polls=self.polls,
            scrapes=self.scrapes,
            pace=self.pace,
            metrics=self.metrics,
        )

    def add_job(self, name: str = "bot") -> Json:
        job: Json = self.world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob(name))
        self.store.apply("ADDED", job)
        self.queue.add(job_key("team", name))
        return job

    def add_deployment(self) -> Json:
        body: Json = self.world.api.create("finetune.dev", "modeldeployments", "team", new_modeldeployment())
        self.store.apply("ADDED", body)
        self.queue.add(CHAT)
        return body

    async def turn(self) -> None:
        key = await self.queue.take()
        await self.reconciler.process(key)
        self.queue.done(key)

    async def rest(self, limit: int = 50) -> int:
        """Passes until nothing is due at this instant."""
        for n in range(limit):
            if not len(self.queue):
                return n
            await self.turn()
        raise AssertionError("the queue does not come to rest")

    def results(self) -> dict[str, float]:
        return {
            s.labels["result"]: s.value
            for m in self.metrics.passes.collect()
            for s in m.samples
            if s.name.endswith("_total")
        }


def story(world: World, plan: PlanFn, tell: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await tell(Rig(world, plan))

    run(main())


def once(status: Json, **more: Any) -> PlanFn:
    """A plan that writes one status, and then is content."""

    def plan(observed: Observed) -> Plan:
        if (observed.job.get("status") or {}).get("phase") == status["phase"]:
            return Plan()
        return Plan(status=status, **more)

    return plan


def test_a_pass_writes_and_the_next_one_sees_it_without_a_watch(world: World) -> None:
    async def tell(rig: Rig) -> None:
        rig.add_job()
        assert await rig.rest() == 2
        assert len(rig.seen) == 2
        assert rig.seen[1].job["status"]["phase"] == "Pending"
        assert rig.seen[0].sample == Sample(7, None)
        assert rig.results() == {"wrote": 1.0, "settled": 1.0}

    story(world, once({"phase": "Pending"}), tell)


def test_a_settled_job_is_left_alone_until_its_plan_wants_to_be_asked_again(world: World) -> None:
    async def tell(rig: Rig) -> None:
        rig.add_job()
        began = clock()
        await rig.turn()
        await rig.turn()
        assert clock() - began == pytest.approx(12.5)

    story(world, lambda observed: Plan(requeue_after=12.5), tell)


def test_a_plan_may_ask_for_a_fresh_reading(world: World) -> None:
    def plan(observed: Observed) -> Plan:
        return Plan() if observed.fresh else Plan(need_fresh=True)

    async def tell(rig: Rig) -> None:
        job = rig.add_job()
        rig.world.api.put("finetune.dev", "finetunejobs", {**job, "spec": {**job["spec"], "suspend": True}})
        await rig.rest()
        assert [o.fresh for o in rig.seen] == [False, True]
        assert [o.job["spec"]["suspend"] for o in rig.seen] == [False, True]

    story(world, plan, tell)


def test_asking_for_fresh_again_is_a_bug_that_backs_off(world: World) -> None:
    async def tell(rig: Rig) -> None:
        rig.add_job()
        await rig.rest()
        assert rig.results() == {"bug": 1.0}

    story(world, lambda observed: Plan(need_fresh=True), tell)


def test_a_bug_hurts_nobody_else(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def plan(observed: Observed) -> Plan:
        if observed.job["metadata"]["name"] == "bad":
            raise KeyError("a bug")
        return once({"phase": "Pending"})(observed)

    async def tell(rig: Rig) -> None:
        for name in ("bad", "good", "fine"):
            rig.add_job(name)
        await rig.rest()
        for name in ("good", "fine"):
            assert rig.store.get("FineTuneJob", "team", name)["status"]["phase"] == "Pending"  # type: ignore[index]
        assert rig.results() == {"bug": 1.0, "wrote": 2.0, "settled": 2.0}
        began = clock()
        waits = []
        for _ in range(4):
            await rig.turn()
            waits.append(round(clock() - began))
        assert waits == [1, 3, 7, 15], "each failure waits longer"
        (record, *_) = [r for r in caplog.records if r.levelname == "ERROR"]
        assert record.__dict__["job"] == "bad"

    story(world, plan, tell)


def test_a_conflict_plans_again_at_once_from_the_newer_object(world: World) -> None:
    async def tell(rig: Rig) -> None:
        job = rig.add_job()
        rig.world.api.put("finetune.dev", "finetunejobs", {**job, "spec": {**job["spec"], "suspend": True}})
        began = clock()
        assert await rig.rest() == 3
        assert clock() == began
        assert [o.job["spec"]["suspend"] for o in rig.seen] == [False, True, True]
        assert rig.results() == {"again": 1.0, "wrote": 1.0, "settled": 1.0}

    story(world, once({"phase": "Pending"}), tell)


def test_a_lost_answer_backs_off_and_then_finds_what_happened(world: World) -> None:
    script = Script()
    script.add(lambda call: call.client == "operator" and call.writes, Cut(), after=True)
    world.frontend.policy = script

    async def tell(rig: Rig) -> None:
        rig.add_job()
        began = clock()
        await rig.turn()
        assert rig.results() == {"error": 1.0}
        rig.store.apply("MODIFIED", rig.world.get("finetune.dev", "finetunejobs", "team", "bot"))
        await rig.turn()
        assert clock() - began == pytest.approx(1.0, abs=0.01)
        assert len(rig.world.server.writes.since(0, "operator")) == 1

    story(world, once({"phase": "Pending"}), tell)


def test_a_throttling_server_is_obeyed(world: World) -> None:
    script = Script()
    script.add(lambda call: call.client == "operator", Refuse(429, retry_after=20), times=99)
    world.frontend.policy = script

    async def tell(rig: Rig) -> None:
        rig.add_job()
        await rig.turn()
        failed_at = clock()
        await rig.turn()
        assert clock() - failed_at >= 20

    story(world, once({"phase": "Pending"}), tell)


def test_somebody_elses_object_reaches_the_next_plan_in_words_and_is_looked_at_again(world: World) -> None:
    def plan(observed: Observed) -> Plan:
        if observed.conflicts:
            return Plan()
        meta = {
            "name": "svc",
            "namespace": "team",
            "labels": dict(MANAGED),
            "ownerReferences": [owner("FineTuneJob", "bot", observed.job["metadata"]["uid"])],
        }
        if (observed.job.get("status") or {}).get("phase"):
            return Plan()
        service = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"clusterIP": "None"}}
        return Plan(creates=(service,))

    async def tell(rig: Rig) -> None:
        theirs = rig.world.api.create(
            "", "services", "team", {"metadata": {"name": "svc"}, "spec": {"clusterIP": "None"}}
        )
        rig.add_job()
        await rig.rest()
        assert "named svc exists" in rig.seen[-1].conflicts["Service/svc"]
        began = clock()
        await rig.turn()
        assert clock() - began == pytest.approx(15.0)
        assert rig.seen[-1].conflicts
        rig.world.api.delete("", "services", theirs)
        await rig.turn()
        assert rig.seen[-1].conflicts == {}
        assert rig.world.find("", "services", "team", "svc")["metadata"]["ownerReferences"]

    story(world, plan, tell)


def test_a_job_that_is_gone_is_forgotten(world: World) -> None:
    async def tell(rig: Rig) -> None:
        job = rig.add_job()
        await rig.rest()
        rig.store.apply("DELETED", job)
        rig.queue.add(KEY)
        await rig.rest()
        assert rig.polls.forgotten == [KEY]
        assert (len(rig.queue), rig.queue.delayed) == (0, 0)
        assert rig.results()["gone"] == 1.0

    story(world, lambda observed: Plan(), tell)


def test_the_probe_of_each_plan_goes_to_the_prober(world: World) -> None:
    probe = Probe(attempt=1, pod="p", pod_uid="u", ip="10.0.0.1", token="t")

    async def tell(rig: Rig) -> None:
        rig.add_job()
        await rig.rest()
        assert rig.polls.wanted == [probe]

    story(world, lambda observed: Plan(probe=probe), tell)


def test_a_plan_that_never_stops_writing_is_slowed_down(world: World, caplog: pytest.LogCaptureFixture) -> None:
    counter = iter(range(10_000))

    async def tell(rig: Rig) -> None:
        rig.add_job()
        began = clock()
        for _ in range(60):
            await rig.turn()
        assert clock() - began > 200
        assert any("passes in a row" in r.message for r in caplog.records)

    story(world, lambda observed: Plan(status={"phase": "Pending", "message": str(next(counter))}), tell)


def test_status_writes_are_counted_and_transitions_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    status = {
        "phase": "Recovering",
        "reason": "Preempted",
        "message": "node n1 is reclaimed",
        "totals": {"preemptions": 2, "restarts": 1},
        "attempts": [_attempt(1, 5), _attempt(2, None)],
    }

    async def tell(rig: Rig) -> None:
        rig.add_job()
        await rig.rest()
        registry = rig.metrics.registry
        assert registry.get_sample_value("finetune_operator_preemptions_total") == 2.0
        assert registry.get_sample_value("finetune_operator_lost_steps_total") == 5.0
        assert registry.get_sample_value("finetune_operator_restarts_total") == 1.0
        (line,) = [r for r in caplog.records if "Recovering" in r.getMessage()]
        assert line.getMessage() == "Recovering: node n1 is reclaimed"
        assert line.__dict__["reason"] == "Preempted"

    story(world, once(status, events=(EventNote("Normal", "Preempted", "words"),)), tell)


def test_a_settled_job_is_not_planned_again_until_something_changes_or_time_comes(world: World) -> None:
    probe = Probe(attempt=1, pod="p", pod_uid="u", ip="10.0.0.1", token="t")

    async def tell(rig: Rig) -> None:
        job = rig.add_job()
        for _ in range(3):
            rig.queue.add(KEY)
            await rig.turn()
            await asyncio.sleep(1)
        assert len(rig.seen) == 1, "nothing changed"
        assert rig.polls.wanted == [probe], "the prober goes on with what it was told"
        newer = rig.world.api.put("finetune.dev", "finetunejobs", {**job, "spec": {**job["spec"], "suspend": True}})
        rig.store.apply("MODIFIED", newer)
        rig.queue.add(KEY)
        await rig.turn()
        assert len(rig.seen) == 2, "the job changed"
        began = clock()
        await rig.turn()
        assert clock() - began == pytest.approx(30.0)
        assert len(rig.seen) == 3, "the plan asked to be asked again"

    story(world, lambda observed: Plan(probe=probe, requeue_after=30.0), tell)


def test_a_sample_is_news(world: World) -> None:
    samples = [Sample(1, None), Sample(2, None)]

    async def tell(rig: Rig) -> None:
        rig.polls.sample = lambda key: samples[0]  # type: ignore[method-assign]
        rig.add_job()
        await rig.rest()
        samples.pop(0)
        rig.queue.add(KEY)
        await rig.rest()
        assert [o.sample for o in rig.seen] == [Sample(1, None), Sample(2, None)]

    story(world, lambda observed: Plan(), tell)


def test_what_the_api_server_does_not_admit_is_told_once_in_words(world: World) -> None:
    script = Script()
    refused = Refuse(403)
    script.add(lambda call: call.client == "operator" and call.resource.plural == "services", refused, times=99)
    world.frontend.policy = script

    def plan(observed: Observed) -> Plan:
        meta = {"name": "svc", "namespace": "team"}
        return Plan(creates=({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"clusterIP": "None"}},))

    async def tell(rig: Rig) -> None:
        rig.add_job()
        for _ in range(4):
            await rig.turn()
        ((event,), _) = rig.world.server.list(rig.world.server.resource("", "events"), "team", {})
        assert (event["type"], event["reason"]) == ("Warning", "CreateRefused")
        assert event["message"].startswith("Service svc is not admitted: ")
        assert rig.results() == {"error": 4.0}

    story(world, plan, tell)


def _attempt(index: int, lost: int | None) -> Json:
    attempt: Json = {
        "index": index,
        "job": f"bot-{index}",
        "generation": 1,
        "specDigest": "d",
        "nodes": 1,
        "gpusPerNode": 0,
        "createdAt": "2026-01-02T03:04:05Z",
    }
    return attempt | ({"lostSteps": lost} if lost is not None else {})


def test_the_resource_that_is_planned_is_the_finetunejob() -> None:
    assert FINETUNEJOBS.api_version == "finetune.dev/v1alpha1"


def test_a_long_queue_of_passes_without_work_leaves_turns_for_others(world: World) -> None:
    async def tell(rig: Rig) -> None:
        for n in range(50):
            rig.add_job(f"bot-{n}")
        worker = asyncio.create_task(rig.reconciler.work())
        most = done = 0
        while done < 50:
            await asyncio.sleep(0)
            most = max(most, len(rig.seen) - done)
            done = len(rig.seen)
        worker.cancel()
        assert most == 1

    story(world, lambda observed: Plan(), tell)


def test_a_deployment_is_planned_by_its_own_plan_with_what_bears_on_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    seen: list[DeploymentObserved] = []
    wanted = scrape(target())

    def plan(observed: DeploymentObserved) -> Plan:
        seen.append(observed)
        if (observed.deployment.get("status") or {}).get("phase"):
            return Plan(scrape=wanted)
        return Plan(status={"phase": "Progressing", "reason": "Verifying", "message": "words"})

    async def tell(rig: Rig) -> None:
        rig.plan_deployment = plan
        rig.scrapes.view = Engines("w", "s", wall())
        rig.store.apply("ADDED", finetunejob())
        rig.add_deployment()
        await rig.rest()
        assert [o.deployment["metadata"]["name"] for o in seen] == ["chat", "chat"]
        assert [job["metadata"]["name"] for job in seen[0].fine_tune_jobs] == ["bot"]
        assert seen[0].engines == rig.scrapes.view
        assert rig.scrapes.wanted == [None, wanted]
        assert rig.seen == [], "no FineTuneJob was planned"
        assert rig.store.find(CHAT)["status"]["phase"] == "Progressing"  # type: ignore[index]
        (line,) = [r for r in caplog.records if r.getMessage() == "Progressing: words"]
        assert line.__dict__["deployment"] == "chat"

    story(world, lambda observed: Plan(), tell)


def test_a_new_look_at_the_engines_is_news(world: World) -> None:
    seen: list[Engines | None] = []

    def plan(observed: DeploymentObserved) -> Plan:
        seen.append(observed.engines)
        return Plan()

    async def tell(rig: Rig) -> None:
        rig.plan_deployment = plan
        rig.add_deployment()
        await rig.rest()
        for looks in (1, 1, 2):
            rig.scrapes.view = Engines("w", "s", EPOCH, looks=looks)
            rig.queue.add(CHAT)
            await rig.rest()
        assert [view.looks if view else None for view in seen] == [None, 1, 2]

    story(world, lambda observed: Plan(), tell)


def test_a_deployment_may_ask_for_a_fresh_reading(world: World) -> None:
    fresh: list[bool] = []

    def plan(observed: DeploymentObserved) -> Plan:
        fresh.append(observed.fresh)
        return Plan() if observed.fresh else Plan(need_fresh=True)

    async def tell(rig: Rig) -> None:
        rig.plan_deployment = plan
        rig.add_deployment()
        await rig.rest()
        assert fresh == [False, True]

    story(world, lambda observed: Plan(), tell)


def test_a_deployment_that_is_gone_is_looked_at_no_longer(world: World) -> None:
    async def tell(rig: Rig) -> None:
        body = rig.add_deployment()
        await rig.rest()
        rig.store.apply("DELETED", body)
        rig.queue.add(CHAT)
        await rig.rest()
        assert (rig.scrapes.forgotten, rig.polls.forgotten) == ([CHAT], [])

    story(world, lambda observed: Plan(), tell)


def test_the_timers_of_deployments_go_before_those_of_jobs(world: World) -> None:
    async def tell(rig: Rig) -> None:
        rig.plan_deployment = lambda observed: Plan(requeue_after=10.0)
        rig.add_job()
        await rig.turn()
        rig.add_deployment()
        await rig.turn()
        await asyncio.sleep(11)
        assert [await rig.queue.take(), await rig.queue.take()] == [CHAT, KEY]

    story(world, lambda observed: Plan(requeue_after=10.0), tell)


def test_slow_writes_stretch_the_time_between_two_of_progress(world: World) -> None:
    """An API server that takes 0.3 s for each write, and a thousand runs: progress every 120 s instead of 15."""

    steps = iter(range(10_000))

    async def tell(rig: Rig) -> None:
        rig.transport.seconds = 0.3
        rig.add_job()
        for _ in range(200):
            rig.queue.add(KEY)
            await rig.turn()
        assert rig.intervals[0] == 15.0
        assert rig.intervals[-1] == 120.0
        assert rig.intervals == sorted(rig.intervals)

    story(world, lambda observed: Plan(status={"phase": "Running", "message": str(next(steps))}), tell)


def test_while_the_server_is_slow_notices_keep_their_workers_and_others_lose_theirs(world: World) -> None:
    steps = iter(range(10_000))

    async def tell(rig: Rig) -> None:
        rig.transport.seconds = 0.01
        rig.add_job()
        for seconds in (0.01, 1.0):
            rig.transport.seconds = seconds
            for _ in range(60):
                rig.queue.add(KEY)
                await rig.turn()
        await rig.rest()
        for n in range(8):
            rig.queue.add(job_key("team", f"new-{n}"))
        taken = [await rig.queue.take() for _ in range(5)]
        blocked = asyncio.create_task(rig.queue.take())
        await asyncio.sleep(1)
        assert not blocked.done(), "five of sixteen workers are left to new jobs"
        rig.queue.add(job_key("team", "preempted"), Lane.NOTICE)
        assert (await blocked).name == "preempted"
        assert len(taken) == 5

    def plan(observed: Observed) -> Plan:
        return Plan(status={"phase": "Running", "message": str(next(steps))}) if observed.job else Plan()

    story(world, plan, tell)
