"""LoRA: low-rank updates beside frozen linear layers (Hu et al. 2021), by peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from finetune_api.method import ALL_LINEAR, LoRA
from finetune_trainer.methods.adapters import adapted, load, require_modules


class LowRank:
    def __init__(self, options: LoRA) -> None:
        self._options = options

    def apply(self, base: nn.Module) -> nn.Module:
        return add_lora(base, self._options)

    def merge(self, model: Any) -> nn.Module:
        return model.merge_and_unload()  # type: ignore[no-any-return]

    def load_adapter(self, base: nn.Module, folder: Path) -> nn.Module:
        return load(base, folder)


def add_lora(base: nn.Module, lora: LoRA) -> nn.Module:
    """AllLinear: every linear layer except the output head. Raises SpecError for names the model does not have."""
    require_modules(base, lora.target_modules, "spec.method.lora.targetModules")
    return adapted(base, lora_config(lora), "spec.method.lora", lora.target_modules)


def lora_config(lora: LoRA) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=float(lora.dropout),
        target_modules="all-linear" if lora.target_modules == [ALL_LINEAR] else list(lora.target_modules),
        use_rslora=lora.rslora,
        bias="none",
        task_type="CAUSAL_LM",
    )
