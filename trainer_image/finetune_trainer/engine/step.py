"""One optimizer step over a global batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist

from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_trainer.common.channel import Heart
from finetune_trainer.common.errors import RunError
from finetune_trainer.engine.batch import Batch, Examples, collate, target_tokens, without_targets
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.loss import target_loss_sum
from finetune_trainer.engine.order import EMPTY, Indices, MicroBatch, Order
from finetune_trainer.engine.plan import BatchPlan
from finetune_trainer.engine.schedule import learning_rate, peak_rate
from finetune_trainer.engine.seeding import seed_micro_batch
from finetune_trainer.engine.strategy.base import Strategy


@dataclass(frozen=True)
class StepResult:
    loss: float
    """Mean over the target tokens of the global batch, before the update."""
    grad_norm: float
    rate: float
    tokens: int
    """Of the global batch, prompts included."""
    targets: int


class Stepper:
    def __init__(
        self,
        spec: FineTuneJobSpec,
        strategy: Strategy,
        examples: Examples,
        plan: BatchPlan,
        place: Place,
        heart: Heart,
        pad_id: int,
    ) -> None:
        self._spec, self._strategy, self._examples = spec, strategy, examples
        self._plan, self._place, self._heart, self._pad = plan, place, heart, pad_id
        self._order = Order(plan, spec.training.seed)
        self._peak = peak_rate(spec)
        self._max_norm = float(spec.training.max_grad_norm) or math.inf

    def __call__(self, step: int) -> StepResult:
        """The step after `step` finished ones. Raises RunError (72), on all ranks, when the numbers leave the reals."""
        training = self._spec.training
        epoch, batch = self._plan.place(step)
        records = self._order.batch(epoch, batch)
        targets = target_tokens(self._examples, records)
        tokens = sum(len(self._examples[int(i)][0]) for i in records)
        rate = learning_rate(step, self._plan.total_steps, self._peak, training.scheduler)
        loss = torch.zeros((), dtype=torch.float64, device=self._place.device)
        micros = self._share(epoch, batch)
        for number, micro in enumerate(micros, start=1):
            seed_micro_batch(training.seed, epoch, batch, micro.position)
            inputs = self._inputs(micro, records)
            with self._strategy.precision():
                loss_sum = target_loss_sum(self._strategy.model, inputs)
            self._strategy.backward(loss_sum / targets, last=number == len(micros))
            loss += loss_sum.detach().double()
            self._heart.beat()
        norm = self._strategy.norm()
        dist.all_reduce(loss)
        result = StepResult(float(loss) / targets, float(norm), rate, tokens, targets)
        if not (math.isfinite(result.loss) and math.isfinite(result.grad_norm)):
            raise RunError(
                ExitCode.DIVERGED,
                f"diverged at step {step + 1}: loss {result.loss}, gradient norm {result.grad_norm}, learning rate "
                f"{rate:.3g}; lower training.learningRate, or raise scheduler.warmupPercent",
            )
        self._strategy.update(rate, self._max_norm, norm)
        self._heart.beat()
        return result

    def _share(self, epoch: int, batch: int) -> list[MicroBatch]:
        mine = self._order.share(epoch, batch, self._place.rank)
        if not self._strategy.lockstep:
            return mine
        # The first rank has the most in a short last batch; the others make up the number with empty ones.
        most = len(self._order.share(epoch, batch, 0))
        return [*mine, *[EMPTY] * (most - len(mine))]

    def _inputs(self, micro: MicroBatch, records: Indices) -> Batch:
        if len(micro.indices):
            return collate(self._examples, micro.indices, self._pad).to(self._place.device)
        return without_targets(collate(self._examples, records[:1], self._pad)).to(self._place.device)
