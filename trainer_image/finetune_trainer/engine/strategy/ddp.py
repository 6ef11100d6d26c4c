"""Every rank holds everything; gradients are summed. The fastest where a GPU has room for it all."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_trainer.engine.model import compute_precision
from finetune_trainer.engine.reduce import GradientSum
from finetune_trainer.engine.strategy.adam import WithAdam


class DDP(WithAdam):
    name = "DDP"
    lockstep = False
    spread = False

    def __init__(self, spec: FineTuneJobSpec, model: nn.Module, device: torch.device) -> None:
        super().__init__(spec, model, device)
        self._precision, self._device = spec.training.precision, device
        self._sum = GradientSum(list(self._parameters.values()))

    def precision(self) -> AbstractContextManager[Any]:
        return compute_precision(self._precision, self._device)

    def norm(self) -> torch.Tensor:
        self._sum()
        return self._norm()
