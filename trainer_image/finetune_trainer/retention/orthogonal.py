"""AdaLoRA's own term: singular vectors are held orthogonal, so that a rank can go without disturbing the others
(Zhang et al. 2023, equation 4; as in peft the mean over matrices of the distance, not of its square)."""

from __future__ import annotations

import torch
from torch import nn

from finetune_trainer.engine.strategy.base import Strategy
from finetune_trainer.methods.budget import ADAPTER, adaptive_layers


class Orthogonal:
    name = "orthogonalityLoss"

    def __init__(self, weight: float, model: nn.Module, *, first: bool) -> None:
        """`first`: of the ranks, which all hold the same weights; it adds the term for everybody."""
        layers = adaptive_layers(model).values()
        self._weight, self._first = weight, first
        self._vectors = [(layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]) for layer in layers]

    def add(self, strategy: Strategy, step: int) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64, device=self._vectors[0][0].device)
        if not self._first:
            return total
        for a_ri, b_or in self._vectors:
            for product_rr in (a_ri @ a_ri.T, b_or.T @ b_or):
                unit = torch.eye(len(product_rr), device=product_rr.device)
                part = self._weight * torch.linalg.matrix_norm(product_rr - unit) / (2 * len(self._vectors))
                # Both products have a graph of their own, so it can be gone through at once.
                strategy.backward(part, last=False)
                total += part.detach()
        return total
