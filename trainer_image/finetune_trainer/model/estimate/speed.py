"""How long a step takes, at the share of a GPU's peak that a well-fed trainer reaches."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.method import STARTS_APART, LoRA, MethodType
from finetune_api.objective import ObjectiveType, new_tokens, objective_of, policy_of
from finetune_api.retention import KL_SHARE
from finetune_trainer.model.estimate import teacher
from finetune_trainer.model.estimate.gpus import Gpu
from finetune_trainer.model.estimate.optimizer import FP32, state_bytes
from finetune_trainer.model.estimate.shapes import Shape
from finetune_trainer.model.estimate.trained import frozen_parameters, remembered_parameters, trainable_parameters
from finetune_trainer.model.inspect import ModelInfo

UTILISATION = 0.4
_WITHOUT_BASE = (MethodType.FULL_FINE_TUNE, MethodType.FREEZE, MethodType.BOTTLENECK)
"""Methods whose model cannot be asked for the base's answers."""
ASSUMED_BANDWIDTH = 200 * 10**6
"""Bytes per second from a pod to storage, until a run has measured its own."""


def flops_per_token(model: ModelInfo, spec: FineTuneJobSpec, *, length: int) -> float:
    """2 per parameter forward, 2 for the gradient of what flows, 2 more for that of a trained weight (Kaplan et al.
    2020, section 2.1); attention adds 6·layers·width·length, half of its full square, because it looks back only."""
    shape = Shape.of(model)
    attention = 2.0 * shape.layers * shape.queries * length
    trained, frozen = trainable_parameters(model, spec), frozen_parameters(model, spec)
    step = 6.0 * trained + 4.0 * frozen + 3 * attention
    forward = 2.0 * (trained + frozen) + attention
    passes = _passes(spec)
    return passes.steps * step + passes.forwards * forward + teacher.flops_per_token(model, length=length)


@dataclass(frozen=True)
class _Passes:
    """Per row that is learned from. Writing answers is left out: it waits for memory, not for arithmetic."""

    steps: float
    """Forward and backward."""
    forwards: float
    """Without a gradient."""


def _passes(spec: FineTuneJobSpec) -> _Passes:
    objective, policy = objective_of(spec), policy_of(spec)
    steps, forwards = 1.0, 0.0
    # Elsewhere the base is asked once, before training.
    asked = spec.method.type not in _WITHOUT_BASE and (spec.method.lora or LoRA()).init not in STARTS_APART
    if objective.type is ObjectiveType.DPO:
        forwards += asked
    elif objective.type is ObjectiveType.KTO:
        # Other prompts' answers besides.
        forwards += 1 + 2 * asked
    elif policy is not None and policy.beta != "0":
        forwards += 1
    if objective.ppo is not None:
        steps, forwards = float(objective.ppo.updates), forwards + 1
    if spec.retention is not None and spec.retention.kl_to_base is not None:
        steps, forwards = steps + 1 / KL_SHARE, forwards + 1 / KL_SHARE
    return _Passes(steps, forwards)


def tokens_per_second(model: ModelInfo, spec: FineTuneJobSpec, gpu: Gpu | None) -> float | None:
    """Of one GPU; None where its peak is not known."""
    if gpu is None:
        return None
    peak = gpu.half_flops if spec.training.precision.halved else gpu.full_flops
    return (
        None
        if peak is None
        else UTILISATION * peak / flops_per_token(model, spec, length=spec.data.max_length + new_tokens(spec))
    )


def checkpoint_bytes(model: ModelInfo, spec: FineTuneJobSpec) -> int:
    """Trained weights in fp32 and what optimizer and method remember; the frozen base is never saved."""
    numbers = trainable_parameters(model, spec) + remembered_parameters(model, spec)
    return FP32 * numbers + state_bytes(model, spec)


def notice_fits(size: int, step_seconds: float | None, notice: float) -> str:
    """Whether the step under way and a checkpoint are done before a spot node goes: True, False or Unknown."""
    saving = size / ASSUMED_BANDWIDTH
    if saving + (step_seconds or 0.0) > notice:
        return "False"
    return "Unknown" if step_seconds is None else "True"
