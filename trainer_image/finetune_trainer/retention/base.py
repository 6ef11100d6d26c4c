"""A term against forgetting: something minimised beside the objective, in a gradient of its own.

Terms act before the step's first micro-batch and through the strategy's `backward`, so that gradients are summed,
scaled and clipped as the objective's are. Each rank adds its share, and the shares of all ranks make the term: nothing
depends on the world size. A term is a function of the weights and the step; what it holds the weights against is taken
from the freshly loaded base model, so a run that resumes has the same and a checkpoint holds nothing of it.
"""

from __future__ import annotations

from typing import Protocol

import torch

from finetune_trainer.engine.strategy.base import Strategy


class Term(Protocol):
    name: str
    """Of its value in metrics.jsonl and progress."""

    def add(self, strategy: Strategy, step: int) -> torch.Tensor:
        """Adds this rank's share of the gradient after `step` finished steps; its share of the value, a scalar without
        a gradient."""
