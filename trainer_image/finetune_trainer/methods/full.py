"""FullFineTune: every weight of the base trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn


class Full:
    def apply(self, base: nn.Module) -> nn.Module:
        return base

    def merge(self, model: Any) -> nn.Module:
        return model  # type: ignore[no-any-return]

    def load_adapter(self, base: nn.Module, folder: Path) -> nn.Module:
        raise AssertionError("a full model is no adapter")
