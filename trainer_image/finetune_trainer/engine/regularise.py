"""Noise on embeddings and dropout, put on a model that is built: in training mode only, so that no measure has it.

NEFTune's noise (Jain et al. 2023, "Noisy Embeddings Improve Instruction Finetuning", algorithm 1) is drawn row by row
from a seed of the row's own: a resumed run, another world size and another micro-batch draw what the undisturbed run
drew. Dropout is drawn by micro-batch, as LoRA's is.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from finetune_api.training import Regularization
from finetune_trainer.common.errors import SpecError
from finetune_trainer.engine.seeding import row_seed


def regularise(wanted: Regularization | None, model: nn.Module, pad_id: int) -> None:
    """Raises SpecError when the model has nothing that could be dropped, or no input embeddings."""
    if wanted is None:
        return
    if wanted.dropout is not None and not set_dropout(model, float(wanted.dropout)):
        raise SpecError(
            "spec.training.regularization.dropout",
            wanted.dropout,
            "this model has neither dropout layers nor attention dropout; remove the field, or use method.lora.dropout",
        )
    if wanted.neftune_alpha is not None:
        add_noise(model, float(wanted.neftune_alpha), pad_id)


def set_dropout(model: nn.Module, share: float) -> int:
    """How many modules it was set in. An adapter's own dropout stays."""
    changed = 0
    for name, module in model.named_modules():
        if type(module) is nn.Dropout and "lora_dropout" not in name:
            module.p, changed = share, changed + 1
        elif isinstance(getattr(module, "attention_dropout", None), float | int):
            module.attention_dropout, changed = share, changed + 1
    return changed


def add_noise(model: nn.Module, alpha: float, pad_id: int) -> None:
    found: Any = model
    embeddings = found.get_input_embeddings()
    if not isinstance(embeddings, nn.Module):
        raise SpecError("spec.training.regularization.neftuneAlpha", alpha, "this model has no input embeddings")

    def noisy(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
        if not module.training or inputs[0].ndim != 2:
            return None
        return output + noise(inputs[0], output, alpha, pad_id)

    embeddings.register_forward_hook(noisy)


def noise(ids_bt: torch.Tensor, output_btd: torch.Tensor, alpha: float, pad_id: int) -> torch.Tensor:
    """Shaped like the output; 0 on the padding at the end of a row, which must not count as its length."""
    found = torch.zeros_like(output_btd, requires_grad=False)
    width, places = output_btd.shape[-1], torch.arange(1, ids_bt.shape[1] + 1, device=ids_bt.device)
    lengths = ((ids_bt != pad_id) * places).amax(dim=1).tolist()
    for row, length in enumerate(lengths):
        if not length:
            continue
        generator = torch.Generator(output_btd.device).manual_seed(row_seed(row) & (2**63 - 1))
        size = alpha / math.sqrt(length * width)
        drawn = torch.rand((length, width), generator=generator, device=output_btd.device)
        found[row, :length] = (drawn.mul_(2).sub_(1) * size).to(output_btd.dtype)
    return found
