"""The operator's life: wait to lead, learn everything, watch and reconcile, and leave in order.

The process ends when anything that must live forever ends. Restarting is safe at every moment, and a process that has
lost its watches or its Lease is not safe to keep.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from aiohttp import web

from finetune_operator.core.serving.traffic import claims_of
from finetune_operator.core.types import FINETUNEJOBS, HTTPROUTES, MODELDEPLOYMENTS, Obj
from finetune_operator.kube import errors
from finetune_operator.kube.announcer import Announcer
from finetune_operator.kube.client import Client
from finetune_operator.kube.engine_client import EngineClient, engine_session
from finetune_operator.kube.keys import Key
from finetune_operator.kube.probe import ProbeClient, probe_session
from finetune_operator.kube.store import Store
from finetune_operator.kube.transport import AiohttpTransport
from finetune_operator.shell.config import Options
from finetune_operator.shell.connection import Access, open_session
from finetune_operator.shell.election import Election, LeaseLost, Timing
from finetune_operator.shell.http import LagMeter, application, serve
from finetune_operator.shell.key import installation_key
from finetune_operator.shell.kinds import DeploymentPlanFn, PlanFn
from finetune_operator.shell.kopf_shell import Watches
from finetune_operator.shell.lanes import Lane, limits
from finetune_operator.shell.metrics import Metrics
from finetune_operator.shell.news import take
from finetune_operator.shell.owner import crd_reference
from finetune_operator.shell.pace import Pace
from finetune_operator.shell.prober import Prober
from finetune_operator.shell.queue import WorkQueue
from finetune_operator.shell.reconciler import Reconciler
from finetune_operator.shell.resync import Resync, selectors
from finetune_operator.shell.scraper import Scraper
from finetune_operator.shell.tasks import before_stop, first_of, persistently

log = logging.getLogger(__name__)
_DRAIN = 10.0
_STANDBY_SILENCE = 60.0


def utc_now() -> datetime:
    return datetime.now(UTC)


class Operator:
    """`run` returns the process's exit code. `learned` is called when everything has been listed once."""

    def __init__(
        self,
        options: Options,
        access: Access,
        plan: PlanFn,
        plan_deployment: DeploymentPlanFn,
        *,
        learned: Callable[[], None] = lambda: None,
    ) -> None:
        self._learned = learned
        self._options = options
        self._access = access
        self._plan = plan
        self._plan_deployment = plan_deployment
        self._gateway_api = False
        self._clock = time.monotonic
        self._stop = asyncio.Event()
        self._metrics = Metrics()
        claims = partial(claims_of, config=options.plan_config(b""))
        self._store = Store(claims)
        self._queue: WorkQueue[Key] = WorkQueue(
            clock=self._clock, jitter=random.random, workers=options.workers, waited=self._metrics.waited
        )
        self._transport = AiohttpTransport(access.server, lambda: open_session(access))
        self._client = Client(self._transport, max_writes=options.max_writes, observer=self._metrics.api_call)
        self._lag = LagMeter(self._clock, self._metrics)
        self._election = Election(
            # Renewals must not queue behind a burst of writes.
            Client(self._transport, max_writes=1, observer=self._metrics.api_call),
            namespace=options.namespace,
            identity=options.identity,
            clock=self._clock,
            now=utc_now,
            timing=Timing(options.lease_seconds),
        )
        self._resync = Resync(
            self._client,
            self._store,
            enqueue=self._queue.add,
            clock=self._clock,
            interval=options.resync_seconds,
            missed=lambda kind, count: self._metrics.missed_events.labels(kind).inc(count),
            afterwards=self._look_for_gateway_api,
        )
        self._prober: Prober | None = None
        self._pace = Pace(
            options.progress_write_seconds,
            runs=lambda: self._prober.targets if self._prober is not None else 0,
            places=limits(options.workers)[Lane.PROGRESS],
        )
        self._metrics.sampled(
            queue=lambda: {"ready": len(self._queue), "delayed": self._queue.delayed, "running": self._queue.running},
            resync_age=lambda: self._resync.age if self._leading else 0.0,
            objects=lambda kind: list(self._store.all(kind)),
            progress_interval=self._pace.seconds,
        )
        self._leading = False
        self._runner: web.AppRunner | None = None

    def stop(self) -> None:
        """Ends `run` in order, as SIGTERM does."""
        self._stop.set()

    @property
    def address(self) -> tuple[str, int]:
        """Where /livez, /readyz and /metrics are; the port that was found free when 0 was asked for."""
        if self._runner is None or not self._runner.addresses:
            raise RuntimeError("the operator does not listen yet")
        host, port = self._runner.addresses[0][:2]
        return str(host), int(port)

    async def run(self) -> int:
        self._catch_signals()
        self._runner = await serve(
            application(live=self._live, ready=self._ready, metrics=self._metrics),
            self._options.listen_host,
            self._options.listen_port,
        )
        lag = asyncio.create_task(self._lag.run(), name="loop lag")
        try:
            return await self._until_stopped()
        finally:
            lag.cancel()
            await self._runner.cleanup()
            await self._transport.close()

    async def _until_stopped(self) -> int:
        key = await before_stop(self._stop, persistently(self._installation_key, "installation key"))
        if key is None:
            return 0
        log.info("waiting for the lease", extra={"identity": self._options.identity})
        if await before_stop(self._stop, self._election.acquire()) is None and self._stop.is_set():
            await self._election.release()
            return 0
        try:
            return await self._lead(key)
        finally:
            self._leading = False
            self._metrics.leader.set(0)

    async def _lead(self, key: bytes) -> int:
        """While this replica leads. Renewing begins first: learning everything may take longer than the Lease lasts."""
        self._leading = True
        self._metrics.leader.set(1)
        lease = asyncio.create_task(self._election.hold(), name="lease")
        probes, engines = probe_session(), engine_session()
        try:
            learned = asyncio.create_task(persistently(self._learn, "first LIST"), name="first LIST")
            if not await first_of(self._stop, lease, learned):
                return 0
            return await self._operate(key, lease, ProbeClient(probes), EngineClient(engines))
        except LeaseLost as error:
            log.error("the lease is lost: %s; the process ends", error)
            return 1
        finally:
            lease.cancel()
            await self._election.release()
            await probes.close()
            await engines.close()

    async def _operate(self, key: bytes, lease: asyncio.Task[None], probes: ProbeClient, engines: EngineClient) -> int:
        self._prober = prober = Prober(
            probes,
            on_sample=self._queue.add,
            clock=self._clock,
            now=utc_now,
            poll_seconds=self._options.poll_seconds,
            count=lambda outcome: self._metrics.probes.labels(outcome).inc(),
        )
        scraper = Scraper(
            engines,
            on_look=lambda key: self._queue.add(key, Lane.CHANGE),
            clock=self._clock,
            now=utc_now,
            count=self._metrics.looked_at_engine,
        )
        announcer = Announcer(self._client)
        reconciler = Reconciler(
            client=self._client,
            store=self._store,
            queue=self._queue,
            plan=self._plan,
            plan_deployment=self._plan_deployment,
            config=self._options.plan_config(key, gateway_api=self._gateway_api),
            now=utc_now,
            clock=self._clock,
            instance=self._options.identity,
            polls=prober,
            scrapes=scraper,
            metrics=self._metrics,
            pace=self._pace,
            announce=announcer,
        )
        watches = Watches(
            server=self._access.server,
            connect=self._transport.session,
            selectors=self._resync.selectors,
            sink=self._take_event,
        )
        workers = [asyncio.create_task(reconciler.work(), name=f"worker {n}") for n in range(self._options.workers)]
        others = [
            asyncio.create_task(prober.run(), name="probes"),
            asyncio.create_task(scraper.run(), name="engines"),
            asyncio.create_task(self._resync.run(), name="resync"),
            asyncio.create_task(announcer.run(), name="events"),
            asyncio.create_task(watches.run(self._catch_signals), name="watches"),
        ]
        counts = {"jobs": self._store.count("FineTuneJob"), "deployments": self._store.count("ModelDeployment")}
        log.info("reconciling", extra={**counts, "workers": len(workers), "gateway_api": self._gateway_api})
        try:
            if not await first_of(self._stop, lease, *workers, *others):
                log.info("stopping")
                await self._drain(announcer)
                return 0
            log.error("something that lives as long as the process has ended; the process ends")
            return 1
        finally:
            for task in (*workers, *others):
                task.cancel()
            await asyncio.wait((*workers, *others), timeout=_DRAIN)

    async def _drain(self, announcer: Announcer) -> None:
        """Lets the passes under way finish, and their Events go; takes no new ones."""
        self._queue.close()
        try:
            async with asyncio.timeout(_DRAIN):
                await self._queue.drained()
                await announcer.drained()
        except TimeoutError:
            log.warning("%d passes did not finish in %.0f s", self._queue.running, _DRAIN)

    async def _installation_key(self) -> bytes:
        owners = await crd_reference(self._client)
        self._election.owners = owners
        return await installation_key(self._client, self._options.namespace, owners=owners)

    async def _learn(self) -> None:
        """The first LIST of everything this cluster serves."""
        self._gateway_api = await self._client.serves(HTTPROUTES)
        self._resync.selectors = selectors(gateway_api=self._gateway_api)
        for crd in (FINETUNEJOBS, MODELDEPLOYMENTS):
            if not await self._client.serves(crd):
                text = f"the CRD {crd.plural}.{crd.group} is not installed: kubectl apply -f crds/"
                raise errors.NotFound(text, status=404)
        await self._resync.round()
        self._learned()

    async def _look_for_gateway_api(self) -> None:
        """Watches begin with the process, so one that finds the Gateway API installed meanwhile makes place."""
        if not self._gateway_api and await self._client.serves(HTTPROUTES):
            log.info("the Gateway API is served now; the process ends in order, and the next one watches its routes")
            self.stop()

    def _take_event(self, event: str | None, obj: Obj) -> None:
        for key, lane in take(self._store, event, obj):
            self._queue.add(key, lane)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    def _live(self) -> str | None:
        if self._leading and self._resync.stale:
            return f"no complete LIST for {self._resync.age:.0f} s"
        return self._lag.check()

    def _ready(self) -> str | None:
        if self._leading:
            return None if self._resync.rounds else "the first LIST is not complete"
        reached = self._election.reached_at
        if reached is None or self._clock() - reached > _STANDBY_SILENCE:
            return "the lease cannot be read"
        return None
