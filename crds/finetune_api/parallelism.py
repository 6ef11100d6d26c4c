"""`spec.parallelism`: how a model is spread over the gang's GPUs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, cel, rules


class StrategyName(StrEnum):
    AUTO = "Auto"
    DDP = "DDP"
    FSDP = "FSDP"


class Parallelism(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "(has(self.strategy) && self.strategy == 'FSDP') || "
                "!((has(self.offload) && self.offload) || (has(self.hybridShard) && self.hybridShard))",
                "offload and hybridShard belong to strategy FSDP; set strategy: FSDP, or remove them",
            )
        )
    )

    strategy: Annotated[
        StrategyName,
        Field(
            description="DDP: every GPU holds the whole model. FSDP: parameters, gradients and optimizer state are cut "
            "over the GPUs. Auto: the first of these that fits by the memory estimate."
        ),
    ] = StrategyName.AUTO
    offload: Annotated[
        bool, Field(description="Parameters, gradients and optimizer state rest in host memory. Slow; needs no room.")
    ] = False
    hybrid_shard: Annotated[
        bool, Field(description="Cut within a node and replicated over nodes: less traffic, more memory.")
    ] = False
