"""A method decides which weights train: it makes the model that training sees, and the one that is published.

The engine and the publisher know no more of a method than this. What a method has to remember besides trainable
parameters (a start that was computed from the base, importance scores) is `state`: tensors that travel in the
checkpoint and come back before the first step, so that a resumed run goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

State = Mapping[str, torch.Tensor]


class Method(Protocol):
    def apply(self, base: nn.Module) -> nn.Module:
        """The model to train: parameters that train require gradients, all others do not. New parameters are drawn
        from torch's current seed. `base` may be on the meta device. Raises SpecError for what the model does not have.
        """

    def merge(self, model: Any) -> nn.Module:
        """The plain model that computes the same; `model` must not be used afterwards."""

    def load_adapter(self, base: nn.Module, folder: Path) -> nn.Module:
        """As a user would load what was published without merging."""
