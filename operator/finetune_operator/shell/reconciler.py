"""One pass over one FineTuneJob: observe, plan, execute, and when to come back.

A bug in a plan, or an object that makes it fail, is logged and counted and that key backs off; every other job goes on.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from finetune_operator.core.names import Reason
from finetune_operator.core.types import Config, EventNote, Observed, Plan, Probe, Sample
from finetune_operator.kube import errors
from finetune_operator.kube.client import Client
from finetune_operator.kube.conflicts import RECHECK, Conflicts
from finetune_operator.kube.execute import Executor, Result
from finetune_operator.kube.fingerprint import fingerprint
from finetune_operator.kube.keys import Key
from finetune_operator.kube.observe import observe, observe_fresh
from finetune_operator.kube.store import Store
from finetune_operator.shell.logs import key_fields
from finetune_operator.shell.metrics import Metrics
from finetune_operator.shell.queue import WorkQueue

PlanFn = Callable[[Observed, datetime, Config], Plan]
_AT_ONCE_MAX = 20
log = logging.getLogger(__name__)


class Polls(Protocol):
    """What the reconciler needs of a prober."""

    def sample(self, key: Key) -> Sample | None: ...

    def want(self, key: Key, probe: Probe | None) -> None: ...

    def forget(self, key: Key) -> None: ...


class NoPolls:
    """Polls nothing."""

    def sample(self, key: Key) -> Sample | None:
        return None

    def want(self, key: Key, probe: Probe | None) -> None:
        return None

    def forget(self, key: Key) -> None:
        return None


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
        config: Config,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        instance: str,
        polls: Polls | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._client = client
        self._store = store
        self._queue = queue
        self._plan = plan
        self._config = config
        self._now = now
        self._clock = clock
        self._polls = polls or NoPolls()
        self._metrics = metrics or Metrics()
        self._conflicts = Conflicts(client)
        self._executor = Executor(client, store, now=now, instance=instance)
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
            self._queue.add_after(key, max(0.05, min(waits)))
        return "settled"

    async def reconcile(self, key: Key) -> tuple[Plan, Result] | None:
        """One pass; None when the FineTuneJob is gone. Raises errors.ApiError from reads and whatever `plan` does."""
        job = self._store.find(key)
        if job is None:
            return None
        await self._conflicts.refresh(key, job, self._clock())
        seen = observe(self._store, key, sample=self._polls.sample(key), conflicts=self._conflicts.of(key))
        if seen is None:
            return None
        mark = fingerprint(seen)
        known = self._settled.get(key)
        if known is not None and known.mark == mark and (left := known.due - self._clock()) > 0:
            return Plan(requeue_after=left if left < math.inf else None), Result()
        plan = self._plan(seen, self._now(), self._config)
        self._remember(key, mark, plan)
        if plan.need_fresh:
            seen = await observe_fresh(
                self._client, self._store, key, sample=self._polls.sample(key), conflicts=self._conflicts.of(key)
            )
            if seen is None:
                return None
            plan = self._plan(seen, self._now(), self._config)
            if plan.need_fresh:
                raise RuntimeError("the plan asks for a fresh read of what was read freshly")
        self._polls.want(key, plan.probe)
        result = await self._executor.run(plan, seen.job)
        if result.status_written and plan.status is not None:
            self._metrics.status_written(seen.job.get("status") or {}, plan.status)
            self._log_transition(key, seen.job.get("status") or {}, plan.status)
        return plan, result

    def _remember(self, key: Key, mark: Hashable, plan: Plan) -> None:
        if plan.writes or plan.events or plan.need_fresh:
            self._settled.pop(key, None)
            return
        due = math.inf if plan.requeue_after is None else self._clock() + plan.requeue_after
        self._settled[key] = _Settled(mark, due)

    async def _tell_refusal(self, key: Key, refused: str) -> None:
        """Once in words on the FineTuneJob; the log has every try."""
        job = self._store.find(key)
        if job is not None and self._told.get(key) != refused:
            self._told[key] = refused
            await self._executor.tell(EventNote("Warning", Reason.CREATE_REFUSED, refused), job)

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
            self._queue.add(key)
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
        self._polls.forget(key)
        self._conflicts.forget(key)
        self._queue.forget_failures(key)
        self._at_once.pop(key, None)
