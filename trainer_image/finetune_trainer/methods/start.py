"""PiSSA and OLoRA begin with an adapter that is taken out of the base weights: W becomes W - s·B0·A0.

Such a start is computed anew by every process, from a decomposition whose signs (and last digits) another processor or
library may choose otherwise; trained factors would then sit on the wrong base, silently. So the start travels in the
checkpoint. A process that computed another one corrects its base by the difference; one that computed the same, as on
equal machines, changes nothing and goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

KEY = "start"
_ADAPTER = "default"


class Start:
    """Meant for models whose parameters are whole."""

    def __init__(self, model: nn.Module) -> None:
        self._layers = {name: m for name, m in model.named_modules() if hasattr(m, "lora_A") and _ADAPTER in m.lora_A}
        self._used = self._parameters()
        self.start = {name: p.detach().clone() for name, p in self._used.items()}
        self._used = {name: p.detach().clone() for name, p in self._used.items()}

    def tensors(self) -> Mapping[str, Mapping[str, torch.Tensor]]:
        return {name: {KEY: tensor} for name, tensor in self.start.items()}

    def planned(self, total_updates: int) -> None:
        pass

    def after_update(self) -> None:
        pass

    @torch.no_grad()
    def restored(self, *, fresh: bool) -> None:
        if fresh:
            for name, parameter in self._parameters().items():
                self.start[name].copy_(parameter)
        for name, layer in self._layers.items():
            a, b = _names(name)
            if all(torch.equal(self._used[n].to(self.start[n]), self.start[n]) for n in (a, b)):
                continue
            weight = layer.get_base_layer().weight
            moved = self._product(layer, self._used, name) - self._product(layer, self.start, name)
            weight.add_(moved.to(weight))
        self._used = {name: tensor.clone() for name, tensor in self.start.items()}

    def _product(self, layer: Any, factors: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        a, b = _names(name)
        product: torch.Tensor = layer.scaling[_ADAPTER] * factors[b].float() @ factors[a].float()
        return product.T if layer.fan_in_fan_out else product

    def _parameters(self) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for name, layer in self._layers.items():
            a, b = _names(name)
            found |= {a: layer.lora_A[_ADAPTER].weight, b: layer.lora_B[_ADAPTER].weight}
        return found


def _names(layer: str) -> tuple[str, str]:
    return f"{layer}.lora_A.{_ADAPTER}.weight", f"{layer}.lora_B.{_ADAPTER}.weight"


def against_the_base(model: Any, start: Start) -> Any:
    """The same model as a plain adapter over the untouched base, of twice the rank: s·(B·A - B0·A0) is the product of
    [B, -B0] and [A; A0]. `(config, tensors)` as peft stores them."""
    from finetune_trainer.methods.peft_library import peft

    state = peft.get_peft_model_state_dict(model)
    doubled = dict(state)
    for name, first in start.start.items():
        key = name.replace(f".{_ADAPTER}.weight", ".weight")
        if ".lora_A." in name:
            doubled[key] = torch.cat([state[key], first.to(state[key])], dim=0)
        else:
            doubled[key] = torch.cat([state[key], -first.to(state[key])], dim=1)
    config = model.peft_config[_ADAPTER].to_dict()

    # Scaling is alpha / rank, or alpha / sqrt(rank) with rslora: it must stay what it was.
    def alpha(value: float) -> float:
        return value * (2**0.5 if config["use_rslora"] else 2)

    config |= {
        "r": 2 * config["r"],
        "lora_alpha": alpha(config["lora_alpha"]),
        "rank_pattern": {name: 2 * rank for name, rank in (config["rank_pattern"] or {}).items()},
        "alpha_pattern": {name: alpha(value) for name, value in (config["alpha_pattern"] or {}).items()},
        "init_lora_weights": True,
    }
    return config, doubled
