"""`objective.grpo` and `objective.rloo`: the model writes several answers to a prompt and learns from their rewards."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from finetune_api.base import ApiModel, Decimal, PositiveDecimal, SignedDecimal, cel, rules
from finetune_api.storage import Stored


class RewardType(StrEnum):
    EXACT_MATCH = "ExactMatch"
    CONTAINS = "Contains"
    NUMBER = "Number"
    REGEX = "Regex"
    MODEL = "Model"


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression of Python: {error}") from None
    return pattern


class RewardModel(Stored):
    """A reward model as objective Reward publishes it (a sequence classifier with one output) with the base model's
    vocabulary, and the credentials to read it. It is loaded beside the model that trains, whole on every GPU, and never
    trained."""


class RewardFunction(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "has(self.pattern) == (self.type == 'Regex')",
                "pattern belongs to type Regex, which needs it; set both, or neither",
            ),
            cel(
                "has(self.model) == (self.type == 'Model')",
                "model belongs to type Model, which needs it; set both, or neither",
            ),
        )
    )

    type: Annotated[
        RewardType,
        Field(
            description="1 for an answer that fits, else 0. ExactMatch: it is the record's own answer, white space at "
            "the ends aside. Contains: the record's own answer occurs in it. Number: the last number in it is the last "
            "number of the record's own answer. Regex: pattern is found in it. Model: not 1 or 0, but what a reward "
            "model says of the prompt with the answer."
        ),
    ]
    pattern: (
        Annotated[
            str,
            AfterValidator(_compiles),
            Field(
                min_length=1,
                max_length=1024,
                description="A regular expression of Python; `.` fits line breaks, too.",
            ),
        ]
        | None
    ) = None
    model: RewardModel | None = None
    weight: Annotated[
        SignedDecimal,
        Field(
            description="What it adds to the reward of an answer that fits (Model: times the score); below 0 it is a "
            "penalty."
        ),
    ] = "1"


class PolicySettings(ApiModel):
    """Answers are written by the model that trains, as it stands at that step."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "self.rewards.filter(r, r.type == 'Model').size() <= 1",
                "one reward model can be asked; remove the others",
                ".rewards",
            )
        )
    )

    rewards: Annotated[
        list[RewardFunction], Field(min_length=1, max_length=8, description="Their sum is learned from.")
    ]
    generations: Annotated[int, Field(ge=2, le=64, description="Answers to each prompt, which are compared.")] = 8
    max_new_tokens: Annotated[int, Field(ge=1, le=8192, description="Of an answer; it is cut off there.")] = 256
    temperature: Annotated[PositiveDecimal, Field(description="Of writing; larger tries more.")] = "1"
    beta: Annotated[
        Decimal,
        Field(
            description="How closely the model is held to the base. 0 asks the base nothing; else its adapter is "
            "turned off for that, so method.type has to be LoRA, QLoRA or DoRA."
        ),
    ] = "0"


class GRPOLoss(StrEnum):
    GRPO = "GRPO"
    DR_GRPO = "DrGRPO"


class GRPOSettings(PolicySettings):
    """Group relative policy optimisation: an answer is as good as its reward lies above the mean of its group."""

    loss: Annotated[
        GRPOLoss,
        Field(
            description="GRPO: rewards are divided by the group's standard deviation, an answer's loss by its tokens. "
            "DrGRPO: neither, but by maxNewTokens, so that long wrong answers are not favoured."
        ),
    ] = GRPOLoss.GRPO


class RLOOSettings(PolicySettings):
    """REINFORCE leave-one-out: an answer is as good as its reward lies above the mean of the others in its group."""
