"""Lion: the sign of an interpolated momentum (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms",
algorithm 2). Elementwise, so that it works on any run of a parameter's elements; half of AdamW's state.
"""

from __future__ import annotations

from typing import Any

import torch

from finetune_trainer.engine.optimizers.base import Remembering


class Lion(Remembering):
    def __init__(self, groups: Any, *, lr: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0, "scale": 1.0})

    def fresh(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format)}

    def update(
        self, parameter: torch.Tensor, gradient: torch.Tensor, state: dict[str, torch.Tensor], group: dict[str, Any]
    ) -> None:
        """c = b1 m + (1 - b1) g; w -= lr (sign c + decay w); m = b2 m + (1 - b2) g."""
        (beta1, beta2), momentum = group["betas"], state["exp_avg"]
        direction = momentum.mul(beta1).add_(gradient, alpha=1 - beta1).sign_()
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"])
        momentum.mul_(beta2).add_(gradient, alpha=1 - beta2)
