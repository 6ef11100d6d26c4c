"""`FineTuneJob.spec.method`: which weights train."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, cel, rules

ALL_LINEAR = "AllLinear"


class MethodType(StrEnum):
    FULL_FINE_TUNE = "FullFineTune"
    LORA = "LoRA"


class LoRA(ApiModel):
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    alpha: Annotated[int, Field(ge=1, le=4096)] = 32
    dropout: Annotated[str, Field(max_length=24, pattern=r"^0(\.[0-9]+)?$")] = "0"
    target_modules: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128)]],
        Field(min_length=1, max_length=64, description="AllLinear, or module names as the model spells them."),
    ] = [ALL_LINEAR]
    rslora: bool = False


class Method(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.lora) || self.type == 'LoRA'",
                "the lora block belongs to type LoRA; remove it or set type: LoRA",
            )
        )
    )

    type: MethodType
    lora: LoRA | None = None
