"""How often a run's progress goes to status: less often when writing is slow.

Progress of many runs and everything urgent share one API server. A write that takes long says that it is busy, and then
progress is what can wait. All progress writes together may keep half of the queue's routine places occupied: with `n`
runs, a write that takes `w` seconds and `p` places, that is one write per run every `n · w / (p / 2)` seconds, never
more often than the installation asks for and never more rarely than eight times that.
"""

from __future__ import annotations

import math
from collections.abc import Callable

_NEWEST = 0.1
_SHARE = 0.5
_SLOWEST = 8.0


class Pace:
    """`base` seconds between two progress writes of one run, `runs()` how many there are, `places` as above."""

    def __init__(self, base: float, *, runs: Callable[[], int], places: int) -> None:
        self._base = base
        self._runs = runs
        self._places = places
        self._took = 0.0

    def wrote(self, seconds: float) -> None:
        """A status write took so long; newer ones count more."""
        self._took += _NEWEST * (seconds - self._took)

    def seconds(self) -> float:
        """Rounded up to seconds when above `base`, so that plans see few different values."""
        wished = math.ceil(self._runs() * self._took / (self._places * _SHARE))
        return min(self._base * _SLOWEST, max(self._base, float(wished)))
