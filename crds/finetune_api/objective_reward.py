"""`objective.reward`: a model that scores answers, learned from pairs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_api.base import ApiModel, PositiveDecimal


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
