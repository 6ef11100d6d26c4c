"""LoRA: low-rank updates beside frozen linear layers (Hu et al. 2021), by peft; DoRA trains their magnitude apart
(Liu et al. 2024)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from finetune_api.method import MUTATES_BASE, Init, LoRA
from finetune_trainer.engine.scorer import HEAD, is_scorer
from finetune_trainer.methods.adapters import PeftAdapter, adapted, peft_targets, require_modules
from finetune_trainer.methods.remember import memory_of, remember
from finetune_trainer.methods.start import Start, against_the_base

_INITS = {
    Init.DEFAULT: True,
    Init.GAUSSIAN: "gaussian",
    Init.ORTHOGONAL: "orthogonal",
    Init.PISSA: "pissa",
    Init.OLORA: "olora",
    Init.LOFTQ: True,
}


class LowRank(PeftAdapter):
    def __init__(self, options: LoRA, *, dora: bool = False) -> None:
        self._options, self._dora = options, dora

    def apply(self, base: nn.Module) -> nn.Module:
        return add_lora(base, self._options, dora=self._dora)

    def merge(self, model: Any) -> nn.Module:
        return model.merge_and_unload()  # type: ignore[no-any-return]

    def save_adapter(self, model: Any, folder: Path) -> None:
        start = memory_of(model)
        if not isinstance(start, Start):
            return super().save_adapter(model, folder)
        from safetensors.torch import save_file

        config, tensors = against_the_base(model, start)
        super().save_adapter(model, folder)
        save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "adapter_model.safetensors")
        path = folder / "adapter_config.json"
        changed = {k: v for k, v in config.items() if k in ("r", "lora_alpha", "rank_pattern", "alpha_pattern")}
        path.write_text(json.dumps(json.loads(path.read_text()) | changed | {"init_lora_weights": True}))
        return None


def add_lora(base: nn.Module, lora: LoRA, *, dora: bool = False) -> nn.Module:
    """AllLinear: every linear layer except the output head. Raises SpecError for names the model does not have."""
    require_modules(base, lora.target_modules, "spec.method.lora.targetModules")
    for name in lora.modules_to_save:
        require_modules(base, [name], "spec.method.lora.modulesToSave")
    model = adapted(base, lora_config(lora, dora=dora, scores=is_scorer(base)), "spec.method.lora", lora.target_modules)
    if lora.init in MUTATES_BASE:
        remember(model, Start(model))
    return model


def lora_config(lora: LoRA, *, dora: bool = False, scores: bool = False) -> Any:
    """`scores`: the base has a head of one output, which trains as a whole."""
    from finetune_trainer.methods.peft_library import peft

    return peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=float(lora.dropout),
        target_modules=peft_targets(lora.target_modules),
        use_rslora=lora.rslora,
        use_dora=dora,
        init_lora_weights=_INITS[lora.init],
        rank_pattern=dict(lora.rank_pattern),
        alpha_pattern=dict(lora.alpha_pattern),
        modules_to_save=[HEAD] if scores else list(lora.modules_to_save) or None,
        bias="none",
        task_type="SEQ_CLS" if scores else "CAUSAL_LM",
    )
