"""How long something that may pass is waited for: growing pauses, one end for all threads, and a way to call it off."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Patience:
    """Counts down from when it is made."""

    def __init__(
        self, seconds: float, *, first: float = 0.5, longest: float = 15.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds, self.first, self.longest, self._clock = seconds, first, longest, clock
        self._until = clock() + seconds
        self._cancelled = threading.Event()

    @property
    def left(self) -> float:
        """Seconds, never negative; 0 after `cancel`."""
        return 0.0 if self._cancelled.is_set() else max(0.0, self._until - self._clock())

    def renew(self) -> None:
        """Something moved: wait for as long again."""
        self._until = self._clock() + self.seconds

    def cancel(self) -> None:
        """Ends every pause in every thread."""
        self._cancelled.set()

    def pause(self, attempt: int) -> bool:
        """Before try number `attempt` + 2; False when there is no time left for it."""
        length = min(self.first * 2.0 ** min(attempt, 30), self.longest)
        if length >= self.left:
            return False
        return not self._cancelled.wait(length)
