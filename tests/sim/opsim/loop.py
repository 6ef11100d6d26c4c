"""An event loop whose time jumps to the next timer, and the cluster's clock on top of it."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

from fakeapi.clock import START, FakeClock

_TICK = 1e-9
_PATIENCE = 1000


class _Jumping(selectors.DefaultSelector):
    loop: JumpingLoop
    standing = 0
    """Rounds of the loop since its time last moved."""

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everything waits, and for nothing: a deadlock")
        if not ready and timeout:
            self.loop.now += timeout
            self.standing = 0
            return ready
        self.standing += 1
        if self.standing > _PATIENCE:
            # A timer may fire a clock's resolution early, and whoever finds that it is not time yet waits again: it
            # must become time some day.
            self.loop.now += _TICK
            self.standing = 0
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self, start: float = 0.0) -> None:
        self.now = start
        selector = _Jumping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


class LoopClock(FakeClock):
    """The cluster's time of day: it passes with the loop, and `advance` makes it jump."""

    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__(START)
        self._loop = loop

    def now(self) -> float:
        return super().now() + self._loop.now
