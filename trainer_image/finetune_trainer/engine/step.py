"""One optimizer step over a global batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.distributed as dist

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_trainer.common.channel import Heart
from finetune_trainer.data.curriculum import Arrangement
from finetune_trainer.engine.ahead import look_ahead
from finetune_trainer.engine.batch import Batch, Examples
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.guard import Guard
from finetune_trainer.engine.loader import Load, Loader
from finetune_trainer.engine.loss_scale import LossScale
from finetune_trainer.engine.order import Order
from finetune_trainer.engine.plan import BatchPlan
from finetune_trainer.engine.schedule import learning_rate, peak_rate
from finetune_trainer.engine.seeding import seed_micro_batch
from finetune_trainer.engine.split import Phase, Split
from finetune_trainer.engine.straggler import Stopwatch
from finetune_trainer.engine.strategy.base import Strategy
from finetune_trainer.objectives.base import LearnsAgain, Objective, Samples, Sums
from finetune_trainer.retention.base import Term


@dataclass(frozen=True)
class StepResult:
    loss: float
    """Mean over the global batch (for SFT over its target tokens), before the update."""
    grad_norm: float
    rate: float
    tokens: int
    """Of the global batch, prompts included."""
    targets: int
    data_seconds: float = 0.0
    """Waited for the batch: 0 when it lay ready."""
    skipped: str | None = None
    """Why the update was left out."""
    split: Mapping[Phase, float] = field(default_factory=dict)
    """Seconds by phase; on a GPU of a step before."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """What the objective tells beside its loss."""
    retention: Mapping[str, float] = field(default_factory=dict)
    """What was minimised besides, by term."""
    loss_scale: float | None = None
    """Of FP16, as it was in this step."""


class Stepper:
    def __init__(
        self,
        spec: FineTuneJobSpec,
        strategy: Strategy,
        objective: Objective,
        examples: Examples,
        plan: BatchPlan,
        place: Place,
        heart: Heart,
        pad_id: int,
        terms: Sequence[Term] = (),
        arrangement: Arrangement | None = None,
    ) -> None:
        self._spec, self._strategy, self._plan, self._place, self._heart = spec, strategy, plan, place, heart
        self._objective, self._terms = objective, terms
        order = Order(plan, spec.training.seed, arrangement)
        cuda = place.device.type == "cuda"
        self._loader = Loader(objective, examples, order, place.rank, pad_id, lockstep=strategy.lockstep, pin=cuda)
        self._peak = peak_rate(spec)
        self._max_norm = float(spec.training.max_grad_norm) or math.inf
        self.guard = Guard(spec.training)
        self.loss_scale = LossScale(spec.training.precision)
        self.busy = Stopwatch(cuda=cuda)
        self._split = Split(cuda=cuda)

    def __call__(self, step: int) -> StepResult:
        """The step after `step` finished ones. Raises RunError (72), on all ranks, when the numbers leave the reals."""
        training, split = self._spec.training, self._split
        split.enter(Phase.DATA)
        load = self._loader.load(step)
        rate = learning_rate(step, self._plan.total_steps, self._peak, training.scheduler)
        self.busy.start()
        split.enter(Phase.FORWARD)
        found = look_ahead(
            self._objective, self._strategy, self._place, (m.batch for m in load.micros), load.weight, self._heart.beat
        )
        inputs = self._inputs(load, found)
        if isinstance(self._objective, LearnsAgain):
            written = list(inputs)
            self.busy.stop()
            inputs = self._objective.weigh(written, self._added)
            result = _mean([self._update(step, load, rate, inputs) for _ in range(self._objective.updates)])
        else:
            result = self._update(step, load, rate, inputs)
        return replace(result, split=split.end())

    def _inputs(self, load: Load, found: torch.Tensor | None) -> Iterable[Batch]:
        """What the loss is taken of, one micro-batch after the other; random numbers are those of the last one."""
        for micro in load.micros:
            seed_micro_batch(self._spec.training.seed, load.epoch, load.batch, micro.position)
            self._split.enter(Phase.DATA)
            batch = replace(micro.batch.to(self._place.device), ahead=found)
            self._split.enter(Phase.FORWARD)
            with self._strategy.precision():
                batch = self._written(batch)
            yield batch

    def _added(self, mine: torch.Tensor) -> torch.Tensor:
        mine = mine.to(self._place.device)
        dist.all_reduce(mine)
        return mine

    def _update(self, step: int, load: Load, rate: float, inputs: Iterable[Batch]) -> StepResult:
        """One update of the weights, or none where the numbers forbid it."""
        split = self._split
        totals = torch.zeros(1 + len(self._objective.parts), dtype=torch.float64, device=self._place.device)
        self._strategy.scale = self.loss_scale.scale
        kept = [term.add(self._strategy, step) for term in self._terms]
        for number, batch in enumerate(inputs, start=1):
            split.enter(Phase.FORWARD)
            with self._strategy.precision():
                sums = self._forward(batch)
            split.enter(Phase.BACKWARD)
            self._strategy.backward(sums.loss / load.weight, last=number == len(load.micros))
            totals += torch.stack([sums.loss.detach(), *sums.parts]).double()
            self._heart.beat()
        if not isinstance(self._objective, LearnsAgain):
            self.busy.stop()
        split.enter(Phase.REDUCE)
        norm = self._strategy.norm()
        if kept:
            totals = torch.cat([totals, torch.stack(kept).double()])
        dist.all_reduce(totals)
        terms = totals[len(totals) - len(kept) :].tolist()
        totals = totals[: len(totals) - len(kept)]
        loss, *parts = (total / load.weight for total in totals.tolist())
        result = StepResult(
            loss,
            float(norm),
            rate,
            load.tokens,
            load.targets,
            data_seconds=self._loader.waited,
            parts=dict(zip(self._objective.parts, parts, strict=True)),
            retention={term.name: value for term, value in zip(self._terms, terms, strict=True)},
            loss_scale=self.loss_scale.shown,
        )
        split.enter(Phase.OPTIMIZER)
        skipped = self.loss_scale.judge(loss=result.loss, norm=result.grad_norm)
        skipped = skipped or self.guard.judge(step + 1, loss=result.loss, norm=result.grad_norm, rate=rate)
        if skipped is None:
            self._strategy.update(rate, self._max_norm, norm)
        else:
            self._leave_out()
        self._heart.beat()
        return replace(result, skipped=skipped)

    def _written(self, batch: Batch) -> Batch:
        if not isinstance(self._objective, Samples):
            return batch
        return self._objective.sample(self._strategy.model, batch, self._heart.beat)

    def _forward(self, batch: Batch) -> Sums:
        return self._objective.sums(self._strategy.model, batch)

    def _leave_out(self) -> None:
        self._strategy.skip()
        if not self.guard.accepted:
            # A checkpoint may come before the optimizer's first step, and is to hold its state all the same.
            self._strategy.prepare_restore()


def _mean(results: Sequence[StepResult]) -> StepResult:
    """Of the updates of one step."""
    first, count = results[0], len(results)
    return replace(
        first,
        loss=sum(result.loss for result in results) / count,
        grad_norm=sum(result.grad_norm for result in results) / count,
        parts={name: sum(result.parts[name] for result in results) / count for name in first.parts},
        skipped=next((result.skipped for result in results if result.skipped), None),
    )
