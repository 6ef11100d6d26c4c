"""The work queue: which FineTuneJobs to look at, and when.

A key waits at most once however many events name it, and is never worked on twice at the same time: an event that
arrives meanwhile makes it due again afterwards. Keys that fail wait longer each time, with jitter, so that a broken API
server is not met by all of them at once.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """`clock` is monotonic seconds; `jitter` returns numbers in [0, 1)."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        base: float = 1.0,
        ceiling: float = 60.0,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._base = base
        self._ceiling = ceiling
        self._ready: deque[K] = deque()
        self._waiting: set[K] = set()
        self._running: set[K] = set()
        self._again: set[K] = set()
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._failures: dict[K, int] = {}
        self._wake = asyncio.Event()
        self._closed = False
        self._finished = asyncio.Event()

    def __len__(self) -> int:
        """Keys that could be worked on now."""
        return len(self._ready)

    @property
    def delayed(self) -> int:
        return len(self._due)

    @property
    def running(self) -> int:
        return len(self._running)

    def add(self, key: K) -> None:
        """Due now."""
        self._due.pop(key, None)
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.append(key)
            self._wake.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Due then, or earlier if it is due earlier already."""
        if seconds <= 0:
            self.add(key)
            return
        if key in self._waiting or key in self._again:
            return
        due = self._clock() + seconds
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._order), key))
            self._wake.set()

    def add_failed(self, key: K, *, at_least: float = 0.0) -> float:
        """Due after the key's backoff; returns it. `forget_failures` starts over."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(self._ceiling, self._base * 2.0 ** min(failures - 1, 30))
        delay = max(at_least, delay * (0.5 + 0.5 * self._jitter()))
        self.add_after(key, delay)
        return delay

    def forget_failures(self, key: K) -> None:
        self._failures.pop(key, None)

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
            if self._ready and not self._closed:
                key = self._ready.popleft()
                self._waiting.discard(key)
                self._running.add(key)
                if self._ready:
                    self._wake.set()  # the next taker need not wait for a signal
                return key
            self._wake.clear()
            try:
                async with asyncio.timeout(self._until_next()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def done(self, key: K) -> None:
        self._running.discard(key)
        self._finished.set()
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _collect(self) -> None:
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                self.add(key)

    def _until_next(self) -> float | None:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0][0] - self._clock()) if self._heap else None
