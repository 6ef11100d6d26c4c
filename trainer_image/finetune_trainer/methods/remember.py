"""What a method has to remember besides trainable parameters, one tensor per trainable parameter and key.

It lies beside the optimizer's moments in a checkpoint, and comes back with them, so that nothing that saves or restores
needs to know which method it is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

_ATTRIBUTE = "_finetune_memory"


class Memory(Protocol):
    def tensors(self) -> Mapping[str, Mapping[str, torch.Tensor]]:
        """By trainable parameter and key; of the parameter's shape, whole on every rank. Live storage."""

    def planned(self, total_updates: int) -> None:
        """Once, when the model is where it trains and before anything is restored."""

    def restored(self, *, fresh: bool) -> None:
        """After parameters came from elsewhere: `fresh` from rank 0's start, else with `tensors` from a checkpoint."""

    def after_update(self) -> None:
        """After the optimizer's step, while its gradients are still there."""


class Nothing:
    def tensors(self) -> Mapping[str, Mapping[str, torch.Tensor]]:
        return {}

    def planned(self, total_updates: int) -> None:
        pass

    def restored(self, *, fresh: bool) -> None:
        pass

    def after_update(self) -> None:
        pass


def remember(model: nn.Module, memory: Memory) -> None:
    object.__setattr__(model, _ATTRIBUTE, memory)


def memory_of(model: Any) -> Memory:
    found: Memory = getattr(model, _ATTRIBUTE, None) or Nothing()
    return found
