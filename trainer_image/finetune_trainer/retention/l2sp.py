"""L2-SP: weights are held near where they started, not near zero (Li, Grandvalet and Davoine 2018, "Explicit Inductive
Bias for Transfer Learning with Convolutional Networks", equation 2): alpha / 2 times the squared distance."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from finetune_trainer.engine.strategy.base import Strategy

Anchors = Mapping[str, torch.Tensor]
"""Where the trained weights started, by name."""


class L2SP:
    name = "l2spLoss"

    def __init__(self, weight: float, parameters: Mapping[str, nn.Parameter], anchors: Anchors, *, first: bool) -> None:
        """`first`: of the ranks, which all hold the same weights; it adds the term for everybody."""
        self._weight, self._parameters, self._anchors, self._first = weight, parameters, anchors, first

    def add(self, strategy: Strategy, step: int) -> torch.Tensor:
        device = next(iter(self._parameters.values())).device
        total = torch.zeros((), dtype=torch.float64, device=device)
        if not self._first:
            return total
        # One by one: autograd's intermediate results are then those of one parameter.
        for name, parameter in self._parameters.items():
            part = 0.5 * self._weight * (parameter - self._anchors[name]).square().sum()
            strategy.backward(part, last=False)
            total += part.detach()
        return total
