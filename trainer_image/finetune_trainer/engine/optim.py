"""AdamW over the trainable parameters: decay on matrices, none on norms and biases."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_trainer.engine.schedule import peak_rate


def make_optimizer(spec: FineTuneJobSpec, trainable: Iterable[nn.Parameter], device: torch.device) -> torch.optim.AdamW:
    parameters = list(trainable)
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": float(spec.training.optimizer.weight_decay)},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=peak_rate(spec), fused=device.type == "cuda"
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
