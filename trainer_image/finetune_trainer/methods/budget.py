"""Which ranks an AdaLoRA adapter keeps (Zhang et al. 2023, section 3.2 and algorithm 1).

Each of a layer's ranks is a singular value with its two vectors. After every update its importance is told from
smoothed sensitivities |parameter · gradient| and how much these vary; the least important values of the whole model are
set to zero, more of them the further training is, until the target is left. A value that was set to zero may grow back
until ranks are settled, and then no more.

Sensitivities, the settled choice and the count of updates lie beside the optimizer's moments in a checkpoint, so a run
that resumes goes on with the same ranks. The numbers are those of peft's RankAllocator, which keeps its own out of
checkpoints and cannot be told a budget that is still whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from finetune_api.method import AdaLoRA

ADAPTER = "default"
_SMOOTHING = 0.85
"""Of sensitivities and their spread (beta 1 and 2 in the paper's experiments)."""
KEYS = ("sensitivity", "spread", "kept", "updates")
"""Of what is remembered of parameters."""
_PARTS = ("lora_A", "lora_B", "lora_E")


def adaptive_layers(model: nn.Module) -> dict[str, Any]:
    return {name: m for name, m in model.named_modules() if hasattr(m, "lora_E") and ADAPTER in m.lora_E}


def budget_at(update: int, total: int, options: AdaLoRA) -> float:
    """The share of ranks above the target that is still there after `update` of `total` updates: 1 during the warm-up,
    falling with the third power, 0 once ranks are settled (equation 12)."""
    first, settled = total * options.warmup_percent // 100, settled_at(total, options)
    if update <= first:
        return 1.0
    return (1 - (update - first) / (settled - first)) ** 3 if update < settled else 0.0


def settled_at(total: int, options: AdaLoRA) -> int:
    """The update that shares ranks out for the last time."""
    return total - total * options.settled_percent // 100


class Budget:
    """Meant for models whose parameters are whole, with gradients that are those of all ranks."""

    def __init__(self, model: nn.Module, options: AdaLoRA) -> None:
        self._options, self._total = options, 0
        self._layers = {
            name: {part: f"{name}.{part}.{ADAPTER}" for part in _PARTS} for name in sorted(adaptive_layers(model))
        }
        every = dict(model.named_parameters())
        self._parameters = {name: every[name] for parts in self._layers.values() for name in parts.values()}
        self._tensors: dict[str, dict[str, torch.Tensor]] = {
            name: {key: torch.zeros_like(p, dtype=torch.float32).detach() for key in ("sensitivity", "spread")}
            for name, p in self._parameters.items()
        }
        for parts in self._layers.values():
            value = parts["lora_E"]
            self._tensors[value]["kept"] = torch.ones_like(self._parameters[value], dtype=torch.float32).detach()
        self._updates = torch.zeros(())
        self._tensors[next(iter(self._parameters))]["updates"] = self._updates

    def tensors(self) -> Mapping[str, Mapping[str, torch.Tensor]]:
        return self._tensors

    def planned(self, total_updates: int) -> None:
        self._total = total_updates
        for name, parameter in self._parameters.items():
            for key, tensor in self._tensors[name].items():
                if key != "updates":
                    self._tensors[name][key] = tensor.to(parameter.device)

    def restored(self, *, fresh: bool) -> None:
        pass

    @torch.no_grad()
    def after_update(self) -> None:
        self._updates += 1
        update, settled = int(self._updates), settled_at(self._total, self._options)
        if update < settled:
            self._weigh()
        warmed_up = update > self._total * self._options.warmup_percent // 100
        if update == settled or (update < settled and warmed_up and update % self._options.interval == 0):
            self._share_out(budget_at(update, self._total, self._options))
            self._cut()
        elif update > settled:
            self._cut()

    def _weigh(self) -> None:
        for name, parameter in self._parameters.items():
            if parameter.grad is None:
                continue
            now = (parameter * parameter.grad).abs()
            sensitivity, spread = self._tensors[name]["sensitivity"], self._tensors[name]["spread"]
            sensitivity.mul_(_SMOOTHING).add_(now, alpha=1 - _SMOOTHING)
            spread.mul_(_SMOOTHING).add_((now - sensitivity).abs(), alpha=1 - _SMOOTHING)

    def _share_out(self, share: float) -> None:
        """Keeps the most important ranks of all layers together; of equal ones the first."""
        scores = torch.cat([self._importance(parts) for parts in self._layers.values()])
        target = self._options.target_rank * len(self._layers)
        budget = int((len(scores) - target) * share + target)
        kept = torch.zeros_like(scores)
        kept[scores.argsort(descending=True, stable=True)[:budget]] = 1
        for parts, mine in zip(self._layers.values(), torch.split(kept, self._options.initial_rank), strict=True):
            self._tensors[parts["lora_E"]]["kept"].copy_(mine.unsqueeze(1))

    def _importance(self, parts: Mapping[str, str]) -> torch.Tensor:
        """Of each rank: that of its singular value and the means of those of its vectors (equation 7); float32 [r]."""
        a_ri, b_or, e_r1 = (self._tensors[name]["sensitivity"] * self._tensors[name]["spread"] for name in (
            parts["lora_A"], parts["lora_B"], parts["lora_E"]))  # fmt: skip
        return e_r1.flatten() + a_ri.mean(1) + b_or.mean(0)

    def _cut(self) -> None:
        for parts in self._layers.values():
            value = parts["lora_E"]
            self._parameters[value].masked_fill_(self._tensors[value]["kept"] == 0, 0.0)
