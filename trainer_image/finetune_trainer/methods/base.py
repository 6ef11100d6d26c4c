"""A method decides which weights train: it makes the model that training sees, and the one that is published.

The engine and the publisher know no more of a method than this; what it remembers besides trainable parameters is in
`methods.remember`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import nn


class Method(Protocol):
    def apply(self, base: nn.Module) -> nn.Module:
        """The model to train: parameters that train require gradients, all others do not. New parameters are drawn
        from torch's current seed. `base` may be on the meta device. Raises SpecError for what the model does not have.
        """

    def merge(self, model: Any) -> nn.Module:
        """The plain model that computes the same; `model` must not be used afterwards."""

    def save_adapter(self, model: Any, folder: Path) -> None:
        """What is published without merging."""

    def load_adapter(self, base: nn.Module, folder: Path) -> nn.Module:
        """As a user would load what was published without merging."""
