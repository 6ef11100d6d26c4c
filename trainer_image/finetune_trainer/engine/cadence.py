"""When the next checkpoint is due by the clock. Rank 0 asks; the answer follows what the checkpoints before cost."""

from __future__ import annotations

from finetune_api.base import AUTO
from finetune_api.duration import parse_duration
from finetune_trainer.checkpoint.interval import Measured, automatic


class Cadence:
    def __init__(self, interval: str, mtbf_seconds: float) -> None:
        self._fixed = None if interval == AUTO else parse_duration(interval)
        self._mtbf = mtbf_seconds
        self._cost: float | None = None
        self._commit = 0.0

    def cost(self, seconds: float) -> None:
        """Training stood still so long for a checkpoint. Dearer counts at once, cheaper by halves."""
        self._cost = seconds if self._cost is None else max(seconds, 0.5 * (seconds + self._cost))

    def committed(self, seconds: float) -> None:
        self._commit = seconds

    def seconds(self) -> float:
        if self._fixed is not None:
            return self._fixed
        measured = None if self._cost is None else Measured(self._cost, self._commit)
        return automatic(measured, self._mtbf)
