"""The model as a method wants it: which weights train, and in which precision they are kept.

Full fine-tuning keeps fp32 master weights and computes in 16 bits by autocast. LoRA keeps the frozen base in 16
bits on a GPU (nothing is ever added to it) and the adapter in fp32. On a CPU the base stays fp32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import Head, foresees, head_of
from finetune_api.training import ActivationCheckpointing, Precision
from finetune_trainer.common.errors import RunError
from finetune_trainer.engine import value
from finetune_trainer.engine.attention import first_supported
from finetune_trainer.engine.compiled import compile_layers
from finetune_trainer.engine.kernels import use_liger
from finetune_trainer.engine.recompute import recompute_layers
from finetune_trainer.methods.choose import method_of
from finetune_trainer.model.estimate.trained import half_at_rest

ANY_ATTENTION = ("sdpa", "eager")
COMPUTE = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}
"""What is computed in, where that is not fp32."""


def load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


def pad_id(tokenizer: Any) -> int:
    """Padding is masked out of attention and loss, so any id does."""
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0


def load_base(
    folder: Path, dtype: torch.dtype, attention: tuple[str, ...] = ANY_ATTENTION, *, head: Head | None = None
) -> nn.Module:
    """`head`: in place of the one that writes, drawn from torch's seed unless the folder has it. Raises RunError (66)
    in words when the folder does not hold a model transformers can read."""
    from transformers import AutoModelForCausalLM

    from finetune_trainer.engine.scorer import load_scorer

    def load(name: str) -> nn.Module:
        if head is not None:
            return load_scorer(folder, dtype, name, head)
        model: nn.Module = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=dtype, local_files_only=True, use_safetensors=True, attn_implementation=name
        )
        return model

    try:
        return first_supported(attention, load)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(ExitCode.DATA_INVALID, f"the base model cannot be loaded: {error}") from error


def resting_type(spec: FineTuneJobSpec, device: torch.device) -> torch.dtype:
    """What frozen weights are kept in."""
    return computed_type(spec, device) if half_at_rest(spec) else torch.float32


def computed_type(spec: FineTuneJobSpec, device: torch.device) -> torch.dtype:
    """What a model that is not trained is kept in: what is computed in on a GPU, fp32 on a CPU."""
    return COMPUTE.get(spec.training.precision, torch.float32) if device.type == "cuda" else torch.float32


@dataclass(frozen=True)
class Form:
    """How a model is made ready to train, as far as spec and device leave it open."""

    resting: torch.dtype = torch.float32
    """Of the weights that are not trained."""
    recompute: ActivationCheckpointing = ActivationCheckpointing.NONE
    attention: tuple[str, ...] = ANY_ATTENTION
    """transformers' names, the first that the model can do."""
    liger: bool = False
    compiled: bool = False


PLAIN = Form()


def build(spec: FineTuneJobSpec, folder: Path, device: torch.device, form: Form = PLAIN) -> nn.Module:
    """Ready to train, in train mode. New parameters are drawn from torch's current seed."""
    base = load_base(folder, form.resting, form.attention, head=head_of(spec))
    return _adapted(spec, base, form).to(device).train()


def structure(spec: FineTuneJobSpec, folder: Path, form: Form = PLAIN) -> nn.Module:
    """What `build` gives with parameters that have no storage (meta device); buffers are real."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    with init_empty_weights(include_buffers=False):
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)

        def make(name: str) -> nn.Module:
            model: nn.Module = AutoModelForCausalLM.from_config(config, dtype=form.resting, attn_implementation=name)
            return model

        return _adapted(spec, first_supported(form.attention, make), form).train()


def with_new_parameters(spec: FineTuneJobSpec, base: nn.Module) -> nn.Module:
    """The method's, and those of a head that foresees rewards where the objective has one."""
    model = method_of(spec.method).apply(base)
    if foresees(spec):
        value.attach(model)
    return model


def _adapted(spec: FineTuneJobSpec, model: nn.Module, form: Form) -> nn.Module:
    if form.liger:
        use_liger(model)
    model = with_new_parameters(spec, model)
    for parameter in trainable(model):
        parameter.data = parameter.data.float()
    recompute_layers(model, form.recompute)
    if form.compiled:
        compile_layers(model)
    return model


def trainable(model: nn.Module) -> Iterator[nn.Parameter]:
    return (p for p in model.parameters() if p.requires_grad)


def compute_precision(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, dtype=COMPUTE[precision]) if precision in COMPUTE else nullcontext()
