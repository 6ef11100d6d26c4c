"""`FineTuneJob.spec.objective.ppo`: the model learns from rewards, and to foresee them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_api.base import PositiveDecimal
from finetune_api.objective_policy import PolicySettings


class PPOSettings(PolicySettings):
    """Proximal policy optimisation: every token is as good as the reward turns out to be above what was foreseen when
    it was written. What foresees is a head beside the one that writes; it trains along, and is not published."""

    generations: Annotated[int, Field(ge=1, le=64, description="Answers to each prompt.")] = 1
    updates: Annotated[
        int,
        Field(
            ge=1,
            le=16,
            description="Of the weights in each step: how often its answers are learned from before new ones are "
            "written.",
        ),
    ] = 4
    clip_range: Annotated[
        PositiveDecimal,
        Field(
            description="How far a token's probability may move from what it was when it was written, as a share; "
            "beyond, there is nothing to gain."
        ),
    ] = "0.2"
    value_weight: Annotated[
        PositiveDecimal, Field(description="Of the foreseeing head's squared error, beside the policy's loss.")
    ] = "0.1"
    value_clip_range: Annotated[
        PositiveDecimal,
        Field(description="How far what is foreseen may move in one step before its error counts no less for it."),
    ] = "0.2"
    gae_lambda: Annotated[
        str,
        Field(
            max_length=24,
            pattern=r"^(0(\.[0-9]+)?|1(\.0+)?)$",
            description="0 believes what is foreseen after each token, 1 only the reward at the end.",
        ),
    ] = "0.95"
