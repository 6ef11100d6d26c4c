"""Time that only moves when a test says so."""

from __future__ import annotations

START = 1_750_000_000.0  # an arbitrary instant in 2025


class FakeClock:
    def __init__(self, start: float = START) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Negative values are allowed: wall clocks jump back, and that is one of the faults."""
        self._now += seconds
