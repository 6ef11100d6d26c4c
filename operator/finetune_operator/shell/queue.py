"""The work queue: which keys to look at, and when.

A key waits at most once however many events name it, and is never worked on twice at the same time: an event that
arrives meanwhile makes it due again afterwards. Keys that fail wait longer each time, with jitter, so that a broken API
server is not met by all of them at once.

Keys wait in lanes (`shell.lanes`), the most urgent first. A key waits in the most urgent lane that anybody asked for.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from finetune_operator.shell.lanes import FOLLOW_UP, Lane, Turns

K = TypeVar("K", bound=Hashable)


def _nobody(lane: Lane, seconds: float) -> None:
    return None


class WorkQueue(Generic[K]):
    """`clock` is monotonic seconds; `jitter` returns numbers in [0, 1); `workers`: how many will take keys.

    `waited` is told how long each key waited in its lane after it was due.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        base: float = 1.0,
        ceiling: float = 60.0,
        workers: int = 16,
        waited: Callable[[Lane, float], None] = _nobody,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._base = base
        self._ceiling = ceiling
        self.workers = workers
        self._turns = Turns(workers)
        self._waited = waited
        self._ready: dict[Lane, deque[K]] = {lane: deque() for lane in Lane}
        self._waiting: dict[K, tuple[Lane, float]] = {}
        self._running: dict[K, Lane] = {}
        self._again: dict[K, Lane] = {}
        self._due: dict[K, tuple[float, Lane]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._failures: dict[K, int] = {}
        self._wake = asyncio.Event()
        self._closed = False
        self._finished = asyncio.Event()

    def __len__(self) -> int:
        """Keys that could be worked on now."""
        return len(self._waiting)

    @property
    def delayed(self) -> int:
        return len(self._due)

    @property
    def running(self) -> int:
        return len(self._running)

    def add(self, key: K, lane: Lane = Lane.WORK) -> None:
        """Due now."""
        self._add(key, lane)

    def repeat(self, key: K) -> None:
        """Due again when the pass under way has ended, as what follows from it."""
        self._add(key, FOLLOW_UP[self._lane(key)])

    def add_after(self, key: K, seconds: float, lane: Lane = Lane.WORK) -> None:
        """Due then, or earlier if it is due earlier already."""
        if seconds <= 0:
            self.add(key, lane)
            return
        if key in self._waiting or key in self._again:
            return
        due = self._clock() + seconds
        if due < self._due.get(key, (float("inf"), lane))[0]:
            self._due[key] = due, lane
            heapq.heappush(self._heap, (due, next(self._order), key))
            self._wake.set()

    def add_failed(self, key: K, *, at_least: float = 0.0) -> float:
        """Due after the key's backoff, as urgent as the pass under way; returns it. `forget_failures` starts over."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(self._ceiling, self._base * 2.0 ** min(failures - 1, 30))
        delay = max(at_least, delay * (0.5 + 0.5 * self._jitter()))
        self.add_after(key, delay, self._lane(key))
        return delay

    def forget_failures(self, key: K) -> None:
        self._failures.pop(key, None)

    def ease(self, workers: int) -> None:
        """Only so many workers for what is no notice."""
        self._turns.ease(workers)

    def close(self) -> None:
        """Gives out no more keys; those taken may finish."""
        self._closed = True

    async def drained(self) -> None:
        """Returns when nothing is being worked on; call after `close`."""
        while self._running:
            self._finished.clear()
            await self._finished.wait()

    async def take(self) -> K:
        """The next due key. The caller calls `done` with it."""
        while True:
            self._collect()
            source = self._next_lane()
            if source is not None:
                key = self._pop(source)
                if self._next_lane() is not None:
                    self._wake.set()  # the next taker need not wait for a signal
                return key
            self._wake.clear()
            try:
                async with asyncio.timeout(self._until_next()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def done(self, key: K) -> None:
        lane = self._running.pop(key, None)
        if lane is not None:
            self._turns.ended(lane)
            self._wake.set()
        self._finished.set()
        again = self._again.pop(key, None)
        if again is not None:
            self._add(key, again)

    def _lane(self, key: K) -> Lane:
        """Of the pass under way."""
        return self._running.get(key, Lane.WORK)

    def _add(self, key: K, to: Lane, due: float | None = None) -> None:
        self._due.pop(key, None)
        if key in self._running:
            self._again[key] = min(to, self._again.get(key, to))
            return
        known = self._waiting.get(key)
        if known is None or to < known[0]:
            self._waiting[key] = to, self._clock() if due is None else due
            self._ready[to].append(key)  # in its former lane it is passed over
            self._wake.set()

    def _lanes(self) -> list[Lane]:
        """Those that have keys, most urgent first."""
        found = []
        for lane, ready in self._ready.items():
            while ready and self._waiting.get(ready[0], (None,))[0] is not lane:
                ready.popleft()
            if ready:
                found.append(lane)
        return found

    def _next_lane(self) -> Lane | None:
        """Where the next key comes from; None: nowhere now."""
        return None if self._closed else self._turns.choose(self._lanes())

    def _pop(self, lane: Lane) -> K:
        key = self._ready[lane].popleft()
        _, since = self._waiting.pop(key)
        self._waited(lane, self._clock() - since)
        self._running[key] = lane
        self._turns.took(lane, self._lanes())
        return key

    def _collect(self) -> None:
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if key in self._due and self._due[key][0] == due:
                self._add(key, self._due[key][1], due)

    def _until_next(self) -> float | None:
        while self._heap and self._due.get(self._heap[0][2], (None,))[0] != self._heap[0][0]:
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0][0] - self._clock()) if self._heap else None
