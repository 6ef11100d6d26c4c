"""Which strategy `Auto` means, and what else would fit where nothing does. Pure decisions with their reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from finetune_api import objective
from finetune_api.allowed import ddp_only
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.method import MUTATES_BASE, LoRA, Method, MethodType
from finetune_api.parallelism import CUTS_PARAMETERS, StrategyName
from finetune_api.retention import holds_start, needs_whole
from finetune_api.training import WHOLE_STATE, ActivationCheckpointing
from finetune_trainer.model.estimate.memory import memory
from finetune_trainer.model.estimate.setting import Setting
from finetune_trainer.model.estimate.trained import trains_all
from finetune_trainer.model.inspect import ModelInfo
from finetune_trainer.model.quantity import human_bytes

MOST_SUGGESTIONS = 4
RECOMPUTED = (ActivationCheckpointing.SELECTIVE, ActivationCheckpointing.FULL)
"""The cheaper one first."""
_SHORTEST = 256


def setting_for(
    spec: FineTuneJobSpec, strategy: StrategyName, *, world: int, per_node: int, micro_batch: int, accumulation: int
) -> Setting:
    sharded = strategy is not StrategyName.DDP and world > 1
    hybrid = spec.parallelism.hybrid_shard and world > per_node
    return Setting(
        strategy=strategy,
        world=world,
        shards=(per_node if hybrid else world) if sharded else 1,
        offload=spec.parallelism.offload,
        micro_batch=micro_batch,
        accumulation=accumulation,
        length=spec.data.max_length + objective.new_tokens(spec),
        recompute=settled_recompute(spec),
    )


def settled_recompute(spec: FineTuneJobSpec) -> ActivationCheckpointing:
    """What the spec says; None where it leaves that to the estimate."""
    wanted = spec.training.activation_checkpointing
    return ActivationCheckpointing.NONE if wanted is ActivationCheckpointing.AUTO else wanted


def whole_for(spec: FineTuneJobSpec) -> str | None:
    """Why parameters are not cut over GPUs; None where they may be."""
    return ddp_only(spec.method) or needs_whole(spec.retention) or objective.needs_whole(spec)


def without_estimate(spec: FineTuneJobSpec, *, world: int, on_gpu: bool) -> tuple[StrategyName, str] | None:
    """The strategy and why, where no memory has to be counted for it."""
    wanted, whole = spec.parallelism.strategy, whole_for(spec)
    if wanted is not StrategyName.AUTO:
        return wanted, "spec.parallelism.strategy names it"
    if spec.training.optimizer.type in WHOLE_STATE:
        return StrategyName.DDP, f"the state of {spec.training.optimizer.type} cannot be cut over processes"
    if whole is not None:
        return StrategyName.DDP, whole
    if world == 1:
        return StrategyName.DDP, "one process has nobody to share with"
    return None if on_gpu else (StrategyName.DDP, "on CPU every process holds the whole model")


def choose_strategy(
    model: ModelInfo,
    spec: FineTuneJobSpec,
    *,
    world: int,
    micro_batch: int,
    accumulation: int,
    capacity: int | None,
    on_gpu: bool,
) -> tuple[StrategyName, str]:
    """The strategy and why. `capacity`: bytes of one GPU, None while it is not known."""
    settled = without_estimate(spec, world=world, on_gpu=on_gpu)
    if settled is not None:
        return settled

    def needed(strategy: StrategyName) -> int:
        setting = setting_for(
            spec, strategy, world=world, per_node=world, micro_batch=micro_batch, accumulation=accumulation
        )
        return memory(model, spec, setting).total

    ddp = needed(StrategyName.DDP)
    if capacity is None:
        return StrategyName.DDP, (
            f"about {human_bytes(ddp)} per GPU; what a GPU holds is not known yet, so the trainer decides again on it"
        )
    if ddp <= capacity:
        return StrategyName.DDP, f"it fits: about {human_bytes(ddp)} per GPU of {human_bytes(capacity)}"
    fsdp = needed(StrategyName.FSDP)
    return StrategyName.FSDP, (
        f"DDP needs about {human_bytes(ddp)} per GPU of {human_bytes(capacity)}; FSDP over {world} needs "
        f"{human_bytes(fsdp)}; ZeRO is taken only where it is named, because FSDP needs less beside what it cuts"
    )


def choose_setting(
    model: ModelInfo,
    spec: FineTuneJobSpec,
    *,
    world: int,
    per_node: int,
    micro_batch: int,
    accumulation: int,
    capacity: int | None,
    on_gpu: bool,
) -> tuple[Setting, str]:
    """Strategy and activation checkpointing, and why. `capacity`: bytes of one process, None while it is not known."""
    strategy, why = choose_strategy(
        model,
        spec,
        world=world,
        micro_batch=micro_batch,
        accumulation=accumulation,
        capacity=capacity,
        on_gpu=on_gpu,
    )
    setting = setting_for(
        spec, strategy, world=world, per_node=per_node, micro_batch=micro_batch, accumulation=accumulation
    )
    auto = spec.training.activation_checkpointing is ActivationCheckpointing.AUTO
    if not auto or not on_gpu or capacity is None or memory(model, spec, setting).total <= capacity:
        return setting, why
    if not spec.training.compile:
        selective = replace(setting, recompute=ActivationCheckpointing.SELECTIVE)
        needed = memory(model, spec, selective).total
        if needed <= capacity:
            return selective, f"{why}; cheap activations are computed again to need {human_bytes(needed)}"
    full = replace(setting, recompute=ActivationCheckpointing.FULL)
    return full, f"{why}; activations are computed again to need {human_bytes(memory(model, spec, full).total)}"


def nearest_fits(model: ModelInfo, spec: FineTuneJobSpec, setting: Setting, capacity: int) -> list[str]:
    """Settings that would fit, each with what it needs; what changes least about the model comes first."""
    found: dict[str, str] = {}
    for kind, words, changed_spec, changed in _changes(spec, setting):
        needed = memory(model, changed_spec, changed).total
        if kind not in found and needed <= capacity:
            found[kind] = f"{words} (about {human_bytes(needed)})"
    return list(found.values())[:MOST_SUGGESTIONS]


def _changes(spec: FineTuneJobSpec, setting: Setting) -> Iterator[tuple[str, str, FineTuneJobSpec, Setting]]:
    """Of each kind the smallest step first; later ones build on a micro-batch of 1, which costs nothing but time."""
    smallest = _micro(setting, 1)
    one = "" if setting.micro_batch == 1 else "training.microBatchSize: 1 and "
    on_gpu = spec.resources.gpus_per_node > 0
    micro = setting.micro_batch // 2
    while micro >= 1:
        yield "micro", f"training.microBatchSize: {micro}", spec, _micro(setting, micro)
        micro //= 2
    again = RECOMPUTED[1:] if spec.training.compile else RECOMPUTED
    for how in again if setting.recompute is ActivationCheckpointing.NONE else ():
        words = f"training.activationCheckpointing: {how}"
        yield "recompute", words, spec, replace(setting, recompute=how)
    if setting.recompute is not ActivationCheckpointing.FULL:
        full = ActivationCheckpointing.FULL
        words = f"{one}training.activationCheckpointing: {full}"
        yield "recompute", words, spec, replace(smallest, recompute=full)
    whole = whole_for(spec)
    cut = on_gpu and spec.training.optimizer.type not in WHOLE_STATE and whole is None
    if setting.strategy not in CUTS_PARAMETERS and setting.world > 1 and cut:
        yield "shard", "parallelism.strategy: FSDP", spec, _cut(setting, setting.world)
        yield "shard", f"{one}parallelism.strategy: FSDP", spec, _cut(smallest, setting.world)
    if not setting.offload and setting.world > 1 and cut:
        yield (
            "offload",
            f"{one}parallelism.strategy: FSDP with offload: true",
            spec,
            replace(_cut(smallest, setting.world), offload=True),
        )
    for factor in (2, 4, 8) if cut else ():
        world = setting.world * factor
        yield "gpus", f"{one}FSDP over {world} GPUs", spec, _cut(smallest, world)
    length = setting.length // 2
    while length >= _SHORTEST:
        yield "length", f"{one}data.maxLength: {length}", spec, replace(smallest, length=length)
        length //= 2
    if holds_start(spec.retention):
        return
    if trains_all(spec):
        lora = spec.model_copy(update={"method": Method(type=MethodType.LORA, lora=LoRA())})
        yield "method", "method.type: LoRA", lora, setting
        yield "method", f"{one}method.type: LoRA", lora, smallest
    if trains_all(spec) or spec.method.type is MethodType.LORA:
        options = spec.method.lora if spec.method.lora and spec.method.lora.init not in MUTATES_BASE else None
        quantized = spec.model_copy(update={"method": Method(type=MethodType.QLORA, lora=options)})
        yield "method", "method.type: QLoRA", quantized, _whole(setting)
        yield "method", f"{one}method.type: QLoRA", quantized, _whole(smallest)


def _whole(setting: Setting) -> Setting:
    return replace(setting, strategy=StrategyName.DDP, shards=1, offload=False)


def _cut(setting: Setting, world: int) -> Setting:
    return replace(setting, strategy=StrategyName.FSDP, world=world, shards=world)


def _micro(setting: Setting, micro: int) -> Setting:
    rows = setting.micro_batch * setting.accumulation
    return replace(setting, micro_batch=micro, accumulation=-(-rows // micro))
