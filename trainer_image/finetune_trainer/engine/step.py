"""One optimizer step over a global batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_trainer.common.channel import Heart
from finetune_trainer.common.errors import RunError
from finetune_trainer.engine.batch import Examples, collate, target_tokens
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.loss import target_loss_sum
from finetune_trainer.engine.model import compute_precision, trainable
from finetune_trainer.engine.optim import set_rate
from finetune_trainer.engine.order import Order
from finetune_trainer.engine.plan import BatchPlan
from finetune_trainer.engine.reduce import GradientSum
from finetune_trainer.engine.schedule import learning_rate, peak_rate
from finetune_trainer.engine.seeding import seed_micro_batch


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
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        examples: Examples,
        plan: BatchPlan,
        place: Place,
        heart: Heart,
        pad_id: int,
    ) -> None:
        self._spec, self._model, self._optimizer, self._examples = spec, model, optimizer, examples
        self._plan, self._place, self._heart, self._pad = plan, place, heart, pad_id
        self._parameters = list(trainable(model))
        self._sum = GradientSum(self._parameters)
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
        set_rate(self._optimizer, rate)
        loss = torch.zeros((), dtype=torch.float64, device=self._place.device)
        for micro in self._order.share(epoch, batch, self._place.rank):
            seed_micro_batch(training.seed, epoch, batch, micro.position)
            inputs = collate(self._examples, micro.indices, self._pad).to(self._place.device)
            with compute_precision(training.precision, self._place.device):
                loss_sum = target_loss_sum(self._model, inputs)
            (loss_sum / targets).backward()  # type: ignore[no-untyped-call]
            loss += loss_sum.detach().double()
            self._heart.beat()
        self._sum()
        dist.all_reduce(loss)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._max_norm)
        result = StepResult(float(loss) / targets, float(norm), rate, tokens, targets)
        if not (math.isfinite(result.loss) and math.isfinite(result.grad_norm)):
            raise RunError(
                ExitCode.DIVERGED,
                f"diverged at step {step + 1}: loss {result.loss}, gradient norm {result.grad_norm}, learning rate "
                f"{rate:.3g}; lower training.learningRate, or raise scheduler.warmupPercent",
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._heart.beat()
        return result
