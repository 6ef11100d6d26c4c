"""Adafactor: of each matrix's squared gradients only row and column means are kept (Shazeer and Stern 2018, algorithms
4 and 5), so that its state is next to nothing.

As fine-tuning uses it: no momentum, the learning rate is the schedule's (neither relative steps nor scaling by the
parameter's own size), updates clipped to a root mean square of 1. Needs whole parameters.
"""

from __future__ import annotations

from typing import Any

import torch

from finetune_trainer.engine.optimizers.base import Remembering

EPSILON = 1e-30
CLIP = 1.0
DECAY = 0.8
"""beta2 at step t is 1 - t^-0.8 (section 7.2)."""


class Adafactor(Remembering):
    def __init__(self, groups: Any, *, lr: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "scale": 1.0})

    def fresh(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        step, shape = torch.zeros((), dtype=torch.float32), parameter.shape
        if parameter.ndim < 2:
            return {"step": step, "exp_avg_sq": torch.zeros_like(parameter)}
        return {
            "step": step,
            "row": torch.zeros(shape[:-1], dtype=parameter.dtype, device=parameter.device),
            "column": torch.zeros(shape[:-2] + shape[-1:], dtype=parameter.dtype, device=parameter.device),
        }

    def update(
        self, parameter: torch.Tensor, gradient: torch.Tensor, state: dict[str, torch.Tensor], group: dict[str, Any]
    ) -> None:
        state["step"] += 1
        beta2 = 1 - float(state["step"]) ** -DECAY
        squares = gradient.square().add_(EPSILON)
        if "row" in state:
            row, column = state["row"], state["column"]
            row.mul_(beta2).add_(squares.mean(dim=-1), alpha=1 - beta2)
            column.mul_(beta2).add_(squares.mean(dim=-2), alpha=1 - beta2)
            by_row = (row / row.mean(dim=-1, keepdim=True)).rsqrt_().unsqueeze(-1)
            change = (by_row * column.unsqueeze(-2).rsqrt()).mul_(gradient)
        else:
            change = state["exp_avg_sq"].mul_(beta2).add_(squares, alpha=1 - beta2).rsqrt().mul_(gradient)
        size = change.norm(2) / change.numel() ** 0.5
        change.div_((size / CLIP).clamp_(min=1.0)).mul_(group["lr"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(change)
