"""What to do with an optimizer step whose numbers cannot be trusted, decided before it changes a weight.

Loss and gradient norm are sums over all ranks and therefore equal everywhere, and what the guard remembers travels in
the checkpoint: every rank decides alike, and a resumed run decides as the undisturbed one would have.

A skipped batch counts as a step: data order and schedule go on as planned. Many skipped batches in a row are no
accident but divergence; the run ends (72) with the last good checkpoint in place.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from finetune_api.exitcodes import ExitCode
from finetune_api.training import OnNaN, OnSpike, Training
from finetune_trainer.common.errors import RunError

WARM_STEPS = 20
"""Accepted steps before anything is called a spike: the first ones are wild."""
MEMORY = 0.9
"""Of the running means: about the last ten accepted steps."""
IN_A_ROW = 10
ADVICE = "lower training.learningRate, or raise scheduler.warmupPercent"


@dataclass
class Memory:
    """All there is to remember; plain numbers, stored with the checkpoint."""

    accepted: int = 0
    loss: float = 0.0
    norm: float = 0.0
    skipped: int = 0
    in_a_row: int = 0


class Guard:
    def __init__(self, training: Training) -> None:
        self._on_nan, self._on_spike = training.on_nan, training.on_spike
        self._factor = float(training.spike_factor)
        self._memory = Memory()

    @property
    def skipped(self) -> int:
        """Batches since the beginning of the run."""
        return self._memory.skipped

    @property
    def accepted(self) -> int:
        return self._memory.accepted

    def state(self) -> dict[str, Any]:
        return asdict(self._memory)

    def restore(self, state: dict[str, Any] | None) -> None:
        """None: from a checkpoint that is older than the guard."""
        self._memory = Memory(**(state or {}))

    def judge(self, step: int, *, loss: float, norm: float, rate: float) -> str | None:
        """None to take the step, or in words why it must be skipped. Raises RunError (72) when the run must end."""
        numbers = f"loss {loss:.6g}, gradient norm {norm:.6g}, learning rate {rate:.3g}"
        if not (math.isfinite(loss) and math.isfinite(norm)):
            if self._on_nan is OnNaN.STOP:
                raise RunError(
                    ExitCode.DIVERGED,
                    f"diverged at step {step}: {numbers}; {ADVICE}, or set training.onNaN: SkipBatch",
                )
            return self._skip(step, f"not finite: {numbers}")
        spike = self._spike(loss, norm)
        if spike and self._on_spike is OnSpike.STOP:
            raise RunError(
                ExitCode.DIVERGED,
                f"spike at step {step}: {spike} ({numbers}); {ADVICE}, or set training.onSpike: SkipBatch",
            )
        if spike:
            return self._skip(step, f"spike: {spike}")
        self._accept(loss, norm)
        return None

    def _spike(self, loss: float, norm: float) -> str | None:
        memory = self._memory
        if self._on_spike is OnSpike.IGNORE or memory.accepted < WARM_STEPS:
            return None
        for name, value, mean in (("loss", loss, memory.loss), ("gradient norm", norm, memory.norm)):
            if value > self._factor * mean > 0:
                return f"{name} {value:.4g} is {value / mean:.1f} times its running mean {mean:.4g}"
        return None

    def _accept(self, loss: float, norm: float) -> None:
        memory = self._memory
        keep = min(MEMORY, memory.accepted / (memory.accepted + 1))
        memory.loss = keep * memory.loss + (1 - keep) * loss
        memory.norm = keep * memory.norm + (1 - keep) * norm
        memory.accepted += 1
        memory.in_a_row = 0

    def _skip(self, step: int, why: str) -> str:
        memory = self._memory
        memory.skipped += 1
        memory.in_a_row += 1
        if memory.in_a_row > IN_A_ROW:
            raise RunError(
                ExitCode.DIVERGED,
                f"diverged at step {step}: {IN_A_ROW} batches in a row were skipped, and the next is no better "
                f"({why}); {ADVICE}",
            )
        return why
