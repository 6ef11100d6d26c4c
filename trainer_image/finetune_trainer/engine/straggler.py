"""Names the rank that everybody waits for.

Each rank tells, with the question it puts to all at a step boundary anyway, how long its own forward and backward
passes took, before it waited for anybody. A rank is named once it was the slowest by a clear margin several steps
running; one slow step (a long batch, a busy neighbour) is no news.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from finetune_trainer.common.clock import monotonic

RATIO = 1.5
LEAST_SECONDS = 0.05
STEPS = 5
_RANK_BITS = 20


@dataclass(frozen=True)
class Slowest:
    rank: int
    ratio: float
    """Its time over the fastest rank's."""


def packed(seconds: float, rank: int) -> tuple[int, int]:
    """Two integers whose maxima over all ranks tell the slowest rank with its time, and the fastest one's time."""
    micros = max(0, int(seconds * 1e6))
    return micros << _RANK_BITS | rank, -micros


def unpacked(slow: int, fast: int) -> tuple[int, float, float]:
    """(slowest rank, its seconds, the fastest rank's seconds)."""
    return slow & ((1 << _RANK_BITS) - 1), (slow >> _RANK_BITS) / 1e6, -fast / 1e6


class Straggler:
    def __init__(self) -> None:
        self._rank, self._steps = -1, 0

    def note(self, rank: int, seconds: float, fastest: float) -> Slowest | None:
        """After each step; who is named now."""
        if fastest <= 0 or seconds < RATIO * fastest or seconds - fastest < LEAST_SECONDS:
            self._rank, self._steps = -1, 0
            return None
        self._steps = self._steps + 1 if rank == self._rank else 1
        self._rank = rank
        return Slowest(rank, round(seconds / fastest, 2)) if self._steps >= STEPS else None


class Stopwatch:
    """Of a rank's own work in a step. On a GPU by events, which are read later, so that nothing waits for them."""

    def __init__(self, *, cuda: bool, clock: Callable[[], float] = monotonic) -> None:
        self._clock, self._began, self._seconds = clock, 0.0, 0.0
        self._events: tuple[Any, Any] | None = None
        if cuda:
            import torch

            event: Any = torch.cuda.Event
            self._events = (event(enable_timing=True), event(enable_timing=True))

    def start(self) -> None:
        if self._events:
            self._events[0].record()
        self._began = self._clock()

    def stop(self) -> None:
        if self._events:
            self._events[1].record()
        self._seconds = self._clock() - self._began

    def seconds(self) -> float:
        """Of the last step; 0 when it is not known (yet)."""
        if not self._events or not self._seconds:
            return self._seconds
        return self._events[0].elapsed_time(self._events[1]) / 1000 if self._events[1].query() else 0.0
