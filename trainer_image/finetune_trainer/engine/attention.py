"""Which attention a model computes with, in transformers' words, or in our words why not."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import nn

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.speed import Attention
from finetune_api.training import Precision
from finetune_trainer.common.errors import SpecError

_FIELD = "spec.model.attention"
_NAMES = {
    Attention.AUTO: ("sdpa", "eager"),
    Attention.SDPA: ("sdpa",),
    Attention.EAGER: ("eager",),
    Attention.FLASH_ATTENTION_2: ("flash_attention_2",),
    Attention.FLEX: ("flex_attention",),
}


def candidates(spec: FineTuneJobSpec, device: torch.device) -> tuple[str, ...]:
    """Names to try in this order. Raises SpecError (64) for what this device or this image cannot do.

    Auto never means flash-attn's package, even where it is installed: SDPA runs flash kernels of its own, and what a
    job computes with should not hang on what somebody put into an image.
    """
    wanted = spec.model.attention or Attention.AUTO
    needs_gpu = wanted in (Attention.FLASH_ATTENTION_2, Attention.FLEX)
    if needs_gpu and device.type != "cuda":
        raise SpecError(_FIELD, wanted.value, "it cannot train on a CPU; use Auto, or give the job GPUs")
    if wanted is Attention.FLASH_ATTENTION_2:
        if spec.training.precision is Precision.FP32:
            raise SpecError(_FIELD, wanted.value, "it computes in 16 bits; set training.precision: BF16, or use SDPA")
        if find_spec("flash_attn") is None:
            raise SpecError(
                _FIELD,
                wanted.value,
                "this trainer image has no package flash-attn; use an image with it (spec.trainer.image), or SDPA, "
                "which has flash kernels of its own",
            )
        if torch.cuda.get_device_capability(device) < (8, 0):
            raise SpecError(_FIELD, wanted.value, "it needs a GPU of compute capability 8.0 (A100) or newer; use SDPA")
    return _NAMES[wanted]


def first_supported(names: tuple[str, ...], make: Callable[[str], nn.Module]) -> nn.Module:
    """What `make` gives for the first name that the model can do; raises the last one's ValueError."""
    for name in names[:-1]:
        try:
            return make(name)
        except ValueError as error:
            if "scaled_dot_product_attention" not in str(error):
                raise
    return make(names[-1])
