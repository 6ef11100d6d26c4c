"""Liger's kernels in place of the model's own norms, rotations and gated activations (Hsu et al. 2024, "Liger Kernel:
Efficient Triton Kernels for LLM Training"). Its cross-entropy is left out: ours computes logits at the targets only.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.speed import Kernels
from finetune_trainer.common.errors import SpecError
from finetune_trainer.engine.compiled import compiler

TYPES = ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")
"""transformers' model types for which loss and gradients have been compared with the model's own."""
_FIELD = "spec.training.kernels"
_LOSSES = {"cross_entropy": False, "fused_linear_cross_entropy": False}


def wants_liger(spec: FineTuneJobSpec, device: torch.device) -> bool:
    """Raises SpecError (64) for what this device or this image cannot do."""
    wanted = spec.training.kernels
    if wanted is not Kernels.LIGER:
        return False
    if device.type != "cuda":
        raise SpecError(_FIELD, wanted.value, "Liger's kernels need a GPU; use Torch, or give the job GPUs")
    if find_spec("liger_kernel") is None:
        raise SpecError(_FIELD, wanted.value, "this trainer image has no package liger-kernel; use Torch")
    if compiler(device) is None:
        raise SpecError(_FIELD, wanted.value, "this trainer image has no C compiler, which Triton needs; use Torch")
    return True


def use_liger(model: Any) -> None:
    """Before adapters are put on it. Raises SpecError for a type that is not in TYPES."""
    kind = getattr(model.config, "model_type", "unknown")
    if kind not in TYPES:
        expected = f"models of type {kind} have not been proven with them ({', '.join(TYPES)} have); use Torch"
        raise SpecError(_FIELD, Kernels.LIGER.value, expected)
    from liger_kernel.transformers import _apply_liger_kernel_to_instance

    _apply_liger_kernel_to_instance(model=model, **_LOSSES)
