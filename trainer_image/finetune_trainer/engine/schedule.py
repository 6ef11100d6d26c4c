"""The learning rate as a function of the step: nothing to save, nothing to restore, nothing to drift."""

from __future__ import annotations

import math

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.method import MethodType
from finetune_api.training import LRScheduler, SchedulerType

DEFAULT_RATE = {MethodType.LORA: 2e-4, MethodType.FULL_FINE_TUNE: 2e-5}


def peak_rate(spec: FineTuneJobSpec) -> float:
    rate = spec.training.learning_rate
    return float(rate) if rate is not None else DEFAULT_RATE[spec.method.type]


def learning_rate(step: int, total_steps: int, peak: float, scheduler: LRScheduler) -> float:
    """For the optimizer step number `step`, counted from 0. Warm-up rises linearly and reaches `peak` at its end;
    the floor is where the step after the last would run, so no step is wasted at a rate of zero."""
    warmup = math.ceil(total_steps * scheduler.warmup_percent / 100)
    if step < warmup:
        return peak * (step + 1) / warmup
    if scheduler.type is SchedulerType.CONSTANT:
        return peak
    floor = peak * scheduler.min_lr_percent / 100
    done = (step - warmup) / (total_steps - warmup)
    share = 0.5 * (1 + math.cos(math.pi * done)) if scheduler.type is SchedulerType.COSINE else 1 - done
    return floor + (peak - floor) * share
