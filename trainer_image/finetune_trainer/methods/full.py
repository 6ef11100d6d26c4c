"""FullFineTune: every weight of the base trains. Freeze: some do; the model that comes out is whole all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from finetune_api.method import Freeze
from finetune_trainer.common.errors import SpecError
from finetune_trainer.methods.select import free


class Full:
    def apply(self, base: nn.Module) -> nn.Module:
        return base

    def merge(self, model: Any) -> nn.Module:
        return model  # type: ignore[no-any-return]

    def save_adapter(self, model: Any, folder: Path) -> None:
        raise AssertionError("a full model is no adapter")

    def load_adapter(self, base: nn.Module, folder: Path) -> nn.Module:
        raise AssertionError("a full model is no adapter")


class Frozen(Full):
    def __init__(self, options: Freeze) -> None:
        self._options = options

    def apply(self, base: nn.Module) -> nn.Module:
        parameters = dict(base.named_parameters())
        chosen = free(parameters.keys(), self._options)
        if not chosen:
            raise SpecError(
                "spec.method.freeze",
                self._options.to_wire(),
                f"nothing would train: no parameter is named so; the model has {', '.join(list(parameters)[-3:])}, …",
            )
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in chosen)
        return base
