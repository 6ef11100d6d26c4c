"""An adapter that starts as what quantizing took away (Li et al. 2023, "LoftQ", algorithm 1 with one iteration).

W becomes q(W) + s·B·A, the best of that rank; the codes are those without it, so that a checkpoint needs no more than
any adapter's.

Legend of suffixes: o outputs, i inputs, r rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from finetune_trainer.methods.quantize import Quantized

_BASE, _ADAPTER = "base_model.model.", "default"
_OVERSAMPLING, _ITERATIONS = 8, 4
"""Of the randomized decomposition (Halko et al. 2011, section 4.4): a layer of 4,096² takes a second, not a minute."""


def linear_weights(base: nn.Module) -> dict[str, torch.Tensor]:
    """By module, before they are quantized."""
    return {name: module.weight for name, module in base.named_modules() if isinstance(module, nn.Linear)}


def make_up_for_quantizing(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Sets every adapter beside a quantized layer."""
    for name, layer in model.named_modules():
        below = getattr(layer, "base_layer", None)
        if not isinstance(below, Quantized) or not hasattr(layer, "lora_A"):
            continue
        # In the precision that the codes are made from: the same start from a base in fp32 and in bf16.
        weight_oi = weights[name.removeprefix(_BASE)].detach().to("cpu", torch.bfloat16).float()
        up_or, down_ri = _best_of_rank(weight_oi - below.dequantized(torch.float32), layer.r[_ADAPTER])
        with torch.no_grad():
            layer.lora_A[_ADAPTER].weight.copy_(down_ri)
            layer.lora_B[_ADAPTER].weight.copy_(up_or / layer.scaling[_ADAPTER])


def _best_of_rank(lost_oi: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(o, r) and (r, i), whose product is nearest; ranks beyond the layer's own are zero."""
    found = min(rank, *lost_oi.shape)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        wide = min(found + _OVERSAMPLING, *lost_oi.shape)
        left_or, values_r, right_ir = torch.svd_lowrank(lost_oi, q=wide, niter=_ITERATIONS)
    roots_r = values_r[:found].sqrt()
    up_or = torch.zeros(lost_oi.shape[0], rank)
    down_ri = torch.zeros(rank, lost_oi.shape[1])
    up_or[:, :found] = left_or[:, :found] * roots_r
    down_ri[:found] = (right_ir[:, :found] * roots_r).T
    return up_or, down_ri
