"""Which strategy a gang trains with: what the spec names, or for Auto the first that fits the device it stands on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.parallelism import CUTS_PARAMETERS, ZERO_STAGES, StrategyName
from finetune_api.training import ActivationCheckpointing
from finetune_artifacts import open_store
from finetune_trainer.engine import model
from finetune_trainer.engine.attention import candidates
from finetune_trainer.engine.compiled import is_compiled
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.kernels import wants_liger
from finetune_trainer.engine.model import Form
from finetune_trainer.engine.plan import BatchPlan
from finetune_trainer.engine.strategy.base import Strategy
from finetune_trainer.engine.strategy.ddp import DDP
from finetune_trainer.engine.strategy.fsdp import FSDP
from finetune_trainer.engine.strategy.zero import ZeRO
from finetune_trainer.model.estimate.choose import choose_setting, settled_recompute, without_estimate
from finetune_trainer.model.inspect import ModelInfo, inspect_model


@dataclass(frozen=True)
class Choice:
    name: StrategyName
    why: str
    recompute: ActivationCheckpointing = ActivationCheckpointing.NONE
    """None, Selective or Full."""


def choose(
    spec: FineTuneJobSpec,
    folder: Path,
    plan: BatchPlan,
    place: Place,
    *,
    ranks_per_node: int,
    teacher: Path | None = None,
) -> Choice:
    on_gpu = place.device.type == "cuda"
    settled = without_estimate(spec, world=place.world_size, on_gpu=on_gpu)
    if settled is not None and not on_gpu:
        return Choice(*settled, settled_recompute(spec))
    setting, why = choose_setting(
        replace(_inspected(folder), teacher=_inspected(teacher) if teacher else None),
        spec,
        world=place.world_size,
        per_node=ranks_per_node,
        micro_batch=plan.micro_batch,
        accumulation=plan.accumulation,
        capacity=torch.cuda.mem_get_info(place.device)[1] if on_gpu else None,
        on_gpu=on_gpu,
    )
    return Choice(setting.strategy, why, setting.recompute)


def _inspected(folder: Path) -> ModelInfo:
    store = open_store(f"file://{folder}")
    return inspect_model(store, list(store.list()))


def build(choice: Choice, spec: FineTuneJobSpec, folder: Path, place: Place, *, ranks_per_node: int) -> Strategy:
    """On every rank, with torch's seed set: the model, its optimizer, and how they are spread."""
    device = place.device
    form = Form(
        model.resting_type(spec, device),
        choice.recompute,
        candidates(spec, device),
        liger=wants_liger(spec, device),
        compiled=is_compiled(spec, device),
    )
    if choice.name not in CUTS_PARAMETERS:
        whole = model.build(spec, folder, device, form)
        return ZeRO(spec, choice.name, whole, place) if choice.name in ZERO_STAGES else DDP(spec, whole, device)
    first = place.rank == 0
    net = model.build(spec, folder, torch.device("cpu"), form) if first else model.structure(spec, folder, form)
    if choice.name is StrategyName.ZERO3:
        return ZeRO(spec, choice.name, net, place)
    return FSDP(spec, net, place, ranks_per_node=ranks_per_node)
