"""Activation checkpointing: a layer keeps its input, and what it computed in between is computed again when the
backward pass comes to it. Random numbers are drawn again as they were, so results are the same bit for bit.

Selective keeps what is dear to compute besides (Korthikanti et al. 2022, "Reducing Activation Recomputation in Large
Transformer Models", section 5, the other way round): results of large matrix products, and of attention, whose kernels
keep no scores. Norms, activation functions, sums, casts and low-rank products are computed again.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from finetune_api.training import ActivationCheckpointing
from finetune_trainer.common.errors import SpecError
from finetune_trainer.model.estimate.kept import is_kept

_aten = torch.ops.aten
_PRODUCTS = {_aten.mm.default, _aten.addmm.default}
_ATTENTION = {
    _aten._scaled_dot_product_flash_attention.default: 3,
    _aten._scaled_dot_product_flash_attention_for_cpu.default: 3,
    _aten._scaled_dot_product_efficient_attention.default: 5,
    _aten._scaled_dot_product_cudnn_attention.default: 5,
}
"""And which argument is the probability of dropout."""


def recompute_layers(model: nn.Module, how: ActivationCheckpointing) -> None:
    """Before parameters are sharded. Raises SpecError for a model whose layers cannot do it."""
    if how is ActivationCheckpointing.NONE:
        return
    base: Any = model
    if hasattr(model, "get_base_model"):  # peft wraps it
        base = base.get_base_model()
    if not getattr(base, "supports_gradient_checkpointing", False):
        raise SpecError(
            "spec.training.activationCheckpointing",
            how,
            f"{type(base).__name__} has no layers that can be computed again; use None",
        )
    options: dict[str, Any] = {"use_reentrant": False}
    if how is ActivationCheckpointing.SELECTIVE:
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    base.activation_checkpointing_enable(activation_checkpointing_kwargs=options)


def _policy(_: Any, op: Any, *args: Any, **options: Any) -> CheckpointPolicy:
    if op in _PRODUCTS:
        into, out = args[-1].shape
        keep = is_kept(into=into, out=out)
    else:
        # A result that is kept draws no random numbers the second time, and later ones would come out different.
        drops = _ATTENTION.get(op)
        keep = drops is not None and not options.get("dropout_p", args[drops] if len(args) > drops else 0.0)
    return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE
