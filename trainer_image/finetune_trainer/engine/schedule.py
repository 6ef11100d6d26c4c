"""The learning rate as a function of the step: nothing to save, nothing to restore, nothing to drift."""

from __future__ import annotations

import math

from finetune_api.allowed import METHODS
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import BESIDE_THE_BASE, objective_of
from finetune_api.training import WSD, DecayShape, LRScheduler, OptimizerType, SchedulerType

LION_SHARE = 0.2
"""Of AdamW's rate: Lion's steps are all of one size, and larger (Chen et al. 2023, section 5, say 3 to 10 times)."""
PREFERENCE_SHARE = 0.1
"""Preferences change what a model has learned already, and are learned at far smaller rates."""
TIMESCALE = 10_000
"""Of InverseSqrt without a warm-up, as transformers has it."""


def peak_rate(spec: FineTuneJobSpec) -> float:
    rate = spec.training.learning_rate
    if rate is not None:
        return float(rate)
    lion = spec.training.optimizer.type is OptimizerType.LION
    share = PREFERENCE_SHARE if objective_of(spec).type in BESIDE_THE_BASE else 1.0
    return float(METHODS[spec.method.type].rate) * (LION_SHARE if lion else 1.0) * share


def learning_rate(step: int, total_steps: int, peak: float, scheduler: LRScheduler) -> float:
    """For the optimizer step number `step`, counted from 0. Warm-up rises linearly and reaches `peak` at its end;
    the floor is where the step after the last would run, so no step is wasted at a rate of zero."""
    warmup = math.ceil(total_steps * scheduler.warmup_percent / 100)
    if step < warmup:
        return peak * (step + 1) / warmup
    if scheduler.type is SchedulerType.CONSTANT:
        return peak
    floor = peak * scheduler.min_lr_percent / 100
    return floor + (peak - floor) * _share(step, total_steps, warmup, scheduler)


def _share(step: int, total_steps: int, warmup: int, scheduler: LRScheduler) -> float:
    """Of what lies between floor and peak, after the warm-up."""
    if scheduler.type is SchedulerType.INVERSE_SQRT:
        # Vaswani et al. 2017, section 5.3, scaled to be 1 where the warm-up ends.
        scale = warmup or TIMESCALE
        return math.sqrt(scale / (step - warmup + scale))
    if scheduler.type is SchedulerType.WSD:
        return _decayed(step, total_steps, warmup, scheduler.wsd or WSD())
    done = (step - warmup) / (total_steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * done)) if scheduler.type is SchedulerType.COSINE else 1 - done


def _decayed(step: int, total_steps: int, warmup: int, wsd: WSD) -> float:
    """Hu et al. 2024 (MiniCPM), section 4; 1 - sqrt after Haegele et al. 2024, section 4."""
    begin = max(warmup, total_steps - math.ceil(total_steps * wsd.decay_percent / 100))
    if step < begin:
        return 1.0
    done = (step - begin) / (total_steps - begin)
    if wsd.shape is DecayShape.COSINE:
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1 - math.sqrt(done) if wsd.shape is DecayShape.ONE_MINUS_SQRT else 1 - done
