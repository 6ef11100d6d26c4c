"""The work queue: which keys to look at, and when.

A key waits at most once however many events name it, and is never worked on twice at the same time: an event that
arrives meanwhile makes it due again afterwards. Keys that fail wait longer each time, with jitter, so that a broken API
server is not met by all of them at once.

There are two lanes. What somebody changed is urgent; new progress of a run that goes on as it should is routine. A
thousand runs have news all the time, and each costs a write: routine keys are taken only while no urgent one waits, but
for one in five, and only so many at once, so that they never hold all workers nor crowd the API server.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Hashable
from enum import IntEnum
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
_URGENT_IN_A_ROW = 4


class Lane(IntEnum):
    URGENT = 0
    ROUTINE = 1


def lane(urgent: bool) -> Lane:
    return Lane.URGENT if urgent else Lane.ROUTINE


class WorkQueue(Generic[K]):
    """`clock` is monotonic seconds; `jitter` returns numbers in [0, 1); `routine_max` routine keys run at once."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        base: float = 1.0,
        ceiling: float = 60.0,
        routine_max: int = 4,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._base = base
        self._ceiling = ceiling
        self._routine_max = routine_max
        self._ready: dict[Lane, deque[K]] = {Lane.URGENT: deque(), Lane.ROUTINE: deque()}
        self._waiting: dict[K, Lane] = {}
        self._running: dict[K, Lane] = {}
        self._again: dict[K, Lane] = {}
        self._due: dict[K, tuple[float, Lane]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._failures: dict[K, int] = {}
        self._urgent_in_a_row = 0
        self._routine_running = 0
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

    def add(self, key: K, *, urgent: bool = True) -> None:
        """Due now."""
        self._add(key, lane(urgent))

    def repeat(self, key: K) -> None:
        """Due again when the pass under way has ended, and as urgent as that was."""
        self._add(key, self._running.get(key, Lane.URGENT))

    def add_after(self, key: K, seconds: float, *, urgent: bool = True) -> None:
        """Due then, or earlier if it is due earlier already."""
        if seconds <= 0:
            self.add(key, urgent=urgent)
            return
        if key in self._waiting or key in self._again:
            return
        due = self._clock() + seconds
        if due < self._due.get(key, (float("inf"), Lane.URGENT))[0]:
            self._due[key] = due, lane(urgent)
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
        if self._running.pop(key, None) is Lane.ROUTINE:
            self._routine_running -= 1
            self._wake.set()
        self._finished.set()
        again = self._again.pop(key, None)
        if again is not None:
            self._add(key, again)

    def _add(self, key: K, to: Lane) -> None:
        self._due.pop(key, None)
        if key in self._running:
            self._again[key] = min(to, self._again.get(key, to))
        elif to < self._waiting.get(key, len(Lane)):
            self._waiting[key] = to  # what waits in the other lane is passed over when its turn comes
            self._ready[to].append(key)
            self._wake.set()

    def _next_lane(self) -> Lane | None:
        """Where the next key comes from; None: nowhere now."""
        for name, ready in self._ready.items():
            while ready and self._waiting.get(ready[0]) is not name:
                ready.popleft()
        if self._closed:
            return None
        routine = bool(self._ready[Lane.ROUTINE]) and self._routine_running < self._routine_max
        if self._ready[Lane.URGENT] and not (routine and self._urgent_in_a_row >= _URGENT_IN_A_ROW):
            return Lane.URGENT
        return Lane.ROUTINE if routine else None

    def _pop(self, source: Lane) -> K:
        key = self._ready[source].popleft()
        del self._waiting[key]
        self._running[key] = source
        if source is Lane.ROUTINE:
            self._routine_running += 1
            self._urgent_in_a_row = 0
        else:
            self._urgent_in_a_row += 1
        return key

    def _collect(self) -> None:
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if key in self._due and self._due[key][0] == due:
                self._add(key, self._due[key][1])

    def _until_next(self) -> float | None:
        while self._heap and self._due.get(self._heap[0][2], (None,))[0] != self._heap[0][0]:
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0][0] - self._clock()) if self._heap else None
