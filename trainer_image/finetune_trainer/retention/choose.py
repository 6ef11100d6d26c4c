"""The terms that a spec names, made while the strategy still holds the base model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finetune_api.retention import ANCHORED
from finetune_api.runconfig import RunConfig
from finetune_trainer.checkpoint.snapshot import trainable_parameters
from finetune_trainer.common.places import Places
from finetune_trainer.data.retained import load_retained
from finetune_trainer.data.sources import KL_TO_BASE
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.plan import BatchPlan
from finetune_trainer.engine.strategy.base import Strategy
from finetune_trainer.retention.base import Term
from finetune_trainer.retention.frozen import frozen_copy
from finetune_trainer.retention.kl import KLToBase, adapter_off
from finetune_trainer.retention.l2sp import L2SP


def terms_of(
    config: RunConfig,
    places: Places,
    tokenizer: Any,
    strategy: Strategy,
    plan: BatchPlan,
    place: Place,
    *,
    pad_id: int,
    alive: Callable[[], None],
) -> list[Term]:
    """On every rank, before anything is restored into `strategy`."""
    spec, retention = config.spec, config.spec.retention
    found: list[Term] = []
    if retention is None:
        return found
    if retention.l2sp is not None:
        parameters = trainable_parameters(strategy.model)
        anchors = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        found.append(L2SP(float(retention.l2sp), parameters, anchors, first=place.rank == 0))
    if retention.kl_to_base is not None:
        anchored = spec.method.type in ANCHORED
        found.append(
            KLToBase(
                float(retention.kl_to_base.weight),
                load_retained(config, KL_TO_BASE, places.data, tokenizer, lambda _records: alive()),
                frozen_copy(strategy.model) if anchored else adapter_off(strategy.model),
                place,
                global_batch=plan.global_batch,
                micro_batch=plan.micro_batch,
                seed=spec.training.seed,
                pad_id=pad_id,
                alive=alive,
            )
        )
    return found
