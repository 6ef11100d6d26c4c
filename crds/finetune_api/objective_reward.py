"""`objective.reward`: a model that scores answers, learned from pairs, and what does not go with it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_api.base import ApiModel, PositiveDecimal, cel

_ANOTHER = "!has(self.objective) || self.objective.type != 'Reward' || "


class RewardSettings(ApiModel):
    """The model gets a head with one output, its score, in place of the one that writes; the chosen answer of a pair is
    to score higher."""

    margin: (
        Annotated[PositiveDecimal, Field(description="By how much the chosen answer is to score higher. Unset: 0.")]
        | None
    ) = None
    centering: (
        Annotated[
            PositiveDecimal,
            Field(description="Of (chosen score + rejected score)^2 in the loss; holds scores near 0. Unset: 0."),
        ]
        | None
    ) = None


REWARD_RULES = (
    cel(
        _ANOTHER + "!has(self.data.packing) || !self.data.packing",
        "pairs of answers do not share rows: remove data.packing, or set it to false",
        ".data.packing",
    ),
    cel(
        _ANOTHER + "!has(self.method) || self.method.type in ['FullFineTune', 'LoRA']",
        "Reward trains a head of its own, which has been proven with LoRA and FullFineTune; set method.type to one",
        ".method.type",
    ),
    cel(
        _ANOTHER + "!has(self.method) || !has(self.method.lora) || "
        "((!has(self.method.lora.init) || !(self.method.lora.init in ['PiSSA', 'OLoRA'])) && "
        "(!has(self.method.lora.modulesToSave) || self.method.lora.modulesToSave.size() == 0))",
        "Reward has not been proven with lora.init PiSSA and OLoRA, nor with lora.modulesToSave; remove them",
        ".method.lora",
    ),
    cel(
        _ANOTHER + "self.parallelism.strategy in ['Auto', 'DDP']",
        "Reward has been proven under DDP only; set parallelism.strategy: DDP or Auto",
        ".parallelism.strategy",
    ),
    cel(
        _ANOTHER + "self.output.merge",
        "a reward model is published whole; remove output.merge: false",
        ".output.merge",
    ),
    cel(
        _ANOTHER + "!has(self.publish.servedCheck.enabled) || !self.publish.servedCheck.enabled",
        "a reward model writes nothing that a serving image could be asked for; remove publish.servedCheck.enabled",
        ".publish.servedCheck.enabled",
    ),
    cel(
        _ANOTHER + "!self.evaluation.gate.exists(g, has(g.relativeTo))",
        "the base model has no scores to compare with; set max or min in evaluation.gate instead of relativeTo",
        ".evaluation.gate",
    ),
)
"""Of a FineTuneJob's spec."""

WHOLE = "objective Reward has been proven under DDP only"
