"""An event loop whose clock jumps: nothing waits, and every timeout is exact.

When no task can go on, time moves at once to the next timer. Only for code that does no real input or output.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from opsim.loop import JumpingLoop

T = TypeVar("T")
EPOCH = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class FakeLoop(JumpingLoop):
    def __init__(self) -> None:
        super().__init__(1000.0)


def run(coro: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=FakeLoop) as runner:
        return runner.run(coro)


def clock() -> float:
    """Monotonic seconds of the fake loop."""
    return asyncio.get_running_loop().time()


def wall() -> datetime:
    """The time of day on the same clock."""
    return EPOCH + timedelta(seconds=clock() - 1000.0)
