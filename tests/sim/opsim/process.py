"""One run of the operator's process: everything that `shell.operator` wires, on the simulation's transport and clock.

Kopf is replaced by tasks that LIST and WATCH the same kinds through the same faults; `tests/sim/test_operator_kopf.py`
has the real one.
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fakeapi import Crash, Watch
from fakeapi.routes import parse

from finetune_api.reports import Progress
from finetune_operator.core.plan import plan
from finetune_operator.core.serving.plan import plan_deployment
from finetune_operator.core.serving.traffic import claims_of
from finetune_operator.core.serving.types import Target
from finetune_operator.core.types import Config, Probe, Resource
from finetune_operator.kube import errors
from finetune_operator.kube.client import Client, path_of
from finetune_operator.kube.engine_client import EngineFailed, Mark
from finetune_operator.kube.keys import Key
from finetune_operator.kube.probe import ProbeFailed
from finetune_operator.kube.store import Store
from finetune_operator.shell.election import Election, LeaseLost
from finetune_operator.shell.news import take
from finetune_operator.shell.prober import Prober
from finetune_operator.shell.queue import WorkQueue
from finetune_operator.shell.reconciler import Reconciler
from finetune_operator.shell.resync import Resync, selectors
from finetune_operator.shell.scraper import Scraper

from .engines import Engine
from .rundir import Trainer

if TYPE_CHECKING:
    from .sim import Sim

CLIENT = "operator"
JOBS_ONLY = selectors(gateway_api=False, deployments=False)
BOTH = selectors(gateway_api=True)
CONFIG = Config(
    namespace="finetune-system",
    trainer_image="trainer:1",
    small_image="small:1",
    artifacts_uri="s3://bucket/runs",
    artifacts_secret="store",
    installation_key=b"k" * 32,
    serving_image="vllm:1",
    gateway="finetune-system/finetune",
    gateway_domain="models.test",
    hostname_patterns=("*.{namespace}.example.test",),
)


class SimTalks:
    """Speaks to trainer pods where the network lets it."""

    def __init__(self, sim: Sim) -> None:
        self._sim = sim

    def _trainer(self, probe: Probe) -> Trainer:
        world = self._sim.world
        process = world.kubelet.processes.get(probe.pod_uid)
        if process is None or not process.alive() or process.running is None:
            raise ProbeFailed("nobody answers")
        if process.node in world.kubelet.unreachable or self._sim.pods_unreachable:
            raise ProbeFailed("no route")
        assert isinstance(process.program, Trainer)
        return process.program

    async def progress(self, probe: Probe) -> Progress:
        await asyncio.sleep(0.01)
        return self._trainer(probe).progress(self._sim.world.clock.now())

    async def request_checkpoint(self, probe: Probe, reason: str, *, stop: bool) -> None:
        await asyncio.sleep(0.01)
        trainer = self._trainer(probe)
        if stop:
            self._sim.watchdog.on_stop_request(probe)
            assert trainer.gang is not None
            trainer.gang.request_stop(self._sim.world.clock.now(), reason)


class SimEngines:
    """Speaks to engine pods where the network lets it."""

    def __init__(self, sim: Sim) -> None:
        self._sim = sim

    def _engine(self, target: Target) -> Engine:
        sim = self._sim
        sim.clients.catch_up()
        process, engine = sim.world.kubelet.processes.get(target.uid), sim.clients.engines.get(target.uid)
        if process is None or engine is None or process.node in sim.world.kubelet.unreachable or sim.pods_unreachable:
            raise EngineFailed("no route")
        if not engine.up or engine.crashed_at is not None:
            raise EngineFailed("connection refused")
        return engine

    async def metrics(self, target: Target) -> bytes:
        await asyncio.sleep(0.01)
        return self._engine(target).exposition(self._sim.world.clock.now())

    async def complete(self, target: Target, timeout: float) -> None:
        await asyncio.sleep(0.01)
        clock, answers = self._sim.world.clock, []
        self._engine(target).arrive(clock.now(), answers.append, tokens=1)
        waits = self._sim.loop.now + timeout
        while not answers:
            if self._sim.loop.now >= waits:
                raise EngineFailed(f"no answer within {timeout:g} s", Mark.GIVEN_UP)
            await asyncio.sleep(0.25)
            self._engine(target).catch_up(clock.now())
        if answers[0] == "error":
            raise EngineFailed("answered 500", Mark.REFUSED)
        if answers[0] != "ok":
            raise EngineFailed("the connection was closed before an answer")


class OperatorProcess:
    """Runs until killed; `ended` says how a process ended that ended by itself."""

    def __init__(self, sim: Sim, number: int, identity: str, client: str = CLIENT) -> None:
        self._sim = sim
        self._name = client
        sim.processes.append(self)
        self._rng = random.Random(f"{sim.seed}/{number}")
        self.transport = sim.world.transport(client)
        loop = sim.loop
        self.client = Client(self.transport)
        self._config = sim.config
        self._watched = BOTH if sim.serves else JOBS_ONLY
        self.store = Store(claims=lambda md: claims_of(md, self._config))
        self.queue: WorkQueue[Key] = WorkQueue(clock=loop.time, jitter=self._rng.random)
        self.election = Election(
            self.client,
            namespace=CONFIG.namespace,
            identity=identity,
            clock=loop.time,
            now=self._now,
        )
        self.resync = Resync(
            self.client, self.store, enqueue=self.queue.add, clock=loop.time, interval=300.0, selectors=self._watched
        )
        self.prober = Prober(SimTalks(sim), on_sample=self.queue.add, clock=loop.time, now=self._now, poll_seconds=2.0)
        self.scraper = Scraper(SimEngines(sim), on_look=self.queue.add, clock=loop.time, now=self._now)
        self.reconciler = Reconciler(
            client=self.client,
            store=self.store,
            queue=self.queue,
            plan=plan,
            plan_deployment=plan_deployment if sim.serves else None,
            config=self._config,
            now=self._now,
            clock=loop.time,
            instance=identity,
            polls=self.prober,
            scrapes=self.scraper,
        )
        self.leading = False
        self.ended: BaseException | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self.main = loop.create_task(self._run(), name=f"operator {number}")

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._sim.world.clock.now() + self._sim.skew, UTC)

    @property
    def alive(self) -> bool:
        return not self.main.done()

    def kill(self) -> None:
        """kill -9: no request of this process reaches the server from here on."""
        self.transport.dead = True
        for task in [self.main, *self._tasks]:
            task.cancel()

    async def _run(self) -> None:
        try:
            await self._lead()
        except (Crash, LeaseLost) as death:
            self.ended = death
        finally:
            self.transport.dead = True
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _lead(self) -> None:
        await self.election.acquire()
        self.leading = True
        lease = self._start(self.election.hold(), "lease")
        learned = self._start(self._learn(), "first LIST")
        await self._first_of(lease, learned)
        workers = [self._start(self.reconciler.work(), f"worker {n}") for n in range(4)]
        others = [
            self._start(self.prober.run(), "probes"),
            self._start(self.scraper.run(), "engines"),
            self._start(self.resync.run(), "resync"),
        ]
        watches = [
            self._start(self._watch(kind, selector), f"watch {kind.kind}") for kind, selector in self._watched.items()
        ]
        await self._first_of(lease, *workers, *others, *watches)

    def _start(self, coro: Any, name: str) -> asyncio.Task[Any]:
        task = self._sim.loop.create_task(coro, name=name)
        self._tasks.append(task)
        return task

    async def _first_of(self, *tasks: asyncio.Task[Any]) -> None:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if (death := task.exception()) is not None:
                if not isinstance(death, Crash | LeaseLost):
                    self._sim.failures.append(death)
                raise death

    async def _learn(self) -> None:
        while True:
            try:
                await self.resync.round()
                return
            except errors.ApiError:
                await asyncio.sleep(5.0)

    async def _watch(self, resource: Resource, selector: str) -> None:
        """What Kopf does: LIST, then WATCH from there, again after every end."""
        params = {"labelSelector": selector} if selector else {}
        while True:
            try:
                items, version = await self.client.list(resource, selector=selector)
            except errors.ApiError:
                await asyncio.sleep(1.0)
                continue
            for item in items:
                self._take(None, item)
            call = parse(self._sim.world.server, "GET", path_of(resource, None))
            watch = Watch(
                self._sim.world.server, call.resource, "", {**params, "resourceVersion": version, "watch": "true"}
            )
            await self._follow(watch)
            await asyncio.sleep(0.5)

    async def _follow(self, watch: Watch) -> None:
        policy = self._sim.world.frontend.policy
        while not policy.cut_watch(self._name):
            for event in policy.events(self._name, watch.poll()):
                if event["type"] == "ERROR":
                    return
                if event["type"] != "BOOKMARK":
                    self._take(event["type"], event["object"])
            await self._sim.next_change(5.0)
            await asyncio.sleep(self._rng.uniform(0.001, 0.05))

    def _take(self, kind: str | None, obj: dict[str, Any]) -> None:
        for key, lane in take(self.store, kind, obj):
            self.queue.add(key, lane)
