"""The terms that a spec names, and the one that AdaLoRA brings, made while the strategy still holds the base model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from finetune_api.method import AdaLoRA, Method, MethodType
from finetune_api.retention import ANCHORED
from finetune_api.runconfig import RunConfig
from finetune_trainer.checkpoint.snapshot import trainable_parameters
from finetune_trainer.common.places import Places
from finetune_trainer.common.stores import open_run
from finetune_trainer.data.retained import load_retained
from finetune_trainer.data.sources import EWC as EWC_DATA
from finetune_trainer.data.sources import KL_TO_BASE
from finetune_trainer.engine.agree import Agreement
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.plan import BatchPlan
from finetune_trainer.engine.strategy.base import Strategy
from finetune_trainer.methods.adapters import adapter_off
from finetune_trainer.retention.base import Term
from finetune_trainer.retention.ewc import EWC
from finetune_trainer.retention.fisher import chosen, fisher
from finetune_trainer.retention.frozen import frozen_copy
from finetune_trainer.retention.kl import KLToBase
from finetune_trainer.retention.l2sp import L2SP, Anchors
from finetune_trainer.retention.orthogonal import Orthogonal


def terms_of(
    config: RunConfig,
    places: Places,
    tokenizer: Any,
    strategy: Strategy,
    plan: BatchPlan,
    place: Place,
    agreement: Agreement,
    *,
    pad_id: int,
    alive: Callable[[], None],
) -> list[Term]:
    """On every rank, before anything is restored into `strategy`."""
    spec, retention = config.spec, config.spec.retention
    method, first = spec.method, place.rank == 0
    found: list[Term] = []
    if retention is None:
        return found + _of_method(method, strategy, first=first)
    parameters = trainable_parameters(strategy.model)
    anchors: Anchors = {}
    if retention.l2sp is not None or retention.ewc is not None:
        anchors = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    if retention.l2sp is not None:
        found.append(L2SP(float(retention.l2sp), parameters, anchors, first=first))
    if retention.ewc is not None:
        records = load_retained(config, EWC_DATA, places.data, tokenizer, lambda _records: alive())
        run, scratch = open_run(config), places.scratch / "fisher"
        samples = chosen(records, retention.ewc.samples)
        importance = fisher(records, samples, strategy, run, scratch, place, agreement, pad_id=pad_id, alive=alive)
        found.append(EWC(float(retention.ewc.lambda_), parameters, anchors, importance, first=first))
    if retention.kl_to_base is not None:
        anchored = method.type in ANCHORED
        found.append(
            KLToBase(
                float(retention.kl_to_base.weight),
                load_retained(config, KL_TO_BASE, places.data, tokenizer, lambda _records: alive()),
                frozen_copy(strategy.model) if anchored else partial(adapter_off, strategy.model),
                place,
                global_batch=plan.global_batch,
                micro_batch=plan.micro_batch,
                seed=spec.training.seed,
                pad_id=pad_id,
                alive=alive,
            )
        )
    return found + _of_method(method, strategy, first=first)


def _of_method(method: Method, strategy: Strategy, *, first: bool) -> list[Term]:
    if method.type is not MethodType.ADA_LORA:
        return []
    weight = float((method.ada_lora or AdaLoRA()).orthogonality)
    return [Orthogonal(weight, strategy.model, first=first)] if weight else []
