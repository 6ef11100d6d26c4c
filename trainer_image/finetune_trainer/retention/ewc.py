"""Elastic weight consolidation (Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks",
equation 3): lambda / 2 times the sum over weights of their Fisher information times the squared distance from where
they started.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from finetune_trainer.engine.strategy.base import Strategy
from finetune_trainer.retention.l2sp import Anchors, add_distance


class EWC:
    name = "ewcLoss"

    def __init__(
        self,
        weight: float,
        parameters: Mapping[str, nn.Parameter],
        anchors: Anchors,
        importance: Mapping[str, torch.Tensor],
        *,
        first: bool,
    ) -> None:
        """`first`: of the ranks, which all hold the same weights; it adds the term for everybody."""
        self._weight, self._parameters, self._first = weight, parameters, first
        self._anchors, self._importance = anchors, importance

    def add(self, strategy: Strategy, step: int) -> torch.Tensor:
        weight = self._weight if self._first else None
        return add_distance(strategy, weight, self._parameters, self._anchors, self._importance)
