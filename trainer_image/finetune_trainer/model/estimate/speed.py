"""How long a step takes, at the share of a GPU's peak that a well-fed trainer reaches."""

from __future__ import annotations

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import new_tokens
from finetune_trainer.model.estimate import teacher
from finetune_trainer.model.estimate.gpus import Gpu
from finetune_trainer.model.estimate.optimizer import FP32, state_bytes
from finetune_trainer.model.estimate.shapes import Shape
from finetune_trainer.model.estimate.trained import frozen_parameters, remembered_parameters, trainable_parameters
from finetune_trainer.model.inspect import ModelInfo

UTILISATION = 0.4
ASSUMED_BANDWIDTH = 200 * 10**6
"""Bytes per second from a pod to storage, until a run has measured its own."""


def flops_per_token(model: ModelInfo, spec: FineTuneJobSpec, *, length: int) -> float:
    """2 per parameter forward, 2 for the gradient of what flows, 2 more for that of a trained weight (Kaplan et al.
    2020, section 2.1); attention adds 6·layers·width·length, half of its full square, because it looks back only."""
    shape = Shape.of(model)
    trained = trainable_parameters(model, spec)
    weights = 6.0 * trained + 4.0 * frozen_parameters(model, spec)
    return weights + 6.0 * shape.layers * shape.queries * length + teacher.flops_per_token(model, length=length)


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
