"""Where the time of an optimizer step goes.

On a CPU the clock tells. On a GPU the clock would only tell how long it took to ask for the work, so marks are events
in the stream of work; they are read once the GPU has passed them, usually a step later, and nothing waits for them.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from itertools import pairwise
from typing import Any, Protocol

from finetune_trainer.common.clock import monotonic


class Phase(StrEnum):
    DATA = "data"
    """Waiting for the batch, and bringing it to the device."""
    FORWARD = "forward"
    BACKWARD = "backward"
    """Under FSDP with the gradients' way to their ranks."""
    REDUCE = "reduce"
    """Sums over ranks, and the gradients' norm."""
    OPTIMIZER = "optimizer"
    """Clipping and the update."""


class Mark(Protocol):
    """A moment."""

    def passed(self) -> bool: ...

    def until(self, later: Any) -> float:
        """Seconds."""


class _Moment:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._at = clock()

    def passed(self) -> bool:
        return True

    def until(self, later: _Moment) -> float:
        return later._at - self._at


class _Event:
    def __init__(self) -> None:
        import torch

        event: Any = torch.cuda.Event
        self._event = event(enable_timing=True)
        self._event.record()

    def passed(self) -> bool:
        return bool(self._event.query())

    def until(self, later: _Event) -> float:
        return float(self._event.elapsed_time(later._event)) / 1000


class Split:
    """`enter` ends the phase before; phases may be entered many times, their times add up."""

    def __init__(self, *, cuda: bool, clock: Callable[[], float] = monotonic, mark: Callable[[], Mark] | None = None):
        self._mark = mark or (_Event if cuda else lambda: _Moment(clock))
        self._marks: list[tuple[Phase | None, Mark]] = []
        self._waiting: list[list[tuple[Phase | None, Mark]]] = []
        self._known: dict[Phase, float] = {}

    def enter(self, phase: Phase) -> None:
        self._marks.append((phase, self._mark()))

    def end(self) -> dict[Phase, float]:
        """Of a step; gives seconds by phase of the newest step that is known: this one, or on a GPU an earlier one."""
        self._marks.append((None, self._mark()))
        self._waiting.append(self._marks)
        self._marks = []
        while self._waiting and self._waiting[0][-1][1].passed():
            self._known = _seconds(self._waiting.pop(0))
        return dict(self._known)


def _seconds(marks: list[tuple[Phase | None, Mark]]) -> dict[Phase, float]:
    found: dict[Phase, float] = {}
    for (phase, mark), (_, following) in pairwise(marks):
        if phase is not None:
            found[phase] = found.get(phase, 0.0) + mark.until(following)
    return found
