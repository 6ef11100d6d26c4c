"""A head that foresees rewards, beside the one that writes: one number at each token that is about to be written.

It reads the same hidden state as the output head (Ouyang et al. 2022 keep a second model for it; Ziegler et al. 2019,
"Fine-Tuning Language Models from Human Preferences", a second head). It begins at 0 everywhere, trains whole beside
whatever method the model is trained with, is part of every checkpoint, and of no published model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from finetune_api.exitcodes import ExitCode
from finetune_trainer.common.errors import RunError
from finetune_trainer.engine.batch import Batch
from finetune_trainer.engine.head import output_head
from finetune_trainer.engine.loss import target_logits

NAME = "value_head"


def attach(model: Any) -> None:
    """To the outermost model, adapter included. Raises RunError (66) for one without a known output head."""
    head = output_head(model)
    if head is None:
        raise RunError(
            ExitCode.DATA_INVALID,
            f"objective PPO reads what {type(model).__name__}'s output head reads, and transformers does not say which "
            "layer that is; choose objective GRPO or RLOO",
        )
    found = nn.Linear(int(model.config.get_text_config().hidden_size), 1, device=next(head.parameters()).device)
    nn.init.zeros_(found.weight)
    nn.init.zeros_(found.bias)
    model.add_module(NAME, found)


def detach(model: nn.Module) -> None:
    delattr(model, NAME)


def logits_and_values(model: Any, batch: Batch, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """fp32 (n, v) and fp32 (n,) of a located batch: what is written at each target, and what is foreseen before it."""
    head = output_head(model)
    assert head is not None
    seen: list[torch.Tensor] = []
    hook = head.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    try:
        logits_nv = target_logits(model, batch) / temperature
    finally:
        hook.remove()
    (hidden_nh,) = seen
    with torch.autocast(hidden_nh.device.type, enabled=False):
        values_n = getattr(model, NAME)(hidden_nh.float()).squeeze(-1)
    return logits_nv, values_n
