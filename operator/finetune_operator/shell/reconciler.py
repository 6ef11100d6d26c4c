"""One pass over one object: observe, plan, execute, and when to come back.

A bug in a plan, or an object that makes it fail, is logged and counted and that key backs off; every other goes on.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from datetime import datetime

from finetune_operator.core.names import Reason
from finetune_operator.core.types import FINETUNEJOBS, MODELDEPLOYMENTS, Config, EventNote, Obj, Plan
from finetune_operator.kube import errors
from finetune_operator.kube.client import Client
from finetune_operator.kube.compact import Json
from finetune_operator.kube.conflicts import RECHECK, Conflicts
from finetune_operator.kube.execute import Executor, Result
from finetune_operator.kube.fingerprint import fingerprint
from finetune_operator.kube.keys import Key
from finetune_operator.kube.store import Store
from finetune_operator.shell.effort import Effort
from finetune_operator.shell.kinds import (
    DeploymentPlanFn,
    FineTuneJobs,
    Kind,
    ModelDeployments,
    NoPolls,
    NoScrapes,
    PlanFn,
    Polls,
    Scrapes,
)
from finetune_operator.shell.lanes import Lane
from finetune_operator.shell.logs import key_fields
from finetune_operator.shell.metrics import Metrics
from finetune_operator.shell.pace import Pace
from finetune_operator.shell.queue import WorkQueue

_AT_ONCE_MAX = 50
"""More than any chain that ends has: a rollout in steps without waits wrote 20 times in a row on a busy cluster."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Settled:
    """A plan that had nothing to write: what it saw, and until when it holds (monotonic seconds)."""

    mark: Hashable
    due: float


class Reconciler:
    """`clock` is monotonic seconds, `now` the time for plans and statuses."""

    def __init__(
        self,
        *,
        client: Client,
        store: Store,
        queue: WorkQueue[Key],
        plan: PlanFn,
        plan_deployment: DeploymentPlanFn | None = None,
        config: Config,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        instance: str,
        polls: Polls | None = None,
        scrapes: Scrapes | None = None,
        metrics: Metrics | None = None,
        pace: Pace | None = None,
        announce: Callable[[Json], None] | None = None,
    ) -> None:
        self._store = store
        self._queue = queue
        store.wake = lambda key: queue.add(key, Lane.CHANGE)
        self._kinds: dict[str, Kind] = {FINETUNEJOBS.kind: FineTuneJobs(client, store, plan, polls or NoPolls())}
        if plan_deployment is not None:
            self._kinds[MODELDEPLOYMENTS.kind] = ModelDeployments(
                client, store, plan_deployment, scrapes or NoScrapes(), gateway_api=config.gateway_api
            )
        self._config = config
        self._pace = pace or Pace(config.progress_write_seconds, runs=lambda: 0, places=1)
        self._effort = Effort(queue.workers)
        self._now = now
        self._clock = clock
        self._metrics = metrics or Metrics()
        self._conflicts = Conflicts(client)
        self._executor = Executor(client, store, now=now, instance=instance, announce=announce)
        self._at_once: dict[Key, int] = {}
        self._settled: dict[Key, _Settled] = {}
        self._told: dict[Key, str] = {}

    async def work(self) -> None:
        """One worker; until cancelled.

        A pass that finds nothing to do never waits for anything, so thousands of them in a row would keep the event
        loop from renewing the Lease: each pass ends with a turn for everybody else.
        """
        while True:
            key = await self._queue.take()
            try:
                await self.process(key)
            finally:
                self._queue.done(key)
            await asyncio.sleep(0)

    async def process(self, key: Key) -> None:
        """One pass and its consequences for the queue. Raises nothing but cancellation."""
        began = time.perf_counter()
        try:
            outcome = await self._settle(key)
        except asyncio.CancelledError:
            raise
        except errors.ApiError as error:
            outcome = self._failed(key, error)
        except Exception:
            outcome = "bug"
            delay = self._queue.add_failed(key)
            log.exception("a pass failed by a bug; trying again in %.1f s", delay, extra=key_fields(key))
        self._metrics.passes.labels(outcome).inc()
        self._metrics.reconcile_seconds.observe(time.perf_counter() - began)

    async def _settle(self, key: Key) -> str:
        step = await self.reconcile(key)
        if step is None:
            self._forget(key)
            return "gone"
        plan, result = step
        if result.conflicts:
            self._conflicts.add(key, result.conflicts, self._clock())
            self._again_at_once(key)
            return "conflict"
        if result.error is not None:
            if result.refused is not None:
                await self._tell_refusal(key, result.refused)
            return self._failed(key, result.error)
        if result.again:
            self._again_at_once(key)
            return "wrote" if result.writes else "again"
        self._queue.forget_failures(key)
        self._at_once.pop(key, None)
        self._told.pop(key, None)
        waits = [plan.requeue_after] if plan.requeue_after is not None else []
        if self._conflicts.of(key):
            waits.append(RECHECK)
        if waits:
            self._queue.add_after(key, max(0.05, min(waits)), self._kinds[key.kind].timers)
        return "settled"

    async def reconcile(self, key: Key) -> tuple[Plan, Result] | None:
        """One pass; None when the object is gone. Raises errors.ApiError from reads and whatever the plan does."""
        kind = self._kinds[key.kind]
        subject = self._store.find(key)
        if subject is None:
            return None
        await self._conflicts.refresh(key, subject, self._clock())
        seen = kind.look(key, self._conflicts.of(key))
        if seen is None:
            return None
        mark = fingerprint(seen)
        known = self._settled.get(key)
        if known is not None and known.mark == mark and (left := known.due - self._clock()) > 0:
            return Plan(requeue_after=left if left < math.inf else None), Result()
        config = self._paced()
        plan = kind.plan(seen, self._now(), config)
        self._remember(key, mark, plan)
        if plan.need_fresh:
            seen = await kind.look_freshly(key, self._conflicts.of(key))
            if seen is None:
                return None
            plan = kind.plan(seen, self._now(), config)
            if plan.need_fresh:
                raise RuntimeError("the plan asks for a fresh read of what was read freshly")
        kind.want(key, plan)
        return plan, await self._execute(key, plan, kind.subject(seen))

    async def _execute(self, key: Key, plan: Plan, subject: Obj) -> Result:
        began = self._clock()
        result = await self._executor.run(plan, subject)
        if calls := result.writes + result.events:
            self._queue.ease(self._effort.took((self._clock() - began) / calls))
        if result.status_written and plan.status is not None:
            if result.writes == 1 and not plan.events:
                self._pace.wrote(self._clock() - began)
            before = subject.get("status") or {}
            self._metrics.status_written(key.kind, before, plan.status)
            self._log_transition(key, before, plan.status)
        return result

    def _paced(self) -> Config:
        seconds = self._pace.seconds()
        if seconds != self._config.progress_write_seconds:
            self._config = replace(self._config, progress_write_seconds=seconds)
        return self._config

    def _remember(self, key: Key, mark: Hashable, plan: Plan) -> None:
        if plan.writes or plan.events or plan.need_fresh:
            self._settled.pop(key, None)
            return
        due = math.inf if plan.requeue_after is None else self._clock() + plan.requeue_after
        self._settled[key] = _Settled(mark, due)

    async def _tell_refusal(self, key: Key, refused: str) -> None:
        """Once in words on the object; the log has every try."""
        subject = self._store.find(key)
        if subject is not None and self._told.get(key) != refused:
            self._told[key] = refused
            await self._executor.tell(EventNote("Warning", Reason.CREATE_REFUSED, refused), subject)

    def _log_transition(self, key: Key, old: object, new: object) -> None:
        before = old if isinstance(old, dict) else {}
        after = new if isinstance(new, dict) else {}
        if (before.get("phase"), before.get("reason")) != (after.get("phase"), after.get("reason")):
            fields = key_fields(key, phase=str(after.get("phase")), reason=str(after.get("reason") or ""))
            log.info("%s: %s", after.get("phase"), after.get("message") or "", extra=fields)

    def _again_at_once(self, key: Key) -> None:
        """A plan that never stops writing must not take a worker for itself."""
        count = self._at_once[key] = self._at_once.get(key, 0) + 1
        if count < _AT_ONCE_MAX:
            self._queue.repeat(key)
            return
        delay = self._queue.add_failed(key)
        if count == _AT_ONCE_MAX:
            log.warning(
                "%d passes in a row wrote something; slowing down to %.1f s", count, delay, extra=key_fields(key)
            )

    def _failed(self, key: Key, error: errors.ApiError) -> str:
        delay = self._queue.add_failed(key, at_least=error.retry_after or 0.0)
        words = "%s; trying again in %.1f s"
        log.warning(words, error.message, delay, extra=key_fields(key, error=type(error).__name__))
        return "error"

    def _forget(self, key: Key) -> None:
        self._settled.pop(key, None)
        self._told.pop(key, None)
        self._kinds[key.kind].forget(key)
        self._conflicts.forget(key)
        self._queue.forget_failures(key)
        self._at_once.pop(key, None)
