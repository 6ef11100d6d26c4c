"""The terms that a spec names, made while the strategy still holds the base model."""

from __future__ import annotations

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_trainer.checkpoint.snapshot import trainable_parameters
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.strategy.base import Strategy
from finetune_trainer.retention.base import Term
from finetune_trainer.retention.l2sp import L2SP


def terms_of(spec: FineTuneJobSpec, strategy: Strategy, place: Place) -> list[Term]:
    """On every rank, before anything is restored into `strategy`."""
    retention = spec.retention
    if retention is None:
        return []
    found: list[Term] = []
    if retention.l2sp is not None:
        parameters = trainable_parameters(strategy.model)
        anchors = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        found.append(L2SP(float(retention.l2sp), parameters, anchors, first=place.rank == 0))
    return found
