"""What rank 0 tells its launcher while it trains; the launcher answers `/progress` from it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from finetune_api.reports import CheckpointReport, Stage
from finetune_trainer.common.channel import Channel
from finetune_trainer.common.clock import monotonic, timestamp
from finetune_trainer.engine.plan import BatchPlan
from finetune_trainer.engine.straggler import Slowest

EVERY_SECONDS = 0.2
SMOOTHING = 0.2


class Reporter:
    """Safe to use from the training loop and the saving thread."""

    def __init__(self, channel: Channel, plan: BatchPlan, start_step: int) -> None:
        self._channel, self._plan = channel, plan
        self._lock = threading.Lock()
        self._written = 0.0
        self._step_seconds: float | None = None
        self._tokens_per_second: float | None = None
        self._data_wait: float | None = None
        self._fields: dict[str, Any] = {
            "stage": Stage.STARTING,
            "step": start_step,
            "startStep": start_step,
            "totalSteps": plan.total_steps,
            "epoch": start_step / plan.steps_per_epoch,
            "globalBatchSize": plan.global_batch,
            "microBatchSize": plan.micro_batch,
            "gradientAccumulation": plan.accumulation,
            "worldSize": plan.world_size,
        }
        self._put(now=True)

    def stage(self, stage: Stage) -> None:
        with self._lock:
            if stage is Stage.TRAINING:
                self._fields.setdefault("runningAt", timestamp())
            changed = self._fields["stage"] != stage
            self._fields["stage"] = stage
        if changed:
            self._put(now=True)

    def step(self, step: int, *, loss: float | None, skipped: int, seconds: float, tokens: int) -> None:
        with self._lock:
            self._step_seconds = _smooth(self._step_seconds, seconds)
            self._tokens_per_second = _smooth(self._tokens_per_second, tokens / max(seconds, 1e-9))
            self._fields |= {
                "step": step,
                "epoch": round(step / self._plan.steps_per_epoch, 4),
                "loss": loss,
                "skippedSteps": skipped,
                "stepSeconds": round(self._step_seconds, 4),
                "tokensPerSecond": round(self._tokens_per_second, 1),
                "etaSeconds": round(self._step_seconds * (self._plan.total_steps - step), 1),
            }
        self._put(now=False)

    def waited(self, data_seconds: float, seconds: float) -> None:
        """Of a step's time, the share in which it stood still for its batch."""
        with self._lock:
            self._data_wait = _smooth(self._data_wait, 100 * data_seconds / max(seconds, 1e-9))
            self._fields["dataWaitPercent"] = round(self._data_wait, 2)

    def retained(self, terms: Mapping[str, float]) -> None:
        """What was added to the loss against forgetting."""
        if terms:
            with self._lock:
                self._fields["retention"] = {name: round(value, 6) for name, value in terms.items()}

    def settled(self, *, strategy: str, why: str, attention: str) -> None:
        """What Auto came to."""
        with self._lock:
            self._fields |= {"strategy": strategy, "strategyWhy": why, "attention": attention}

    def interval(self, seconds: float) -> None:
        """Between two checkpoints, from now on."""
        with self._lock:
            self._fields["checkpointIntervalSeconds"] = round(seconds, 1)

    def slowest(self, found: Slowest | None) -> None:
        with self._lock:
            self._fields |= {
                "slowestRank": found.rank if found else None,
                "slowestRatio": found.ratio if found else None,
            }

    def evaluated(self, loss: float) -> None:
        with self._lock:
            self._fields["evalLoss"] = loss
        self._put(now=True)

    def over(self, step: int, why: str) -> None:
        """Training ends before its last planned step."""
        with self._lock:
            self._fields |= {"totalSteps": step, "endedEarly": why, "etaSeconds": 0.0}
        self._put(now=True)

    def committed(self, report: CheckpointReport) -> None:
        with self._lock:
            self._fields["checkpoint"] = report.to_wire()
        self._put(now=True)

    def flush(self) -> None:
        self._put(now=True)

    def _put(self, *, now: bool) -> None:
        with self._lock:
            if now or monotonic() - self._written >= EVERY_SECONDS:
                self._written = monotonic()
                self._channel.put_progress(self._fields | {"updatedAt": timestamp()})


def _smooth(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)
