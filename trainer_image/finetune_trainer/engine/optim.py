"""The optimizer a spec names, over the trainable parameters: decay on matrices, none on norms and biases.

Whatever an optimizer remembers is tensors by parameter, so that checkpoints hold all of it: `prepare` makes what its
first step would begin with, for a restore to write into.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.training import Optimizer, OptimizerType
from finetune_trainer.checkpoint.held import zero_moments
from finetune_trainer.engine.optimizers.adafactor import Adafactor
from finetune_trainer.engine.optimizers.adamw8bit import AdamW8bit
from finetune_trainer.engine.optimizers.base import Remembering
from finetune_trainer.engine.optimizers.lion import Lion
from finetune_trainer.engine.schedule import peak_rate

_LAYER = re.compile(r"\.([0-9]+)\.")
_ABOVE = re.compile(r"(^|\.)(lm_head|score|classifier|norm|ln_f|final_layernorm|final_layer_norm)\.")


def make_optimizer(
    spec: FineTuneJobSpec, trainable: Mapping[str, nn.Parameter], device: torch.device
) -> torch.optim.Optimizer:
    """`trainable`: by name. `device`: where the parameters rest; AdamW's fused kernel is taken on a GPU."""
    wanted, rate = spec.training.optimizer, peak_rate(spec)
    groups = [group | {"lr": rate * group["scale"]} for group in param_groups(wanted, trainable)]
    betas = (float(wanted.beta1 or "0.9"), float(wanted.beta2 or ("0.99" if _is_lion(wanted) else "0.999")))
    epsilon = float(wanted.epsilon or "1e-8")
    match wanted.type:
        case OptimizerType.LION:
            return Lion(groups, lr=rate, betas=betas)
        case OptimizerType.ADAFACTOR:
            return Adafactor(groups, lr=rate)
        case OptimizerType.ADAMW_8BIT:
            return AdamW8bit(groups, lr=rate, betas=betas, eps=epsilon)
        case OptimizerType.ADAMW:
            return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=epsilon, fused=device.type == "cuda")


def _is_lion(wanted: Optimizer) -> bool:
    return wanted.type is OptimizerType.LION


def param_groups(wanted: Optimizer, trainable: Mapping[str, nn.Parameter]) -> list[dict[str, Any]]:
    """Parameters that share a decay and a factor of the learning rate (`scale`), none empty; matrices first."""
    scales = layer_scales(list(trainable), float(wanted.layerwise_decay)) if wanted.layerwise_decay else {}
    found: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        found.setdefault((parameter.ndim < 2, scales.get(name, 1.0)), []).append(parameter)
    return [
        {"params": members, "weight_decay": 0.0 if spared else float(wanted.weight_decay), "scale": scale}
        for (spared, scale), members in sorted(found.items(), key=lambda item: (item[0][0], -item[0][1]))
    ]


def layer_scales(names: list[str], decay: float) -> dict[str, float]:
    """decay^(L - i) for layer i of L, decay^(L + 1) below the layers, 1 above (Clark et al. 2020, appendix A; the
    exponents as in BEiT, Bao et al. 2022). The first number in a name is its layer."""
    layers = {name: int(found[1]) for name in names if (found := _LAYER.search(name))}
    top = max(layers.values(), default=-1) + 1

    def exponent(name: str) -> int:
        if name in layers:
            return top - layers[name]
        return 0 if _ABOVE.search(name) else top + 1

    return {name: math.pow(decay, exponent(name)) for name in names}


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def prepare(parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """State as before the first step, for a restore to write into."""
    if isinstance(optimizer, Remembering):
        for parameter in parameters.values():
            optimizer.state[parameter] = optimizer.fresh(parameter)
    else:
        zero_moments(parameters, optimizer)
