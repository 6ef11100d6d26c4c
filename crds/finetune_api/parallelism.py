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
    ZERO1 = "ZeRO1"
    ZERO2 = "ZeRO2"
    ZERO3 = "ZeRO3"


ZERO_STAGES = {StrategyName.ZERO1: 1, StrategyName.ZERO2: 2, StrategyName.ZERO3: 3}
CUTS_PARAMETERS = (StrategyName.FSDP, StrategyName.ZERO3)
"""Under the others every process holds the whole model."""


class Parallelism(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "(has(self.strategy) && self.strategy == 'FSDP') || !(has(self.hybridShard) && self.hybridShard)",
                "hybridShard belongs to strategy FSDP; set strategy: FSDP, or remove it",
            ),
            cel(
                "(has(self.strategy) && !(self.strategy in ['Auto', 'DDP'])) || !(has(self.offload) && self.offload)",
                "offload belongs to strategies that cut over GPUs; set strategy: FSDP, ZeRO1, ZeRO2 or ZeRO3, "
                "or remove it",
            ),
        )
    )

    strategy: Annotated[
        StrategyName,
        Field(
            description="DDP: every GPU holds the whole model. FSDP: parameters, gradients and optimizer state are cut "
            "over the GPUs. ZeRO1 cuts optimizer state, ZeRO2 gradients too, ZeRO3 parameters too, by DeepSpeed. "
            "Auto: DDP or FSDP, the first that fits by the memory estimate."
        ),
    ] = StrategyName.AUTO
    offload: Annotated[
        bool,
        Field(
            description="Optimizer state and the gradients that belong to it rest in host memory, where the optimizer "
            "runs; with FSDP and ZeRO3 parameters too. Slow; needs no room."
        ),
    ] = False
    hybrid_shard: Annotated[
        bool, Field(description="Cut within a node and replicated over nodes: less traffic, more memory.")
    ] = False
