"""Optimizers of our own keep nothing but tensors, and can make them before their first step: what a restore needs.

Libraries keep Python integers and tables among their state, which a checkpoint would lose or store once per parameter.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch


class Remembering(torch.optim.Optimizer):
    """State by parameter: tensors shaped like it, scalars on the CPU, other shapes where the parameter is whole."""

    @abstractmethod
    def fresh(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        """The state before the first step."""

    @abstractmethod
    def update(
        self, parameter: torch.Tensor, gradient: torch.Tensor, state: dict[str, torch.Tensor], group: dict[str, Any]
    ) -> None:
        """One parameter's step, in place."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if not self.state[parameter]:
                    self.state[parameter] = self.fresh(parameter)
                self.update(parameter, parameter.grad, self.state[parameter], group)
