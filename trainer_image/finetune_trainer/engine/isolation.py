"""Packed records must not see each other. transformers keeps them apart by position ids that begin anew, if no mask and
no cache is given; whether a model does is asked of the model itself, before the first step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from finetune_trainer.common.errors import SpecError
from finetune_trainer.data.pack_rule import ISOLATING
from finetune_trainer.engine.batch import Batch

_LENGTH = 8
_LEAK = 1e-3
"""Of the largest logit. Where records are kept apart the difference is 0, or what kernels round differently."""


def attention_of(model: nn.Module) -> str:
    return str(getattr(getattr(model, "config", None), "_attn_implementation", None) or "")


def ignores_padding(model: nn.Module) -> bool:
    """Padding stands on the right, and a causal model never looks there: without a mask its attention has the faster
    kernels. Known of the same types that keep records apart; asked of no other."""
    config: Any = getattr(model, "config", None)
    if config is None or not getattr(config, "is_causal", True):
        return False
    return getattr(config, "model_type", "") in ISOLATING


def as_attended(model: nn.Module, batch: Batch) -> Batch:
    """Flash attention reads segments from position ids in a batch of one only: rows are joined, which costs nothing
    there. Everywhere else the mask is a square of the row, so rows stay rows."""
    if batch.positions_bt is None or len(batch.ids_bt) == 1 or "flash" not in attention_of(model):
        return batch
    return replace(  # what counts through the rows stays as it is
        batch,
        ids_bt=batch.ids_bt.reshape(1, -1),
        attention_bt=batch.attention_bt.reshape(1, -1),
        targets_bt=batch.targets_bt.reshape(1, -1),
        positions_bt=batch.positions_bt.reshape(1, -1),
    )


@torch.no_grad()
def leak(model: nn.Module, vocabulary: int, device: torch.device) -> float:
    """How much a record's logits move when the one before it in the row is another: 0 where they are kept apart.

    Relative to the largest logit. Collective where the model is sharded: every rank must ask.
    """
    trains = model.training
    model.eval()
    try:
        first, other, second = ((torch.arange(_LENGTH) * 7 + seed) % vocabulary for seed in (1, 3, 5))
        positions = torch.arange(_LENGTH).repeat(2)[None].to(device)
        seen: list[Any] = [
            model(input_ids=torch.cat([start, second])[None].to(device), position_ids=positions, use_cache=False)
            .logits[0, _LENGTH:]
            .float()
            for start in (first, other)
        ]
    finally:
        model.train(trains)
        if callable(reshard := getattr(model, "reshard", None)):
            reshard()  # FSDP's root keeps its gathered weights until the backward pass that does not come
    return float((seen[0] - seen[1]).abs().max() / seen[0].abs().max().clamp_min(1e-9))


def check_isolation(model: nn.Module, device: torch.device) -> None:
    """Raises SpecError (64) when packed records would learn from their neighbours."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    measured = leak(model, int(text.vocab_size), device)
    if not measured <= _LEAK:
        raise SpecError(
            "spec.data.packing",
            "true",
            f"models of type {getattr(config, 'model_type', 'unknown')} with {attention_of(model) or 'own'} attention "
            f"let packed records see each other (logits move by {measured:.1%}); set data.packing: false",
        )
