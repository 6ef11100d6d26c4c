"""When to look at which engine, and when to ask one for a completion.

While a plan wants it, every engine of a ModelDeployment is looked at once per interval, all at the same moment. An
engine that brought nothing forth since the look before is asked for one token: a hung engine, an idle one and one that
refuses everything look alike in their metrics. An engine that others keep busy is left alone. What was found wakes the
plan; a completion that fails does so at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from finetune_operator.core.serving.types import Engines, Scrape, Target
from finetune_operator.kube.engine_client import EngineFailed
from finetune_operator.kube.engine_metrics import NotMetrics, parse
from finetune_operator.kube.engine_watch import EngineWatch
from finetune_operator.kube.keys import Key
from finetune_operator.shell.logs import key_fields

log = logging.getLogger(__name__)


class Talks(Protocol):
    """What `kube.engine_client.EngineClient` does; both raise EngineFailed."""

    async def metrics(self, target: Target) -> bytes: ...

    async def complete(self, target: Target, timeout: float) -> None: ...  # noqa: ASYNC109


@dataclass
class _Watched:
    watch: EngineWatch
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    asking: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    view: Engines | None = None
    rounds: asyncio.Task[None] | None = None
    wanted: bool = True


class Scraper:
    """`on_look` is called with each key that has news; `count(what, outcome)` for metrics."""

    def __init__(
        self,
        client: Talks,
        *,
        on_look: Callable[[Key], None],
        clock: Callable[[], float],
        now: Callable[[], datetime],
        concurrency: int = 64,
        count: Callable[[str, str], None] = lambda what, outcome: None,
    ) -> None:
        self._client = client
        self._on_look = on_look
        self._clock = clock
        self._now = now
        self._slots = asyncio.Semaphore(concurrency)
        self._count = count
        self._watched: dict[Key, _Watched] = {}

    def engines(self, key: Key) -> Engines | None:
        """What the newest round found; None until a window's first round is complete."""
        watched = self._watched.get(key)
        return watched.view if watched is not None else None

    def want(self, key: Key, scrape: Scrape | None) -> None:
        """What the newest plan asks for. None ends looking, and with it the window, unless it is wanted again before
        the next round: a pass that only stores a decision may have no opinion."""
        watched = self._watched.get(key)
        if scrape is None:
            if watched is not None:
                watched.wanted = False
            return
        if watched is None:
            watched = self._watched[key] = _Watched(EngineWatch(scrape, self._now()))
            watched.rounds = asyncio.create_task(self._rounds(key, watched), name=f"engines of {key}")
            return
        watched.wanted = True
        if scrape != watched.watch.scrape and watched.watch.follow(scrape, self._now()):
            watched.view = watched.watch.engines()
            watched.wake.set()

    def forget(self, key: Key) -> None:
        watched = self._watched.pop(key, None)
        if watched is not None:
            self._end(watched)

    async def run(self) -> None:
        """Until cancelled; then nothing is looked at any more."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            for watched in self._watched.values():
                self._end(watched)

    def _end(self, watched: _Watched) -> None:
        for task in (watched.rounds, *watched.asking.values()):
            if task is not None:
                task.cancel()

    async def _rounds(self, key: Key, watched: _Watched) -> None:
        while watched.wanted:
            watched.wake.clear()
            due = self._clock() + watched.watch.scrape.interval
            try:
                await self._round(key, watched)
            except Exception:
                log.exception("a round of looks failed by a bug", extra=key_fields(key))
            try:
                async with asyncio.timeout(max(0.0, due - self._clock())):
                    await watched.wake.wait()
            except TimeoutError:
                continue
        if self._watched.get(key) is watched:
            del self._watched[key]
        for asked in watched.asking.values():
            asked.cancel()

    async def _round(self, key: Key, watched: _Watched) -> None:
        scrape = watched.watch.scrape
        await asyncio.gather(*(self._look(key, watched, target) for target in scrape.targets))
        if watched.watch.scrape.window != scrape.window or watched.watch.scrape.step != scrape.step:
            return  # the sums begin anew with the next round, which is due already
        watched.watch.ended(self._now())
        self._publish(key, watched)

    async def _look(self, key: Key, watched: _Watched, target: Target) -> None:
        try:
            async with self._slots:
                sample = parse(await self._client.metrics(target))
        except (EngineFailed, NotMetrics) as error:
            self._count("scrape", "failed")
            log.info("pod %s: %s", target.pod, error, extra=key_fields(key, revision=target.revision))
            watched.watch.missed(target)
            return
        self._count("scrape", "ok")
        watched.watch.seen(target, sample, self._now())
        if not watched.watch.idle(target):
            watched.watch.well(target)
        elif watched.watch.scrape.synthetic and target.uid not in watched.asking:
            ask = self._ask(key, watched, target, watched.watch.scrape.timeout)
            watched.asking[target.uid] = asyncio.create_task(ask, name=f"a completion from {target.pod}")

    async def _ask(self, key: Key, watched: _Watched, target: Target, timeout: float) -> None:  # noqa: ASYNC109
        began = self._clock()
        try:
            await self._client.complete(target, timeout)
        except EngineFailed as error:
            self._count("synthetic", "failed")
            log.info("pod %s: %s", target.pod, error, extra=key_fields(key, revision=target.revision))
            watched.watch.unanswered(target, error)
            self._publish(key, watched)
        else:
            self._count("synthetic", "ok")
            watched.watch.answered(target, self._clock() - began)
        finally:
            watched.asking.pop(target.uid, None)

    def _publish(self, key: Key, watched: _Watched) -> None:
        if self._watched.get(key) is watched:
            watched.view = watched.watch.engines()
            self._on_look(key)
