"""The estimate as status shows it, and what it comes to in words."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.duration import parse_duration
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import new_tokens, rows_per_record
from finetune_api.reports import Estimate, MemoryParts
from finetune_trainer.engine.plan import BatchPlan
from finetune_trainer.model.estimate.choose import choose_setting, nearest_fits
from finetune_trainer.model.estimate.gpus import find_gpu
from finetune_trainer.model.estimate.memory import Parts, memory
from finetune_trainer.model.estimate.speed import ASSUMED_BANDWIDTH, checkpoint_bytes, notice_fits, tokens_per_second
from finetune_trainer.model.estimate.trained import trainable_parameters
from finetune_trainer.model.inspect import ModelInfo
from finetune_trainer.model.quantity import human_bytes, parse_quantity


@dataclass(frozen=True)
class Judgement:
    estimate: Estimate
    parts: Parts
    nearest: tuple[str, ...]
    """Settings that would fit; empty where it fits or cannot be told."""
    memory_words: str
    notice_words: str
    """Empty unless the preemption promise cannot be kept."""


def judge(model: ModelInfo, spec: FineTuneJobSpec, plan: BatchPlan) -> Judgement:
    """Raises ValueError when spec.resources.limits.memory is no quantity."""
    resources = spec.resources
    on_gpu, per_node = resources.gpus_per_node > 0, resources.processes_per_node or resources.gpus_per_node or 1
    capacity, whence = _capacity(spec, per_node)
    setting, why = choose_setting(
        model,
        spec,
        world=plan.world_size,
        per_node=per_node,
        micro_batch=plan.micro_batch,
        accumulation=plan.accumulation,
        capacity=capacity,
        on_gpu=on_gpu,
    )
    parts = memory(model, spec, setting)
    fits = "Unknown" if capacity is None else str(parts.total <= capacity)
    nearest = nearest_fits(model, spec, setting, capacity) if capacity is not None and fits == "False" else []
    speed = tokens_per_second(model, spec, find_gpu(resources)) if on_gpu else None
    step = None
    if speed is not None:
        length = spec.data.max_length + new_tokens(spec)
        step = plan.global_batch * rows_per_record(spec) * length / (speed * plan.world_size)
    size, notice = checkpoint_bytes(model, spec), parse_duration(spec.checkpoint.notice)
    promise = notice_fits(size, step, notice)
    estimate = Estimate(
        parameters=model.parameters,
        trainable_parameters=trainable_parameters(model, spec),
        memory_per_gpu_bytes=parts.total,
        memory=MemoryParts(
            weights=parts.weights,
            gradients=parts.gradients,
            optimizer=parts.optimizer,
            activations=parts.activations,
            logits=parts.logits,
            buffers=parts.buffers,
            reserve=parts.reserve,
        ),
        capacity_bytes=capacity,
        fits=fits,
        strategy=setting.strategy.value,
        strategy_why=why,
        tokens_per_second_per_gpu=None if speed is None else round(speed, 1),
        step_seconds=None if step is None else round(step, 3),
        total_gpu_hours=None if step is None else round(step * plan.total_steps * plan.world_size / 3600, 3),
        checkpoint_bytes=size,
        notice_fits=promise,
    )
    return Judgement(
        estimate=estimate,
        parts=parts,
        nearest=tuple(nearest),
        memory_words=f"about {human_bytes(parts.total)} per process under {setting.strategy.value}, {whence}",
        notice_words=_notice(size, step, notice) if promise == "False" else "",
    )


def _capacity(spec: FineTuneJobSpec, per_node: int) -> tuple[int | None, str]:
    """Bytes that one process may use, and where that is known from."""
    resources = spec.resources
    if resources.gpus_per_node > 0:
        gpu = find_gpu(resources)
        if gpu is None:
            return (
                None,
                "the spec does not say which GPU (nodeSelector nvidia.com/gpu.product or gpu.memory)",
            )
        share = gpu.memory * resources.gpus_per_node // max(per_node, resources.gpus_per_node)
        return share, f"{human_bytes(share)} there ({gpu.name})"
    limit = (resources.limits or {}).get("memory")
    if limit is None:
        return None, "spec.resources.limits.memory is not set"
    return int(parse_quantity(limit) / per_node), f"{per_node} per pod within spec.resources.limits.memory {limit}"


def _notice(size: int, step: float | None, notice: float) -> str:
    step_words = "" if step is None else f" and a step {step:.0f} s"
    return (
        f"a checkpoint of {human_bytes(size)} takes {size / ASSUMED_BANDWIDTH:.0f} s at "
        f"{ASSUMED_BANDWIDTH // 10**6} MB/s{step_words}; spec.checkpoint.notice is {notice:.0f} s, so a preemption may "
        "lose the steps since the last checkpoint"
    )
