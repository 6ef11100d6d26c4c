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
        return add_distance(strategy, self._weight if self._first else None, self._parameters, self._anchors)


def add_distance(
    strategy: Strategy,
    weight: float | None,
    parameters: Mapping[str, nn.Parameter],
    anchors: Anchors,
    importance: Anchors | None = None,
) -> torch.Tensor:
    """Of `weight` / 2 times the sum of squared distances, each times its importance. Without a weight: nothing."""
    total = torch.zeros((), dtype=torch.float64, device=next(iter(parameters.values())).device)
    if weight is None:
        return total
    # One by one: autograd's intermediate results are then those of one parameter.
    for name, parameter in parameters.items():
        squares = (parameter - anchors[name]).square()
        part = 0.5 * weight * (squares if importance is None else squares * importance[name]).sum()
        strategy.backward(part, last=False)
        total += part.detach()
    return total
