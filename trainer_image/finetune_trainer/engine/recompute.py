"""Activation checkpointing: a layer keeps its input, and what it computed in between is computed again when the
backward pass comes to it. Random numbers are drawn again as they were, so results are the same bit for bit.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from finetune_trainer.common.errors import SpecError


def recompute_layers(model: nn.Module) -> None:
    """Before parameters are sharded. Raises SpecError for a model whose layers cannot do it."""
    base: Any = model
    if hasattr(model, "get_base_model"):  # peft wraps it
        base = base.get_base_model()
    if not getattr(base, "supports_gradient_checkpointing", False):
        raise SpecError(
            "spec.training.activationCheckpointing",
            "Full",
            f"{type(base).__name__} has no layers that can be computed again; use None",
        )
    base.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
