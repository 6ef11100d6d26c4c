"""When to poll which pod, and how often to repeat a request for a checkpoint.

Each job has at most one call in flight, all together at most `concurrency`, and with many jobs the interval grows so
that polls stay below `max_rate` a second. A failed poll only says since when polls fail. A stop is posted again, with
growing pauses, until the pod's progress shows that it arrived; for the pod repeated requests are one.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from finetune_api.reports import Progress
from finetune_operator.core.types import Probe, Sample
from finetune_operator.kube.keys import Key
from finetune_operator.kube.probe import ProbeFailed
from finetune_operator.shell.lanes import Lane
from finetune_operator.shell.logs import key_fields

_ASK_FIRST = 1.0
_ASK_CEILING = 15.0
_ASK_PAUSE_MIN = 0.25
_FAILING_CEILING = 15.0
log = logging.getLogger(__name__)


class Talks(Protocol):
    """What `kube.probe.ProbeClient` does; both raise ProbeFailed."""

    async def progress(self, probe: Probe) -> Progress: ...

    async def request_checkpoint(self, probe: Probe, reason: str, *, stop: bool) -> None: ...


@dataclass
class _Ask:
    """A request for a checkpoint: how often it was tried, and when it may be tried again."""

    tries: int = 0
    due: float = 0.0
    delivered: bool = False


@dataclass
class _Target:
    probe: Probe
    due: float
    in_flight: bool = False
    failures: int = 0
    asks: dict[tuple[bool, str], _Ask] = field(default_factory=dict)


def _lane(last: Progress | None, sample: Sample) -> Lane:
    """More than another step are the first word of an attempt, its first step, and what became of a request to stop."""
    new = sample.progress
    if new is None or last is None or last.attempt != new.attempt:
        return Lane.WORK
    if last.stop_requested_at != new.stop_requested_at:
        return Lane.CHANGE
    if new.stop_requested_at is not None and last.checkpoint != new.checkpoint:
        return Lane.CHANGE
    return Lane.WORK if last.running_at != new.running_at else Lane.PROGRESS


class Prober:
    """`on_sample` is told of news, and how urgent they are."""

    def __init__(
        self,
        client: Talks,
        *,
        on_sample: Callable[[Key, Lane], None],
        clock: Callable[[], float],
        now: Callable[[], datetime],
        poll_seconds: float,
        concurrency: int = 64,
        max_rate: float = 50.0,
        count: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self._client = client
        self._on_sample = on_sample
        self._clock = clock
        self._now = now
        self._poll_seconds = poll_seconds
        self._concurrency = concurrency
        self._max_rate = max_rate
        self._count = count
        self._targets: dict[Key, _Target] = {}
        self._samples: dict[Key, Sample] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = itertools.count()
        self._slot = float("-inf")
        self._wake = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()

    def sample(self, key: Key) -> Sample | None:
        """The newest; it outlives the pod until another attempt is polled or the job is forgotten."""
        return self._samples.get(key)

    def forget(self, key: Key) -> None:
        self._targets.pop(key, None)
        self._samples.pop(key, None)

    def want(self, key: Key, probe: Probe | None) -> None:
        """What the newest plan asks for; None ends polling."""
        if probe is None:
            self._targets.pop(key, None)
            return
        target = self._targets.get(key)
        same = target is not None and (target.probe.attempt, target.probe.pod_uid) == (probe.attempt, probe.pod_uid)
        if target is None or not same:
            sample = self._samples.get(key)
            if sample is not None and sample.attempt != probe.attempt:
                del self._samples[key]
            self._targets[key] = _Target(probe, self._clock())
            self._schedule(key, self._first_due(probe))
            return
        urgent = (probe.stop, probe.checkpoint) != (target.probe.stop, target.probe.checkpoint)
        target.probe = probe
        if urgent and not target.in_flight:
            self._schedule(key, self._clock())

    def _first_due(self, probe: Probe) -> float:
        """At once, unless many are new at the same time, as after a start: then one after another, at `max_rate`.

        They keep that distance afterwards. All at once, their samples would be written to status all at once, every
        interval anew, and whatever else happens would wait behind them.
        """
        now = self._clock()
        if probe.stop is not None or probe.checkpoint is not None:
            return now
        self._slot = max(now, self._slot + 1.0 / self._max_rate)
        return self._slot

    @property
    def targets(self) -> int:
        return len(self._targets)

    def interval(self) -> float:
        """Seconds between two polls of one job."""
        return max(self._poll_seconds, len(self._targets) / self._max_rate)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._start_due()
                self._wake.clear()
                delay = self._until_next()
                try:
                    async with asyncio.timeout(delay):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            for call in self._calls:
                call.cancel()

    def _schedule(self, key: Key, due: float) -> None:
        target = self._targets.get(key)
        if target is None:
            return
        target.due = due
        heapq.heappush(self._heap, (due, next(self._order), key))
        self._wake.set()

    def _until_next(self) -> float | None:
        if len(self._calls) >= self._concurrency or not self._heap:
            return None
        return max(0.0, self._heap[0][0] - self._clock())

    def _start_due(self) -> None:
        now = self._clock()
        while self._heap and self._heap[0][0] <= now and len(self._calls) < self._concurrency:
            due, _, key = heapq.heappop(self._heap)
            target = self._targets.get(key)
            if target is None or target.due != due or target.in_flight:
                continue
            target.in_flight = True
            call = asyncio.create_task(self._visit(key, target), name=f"probe {key}")
            self._calls.add(call)
            call.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._wake.set()
        if not call.cancelled() and (error := call.exception()) is not None:
            log.error("a probe failed in an unforeseen way", exc_info=error)

    async def _visit(self, key: Key, target: _Target) -> None:
        probe = target.probe
        progress: Progress | None = None
        try:
            await self._ask(key, target, probe)
            progress = await self._client.progress(probe)
            self._count("ok")
        except ProbeFailed as error:
            self._count("failed")
            log.debug("poll failed: %s", error, extra=key_fields(key, attempt=probe.attempt))
        finally:
            target.in_flight = False
            target.failures = target.failures + 1 if progress is None else 0
            current = self._targets.get(key) is target
            if current:
                self._schedule(key, self._clock() + self._pause(target))
        if current:
            self._take(key, probe, progress)

    def _pause(self, target: _Target) -> float:
        pause = self.interval()
        if target.failures:
            pause = max(pause, min(_FAILING_CEILING, self._poll_seconds * 2.0 ** min(target.failures - 1, 10)))
        wanted = ((True, target.probe.stop), (False, target.probe.checkpoint))
        asks = [target.asks.get((stop, reason)) for stop, reason in wanted if reason is not None]
        waits = [0.0 if ask is None else ask.due - self._clock() for ask in asks if ask is None or not ask.delivered]
        return max(_ASK_PAUSE_MIN, min([pause, *waits]))

    def _take(self, key: Key, probe: Probe, progress: Progress | None) -> None:
        old = self._samples.get(key)
        last = old.progress if old is not None else None
        if progress is not None:
            new = Sample(probe.attempt, progress)
        else:
            since = old.failing_since if old is not None else None
            new = Sample(probe.attempt, last, since or self._now())
        if new != old:
            self._samples[key] = new
            self._on_sample(key, _lane(last, new))

    async def _ask(self, key: Key, target: _Target, probe: Probe) -> None:
        for reason, stop in ((probe.stop, True), (probe.checkpoint, False)):
            if reason is None:
                continue
            ask = target.asks.setdefault((stop, reason), _Ask())
            if stop:
                ask.delivered = self._stop_seen(key, probe)
            if ask.delivered or self._clock() < ask.due:
                continue
            ask.tries += 1
            ask.due = self._clock() + min(_ASK_CEILING, _ASK_FIRST * 2.0 ** min(ask.tries - 1, 10))
            try:
                await self._client.request_checkpoint(probe, reason, stop=stop)
            except ProbeFailed as error:
                log.info("checkpoint request failed: %s", error, extra=key_fields(key, attempt=probe.attempt))
                continue
            ask.delivered = not stop
            log.info("checkpoint requested: %s", reason, extra=key_fields(key, attempt=probe.attempt, stop=stop))

    def _stop_seen(self, key: Key, probe: Probe) -> bool:
        sample = self._samples.get(key)
        progress = sample.progress if sample is not None and sample.attempt == probe.attempt else None
        return progress is not None and progress.stop_requested_at is not None
