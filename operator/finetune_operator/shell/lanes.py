"""How much a key's turn matters, and how far one lane may keep another waiting.

All keys share a few workers and one API server. When a node full of gangs is taken away, what each user has to see
first is that it was noticed: one write each. Ending those attempts and beginning others costs ten times that, and can
wait for it; so can jobs that have just been created, and a run's mere progress can wait for all of them.

No lane starves. One that was passed over a few times in a row goes next, whatever waits above it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum


class Lane(IntEnum):
    NOTICE = 0
    """News that the status does not tell yet: a notice, an ending, a user's wish."""
    CHANGE = 1
    """What follows from them, and whatever rollouts and milestones of running attempts ask for."""
    WORK = 2
    """First steps of new objects, and what a LIST found."""
    PROGRESS = 3
    """New numbers of a run that goes on as it should."""


_PATIENCE = {Lane.NOTICE: 0, Lane.CHANGE: 8, Lane.WORK: 8, Lane.PROGRESS: 16}
"""Turns that others may have before a lane that waits."""
FOLLOW_UP = {Lane.NOTICE: Lane.CHANGE, Lane.CHANGE: Lane.CHANGE, Lane.WORK: Lane.WORK, Lane.PROGRESS: Lane.PROGRESS}
"""Where a key goes on whose pass wrote something: once the news is told, acting on it gives way to other news."""


def limits(workers: int) -> dict[Lane, int]:
    """How many keys of a lane and of those below it may be worked on at once: some workers are free for what matters
    more than what they would be busy with."""
    return {
        Lane.NOTICE: workers,
        Lane.CHANGE: max(1, workers - workers // 4),
        Lane.WORK: max(1, workers - 3 * workers // 8),
        Lane.PROGRESS: max(1, workers // 4),
    }


class Turns:
    """Chooses the lane of the next key, and counts who was passed over and who is being worked on."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._limits = limits(workers)
        self._running = dict.fromkeys(Lane, 0)
        self._passed = dict.fromkeys(Lane, 0)

    def choose(self, waiting: Iterable[Lane]) -> Lane | None:
        """Of the lanes that have keys, most urgent first; None when none may go now."""
        free = [lane for lane in waiting if self._has_room(lane)]
        overdue = (lane for lane in free if 0 < _PATIENCE[lane] <= self._passed[lane])
        return next(overdue, free[0] if free else None)

    def took(self, lane: Lane, waiting: Iterable[Lane]) -> None:
        """`waiting`: the lanes that still have keys."""
        self._running[lane] += 1
        self._passed[lane] = 0
        for other in waiting:
            if other > lane:
                self._passed[other] += 1

    def ease(self, workers: int) -> None:
        """From now on so many workers count for all but notices, which may have every one."""
        self._limits = {**limits(workers), Lane.NOTICE: self._workers}

    def ended(self, lane: Lane) -> None:
        self._running[lane] -= 1

    @property
    def running(self) -> Mapping[Lane, int]:
        return self._running

    def _has_room(self, lane: Lane) -> bool:
        return sum(self._running[other] for other in Lane if other >= lane) < self._limits[lane]
