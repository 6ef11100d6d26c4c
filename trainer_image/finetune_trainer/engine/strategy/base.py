"""How parameters, gradients and optimizer state live on the ranks. The training loop knows no more of it than this.

A step is: `backward` for each micro-batch, `norm` once (afterwards gradients are summed over all ranks), then either
`update` or `skip`. Losses come divided by the target tokens of the global batch, so that gradients are summed over
ranks, never averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import nn

from finetune_trainer.checkpoint.held import Held


class Strategy(Protocol):
    name: str
    """As the API spells it."""
    model: nn.Module
    """What forward passes go through."""
    lockstep: bool
    """Forward and backward passes communicate: every rank must make equally many."""
    spread: bool
    """Each rank holds, and saves, a part. Otherwise rank 0 saves for all."""
    scale: float
    """Losses are multiplied by it before the backward pass, gradients divided by it before their norm: a power of two,
    so that nothing is rounded. 1 unless FP16 asks for more (`engine.loss_scale`)."""

    def precision(self) -> AbstractContextManager[Any]:
        """Around every forward pass."""

    def backward(self, loss: torch.Tensor, *, last: bool) -> None:
        """Adds to the gradients. `last`: no further micro-batch in this step."""

    def norm(self) -> torch.Tensor:
        """Sums the gradients over the ranks; their global 2-norm, equal on all ranks, before clipping."""

    def update(self, rate: float, max_norm: float, norm: torch.Tensor) -> None:
        """Clips to `max_norm`, takes the optimizer's step with this learning rate, drops the gradients."""

    def skip(self) -> None:
        """Drops the gradients."""

    def held(self) -> Mapping[str, Held]:
        """This rank's part of the trainable parameters, in an order that is equal on all ranks."""

    def prepare_restore(self) -> None:
        """Makes optimizer state that a checkpoint can be written into."""

    def restored(self) -> None:
        """A checkpoint was written into what is held; on every rank."""
