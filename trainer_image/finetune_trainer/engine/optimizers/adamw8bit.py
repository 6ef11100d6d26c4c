"""AdamW whose moments are 8-bit codes in blocks of 256 values (Dettmers et al. 2022, "8-bit Optimizers via Block-wise
Quantization"), by bitsandbytes' kernels, which exist for GPU and CPU.

The codes and the blocks' scales are the state; the tables the codes refer to are constants. Parameters of fewer than
4,096 elements keep fp32 moments, as bitsandbytes does it. Needs whole parameters: a block has no meaning in a part.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from finetune_trainer.engine.optimizers.base import Remembering

BLOCK = 256
SMALLEST = 4096
"""Elements; fewer keep fp32 moments."""


class AdamW8bit(Remembering):
    def __init__(self, groups: Any, *, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "scale": 1.0})
        self._tables: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    def fresh(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        step = torch.zeros((), dtype=torch.float32)
        if parameter.numel() < SMALLEST:
            return {"step": step, "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
        blocks, device = -(-parameter.numel() // BLOCK), parameter.device
        return {
            "step": step,
            "exp_avg": torch.zeros_like(parameter, dtype=torch.uint8),
            "exp_avg_scale": torch.zeros(blocks, dtype=torch.float32, device=device),
            "exp_avg_sq": torch.zeros_like(parameter, dtype=torch.uint8),
            "exp_avg_sq_scale": torch.zeros(blocks, dtype=torch.float32, device=device),
        }

    def update(
        self, parameter: torch.Tensor, gradient: torch.Tensor, state: dict[str, torch.Tensor], group: dict[str, Any]
    ) -> None:
        state["step"] += 1
        step, (beta1, beta2) = int(state["step"]), group["betas"]
        if "exp_avg_scale" not in state:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            mean = state["exp_avg"].lerp_(gradient, 1 - beta1)
            square = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            denominator = (square.sqrt() / math.sqrt(1 - beta2**step)).add_(group["eps"])
            parameter.addcdiv_(mean, denominator, value=-group["lr"] / (1 - beta1**step))
            return
        from bitsandbytes.functional import optimizer_update_8bit_blockwise

        signed, unsigned = self._codes(parameter.device)
        optimizer_update_8bit_blockwise(
            "adam",
            gradient.contiguous(),
            parameter,
            state["exp_avg"],
            state["exp_avg_sq"],
            beta1,
            beta2,
            0.0,
            0.0,
            group["eps"],
            step,
            group["lr"],
            signed,
            unsigned,
            state["exp_avg_scale"],
            state["exp_avg_sq_scale"],
            weight_decay=group["weight_decay"],
        )

    def _codes(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """The values that codes stand for: of signed numbers, and of squares."""
        if device not in self._tables:
            from bitsandbytes.functional import create_dynamic_map

            self._tables[device] = (
                create_dynamic_map(signed=True).to(device),
                create_dynamic_map(signed=False).to(device),
            )
        return self._tables[device]
