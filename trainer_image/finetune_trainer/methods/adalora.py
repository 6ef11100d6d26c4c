"""AdaLoRA: updates B·diag(E)·A whose ranks are shared out while they train (Zhang et al. 2023, "AdaLoRA: Adaptive
Budget Allocation for Parameter-Efficient Fine-Tuning"). The layers are peft's; who keeps its rank is `methods.budget`.

Unmerged it is published as a plain LoRA adapter, which it is once E is multiplied into A: of the largest rank that is
left, the others filled up with zeros, so that vLLM loads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from finetune_api import method as api
from finetune_trainer.methods.adapters import PeftAdapter, adapted, peft_targets, require_modules
from finetune_trainer.methods.budget import ADAPTER, Budget, adaptive_layers
from finetune_trainer.methods.remember import remember


class Adaptive(PeftAdapter):
    def __init__(self, options: api.AdaLoRA) -> None:
        self._options = options

    def apply(self, base: nn.Module) -> nn.Module:
        from finetune_trainer.methods.peft_library import peft

        options = self._options
        require_modules(base, options.target_modules, "spec.method.adaLora.targetModules")
        config = peft.AdaLoraConfig(
            init_r=options.initial_rank,
            target_r=options.target_rank,
            lora_alpha=options.alpha,
            lora_dropout=float(options.dropout),
            target_modules=peft_targets(options.target_modules),
            task_type="CAUSAL_LM",
            # peft wants a number; its own allocator, the only one to read it, is not used.
            total_step=1,
        )
        model = adapted(base, config, "spec.method.adaLora", options.target_modules)
        for layer in adaptive_layers(model).values():
            # Half precision does not hold every rank above 256.
            layer.ranknum[ADAPTER].data = layer.ranknum[ADAPTER].data.float()
        remember(model, Budget(model, options))
        return model

    def merge(self, model: Any) -> nn.Module:
        return model.merge_and_unload()  # type: ignore[no-any-return]

    @torch.no_grad()
    def save_adapter(self, model: Any, folder: Path) -> None:
        from safetensors.torch import save_file

        from finetune_trainer.methods.peft_library import peft

        layers = adaptive_layers(model)
        kept = {name: layer.lora_E[ADAPTER].flatten().nonzero().flatten() for name, layer in layers.items()}
        rank = max(1, *(len(rows) for rows in kept.values()))
        state: dict[str, torch.Tensor] = {}
        for name, layer in layers.items():
            rows, scale = kept[name], layer.scaling[ADAPTER] / (layer.ranknum[ADAPTER] + 1e-5)
            a, b, e = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER], layer.lora_E[ADAPTER]
            down, up = a.new_zeros(rank, a.shape[1]), b.new_zeros(b.shape[0], rank)
            down[: len(rows)] = a[rows] * e[rows]
            up[:, : len(rows)] = b[:, rows] * scale
            state |= {f"{name}.lora_A.weight": down.cpu(), f"{name}.lora_B.weight": up.cpu()}
        save_file(state, folder / "adapter_model.safetensors")
        peft.LoraConfig(
            r=rank,
            lora_alpha=rank,
            lora_dropout=float(self._options.dropout),
            target_modules=model.peft_config[ADAPTER].target_modules,
            fan_in_fan_out=model.peft_config[ADAPTER].fan_in_fan_out,
            task_type="CAUSAL_LM",
            inference_mode=True,
        ).save_pretrained(str(folder))
