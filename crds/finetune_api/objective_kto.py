"""`objective.kto`: what is learned from answers that were rated one by one."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_api.base import ApiModel, PositiveDecimal


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
