"""What the held-out loss says during training: when to look, which step was the best, and when to end early.

Looks are taken at steps, never by the clock, the loss is summed over all ranks, and what is remembered travels in the
checkpoint: every rank decides alike, and a resumed run ends at the step where the undisturbed one would have ended. A
look that a stop interrupts counts as not taken; the resumed run takes it before it trains on.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_trainer.common.errors import SpecError


@dataclass
class Memory:
    """All there is to remember; plain numbers, stored with the checkpoint."""

    step: int = 0
    """Of the last look."""
    loss: float | None = None
    lowest: float | None = None
    lowest_step: int = 0
    mark: float | None = None
    """What a loss must be lower than, by minDelta, to count as better."""
    waited: int = 0
    """Looks since then."""


class Watch:
    def __init__(self, spec: FineTuneJobSpec, *, steps_per_epoch: int, total_steps: int) -> None:
        stopping = spec.training.early_stopping
        self._patience = stopping.patience if stopping else None
        self._delta = float(stopping.min_delta) if stopping else 0.0
        self._keeps = bool(spec.checkpoint.keep.best)
        wanted = spec.evaluation.interval_steps
        self._every = wanted or (steps_per_epoch if stopping or self._keeps else None)
        self._total = total_steps
        self._memory = Memory()

    def require(self, held_out: int) -> None:
        """Raises SpecError when decisions hang on a loss that will never be measured."""
        if self._every is None or held_out:
            return
        raise SpecError(
            "spec.data.validation",
            "nothing held out",
            "evaluation.intervalSteps, training.earlyStopping and checkpoint.keep.best need held-out records; raise "
            "validation.percent or name validation.sources",
        )

    @property
    def step(self) -> int:
        return self._memory.step

    @property
    def over(self) -> bool:
        """Training has waited long enough for a better loss."""
        return self._patience is not None and self._memory.waited >= self._patience

    def due(self, step: int) -> bool:
        """A look after `step` finished steps that has not been taken."""
        every = self._every
        return every is not None and step > self._memory.step and (step % every == 0 or step == self._total)

    def loss(self, step: int) -> float | None:
        """What the look at this very step saw."""
        return self._memory.loss if step == self._memory.step else None

    def best_now(self, step: int) -> bool:
        """Whether this step is the best so far and its checkpoint is to be kept."""
        return self._keeps and 0 < step == self._memory.lowest_step

    def note(self, step: int, loss: float) -> None:
        """A loss that is not finite is no better than any."""
        memory = self._memory
        finite = math.isfinite(loss)
        memory.step, memory.loss = step, loss if finite else None
        if finite and (memory.lowest is None or loss < memory.lowest):
            memory.lowest, memory.lowest_step = loss, step
        if finite and (memory.mark is None or loss < memory.mark - self._delta):
            memory.mark, memory.waited = loss, 0
        else:
            memory.waited += 1

    def words(self) -> str:
        """Why it is over."""
        memory, delta = self._memory, f" by {self._delta:g}" if self._delta else ""
        best = "was never finite" if memory.mark is None else f"did not get below {memory.mark:.4g}{delta}"
        return (
            f"stopped early at step {memory.step} of {self._total}: the held-out loss {best} in {memory.waited} "
            f"evaluations (lowest at step {memory.lowest_step})"
        )

    def state(self) -> dict[str, Any]:
        return asdict(self._memory)

    def restore(self, state: dict[str, Any] | None) -> None:
        """None: from a checkpoint that is older than this."""
        self._memory = Memory(**(state or {}))
