"""`objective.kto`: what is learned from answers that were rated one by one, and what does not go with it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_api.base import ApiModel, PositiveDecimal, cel

_ANOTHER = "!has(self.objective) || self.objective.type != 'KTO' || "


class KTOSettings(ApiModel):
    """Kahneman-Tversky optimisation: good answers become likelier and bad ones less likely, measured against the base
    model."""

    beta: Annotated[
        PositiveDecimal, Field(description="How closely the model is held to the base: larger is closer.")
    ] = "0.1"
    desirable_weight: Annotated[PositiveDecimal, Field(description="Of good answers in the loss.")] = "1"
    undesirable_weight: Annotated[
        PositiveDecimal,
        Field(
            description="Of bad answers. Where one kind is rarer, weigh it up until weight times number is about equal "
            "for both."
        ),
    ] = "1"


KTO_RULES = (
    cel(
        _ANOTHER + "!has(self.data.packing) || !self.data.packing",
        "rated answers do not share rows: remove data.packing, or set it to false",
        ".data.packing",
    ),
    cel(
        _ANOTHER + "!has(self.data.trainOn) || self.data.trainOn != 'All'",
        "KTO rates answers, and data.trainOn: All would make their prompts part of them; remove data.trainOn",
        ".data.trainOn",
    ),
    cel(
        _ANOTHER + "!has(self.method) || !(self.method.type in ['Prefix', 'Prompt', 'PTuning', 'PTuningV2'])",
        "KTO compares with the base model, and virtual tokens change it from the first step; set method.type: LoRA",
        ".method.type",
    ),
    cel(
        _ANOTHER + "!(self.parallelism.strategy in ['ZeRO1', 'ZeRO2', 'ZeRO3'])",
        "KTO has not been proven under ZeRO; set parallelism.strategy: FSDP, DDP or Auto",
        ".parallelism.strategy",
    ),
    cel(
        _ANOTHER + "!has(self.training.regularization) || !has(self.training.regularization.neftuneAlpha)",
        "NEFTune's noise would reach the base model that KTO compares with; remove "
        "training.regularization.neftuneAlpha",
        ".training.regularization",
    ),
)
"""Of a FineTuneJob's spec."""
