"""What the estimate is asked of: the knobs that decide whether a job fits."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.parallelism import StrategyName
from finetune_api.training import ActivationCheckpointing


@dataclass(frozen=True)
class Setting:
    """What may be changed to make a job fit."""

    strategy: StrategyName
    world: int
    shards: int
    """Processes that share one copy of the state; 1 under DDP."""
    offload: bool
    micro_batch: int
    accumulation: int
    length: int
    recompute: ActivationCheckpointing = ActivationCheckpointing.NONE
    """None, Selective or Full."""
