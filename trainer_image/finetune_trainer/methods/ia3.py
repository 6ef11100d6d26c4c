"""IA3: learned factors on activations (Liu et al. 2022), by peft. They are folded into the weights when merged."""

from __future__ import annotations

from typing import Any

from torch import nn

from finetune_api import method as api
from finetune_trainer.methods.adapters import PeftAdapter, adapted, require_modules


class Scaling(PeftAdapter):
    def __init__(self, options: api.IA3) -> None:
        self._options = options

    def apply(self, base: nn.Module) -> nn.Module:
        from finetune_trainer.methods.peft_library import peft

        targets, inner = self._options.target_modules, self._options.feedforward_modules
        require_modules(base, targets, "spec.method.ia3.targetModules")
        config = peft.IA3Config(target_modules=list(targets), feedforward_modules=list(inner), task_type="CAUSAL_LM")
        return adapted(base, config, "spec.method.ia3", targets)

    def merge(self, model: Any) -> nn.Module:
        return model.merge_and_unload()  # type: ignore[no-any-return]
