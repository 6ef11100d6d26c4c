"""Direct preference optimisation (Rafailov et al. 2023, "Your Language Model is Secretly a Reward Model"), with the
hinge of SLiC (Zhao et al. 2023), IPO (Azar et al. 2023) and label smoothing (cDPO, Mitchell 2023).

The reward of an answer is beta times how much likelier the model finds it than the base does. The base is the model
itself with its adapter off, at no cost in memory; where all weights train, its log-likelihoods were written down before
the first step (`objectives.reference`).

Legend of suffixes: p pairs, b rows (2p: chosen, then rejected).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from finetune_api.method import STARTS_APART, Method
from finetune_api.objective import DPOLoss, DPOSettings
from finetune_trainer.engine.batch import Batch, Examples
from finetune_trainer.engine.loss import row_log_probs
from finetune_trainer.methods.adapters import adapter_off
from finetune_trainer.objectives.base import Indices, Sums
from finetune_trainer.objectives.pairs import Pairs, collate_pairs

PARTS = ("preferenceAccuracy", "rewardMargin", "chosenReward", "rejectedReward")


class DPO:
    """Loss: the sum over pairs, divided by their number."""

    parts: tuple[str, ...] = PARTS

    def __init__(self, settings: DPOSettings) -> None:
        self._settings, self._beta = settings, float(settings.beta)

    def weight(self, examples: Examples, indices: Indices) -> int:
        return len(indices)

    def collate(self, examples: Examples, indices: Indices, pad_id: int) -> Batch:
        assert isinstance(examples, Pairs)
        return collate_pairs(examples, indices, pad_id)

    def sums(self, model: nn.Module, batch: Batch) -> Sums:
        reference_b = batch.reference_b if batch.reference_b is not None else base_log_probs(model, batch)
        lengths_b = batch.targets_bt.sum(1)
        return self.compare(row_log_probs(model, batch), reference_b, lengths_b)

    def compare(self, policy_b: torch.Tensor, reference_b: torch.Tensor, lengths_b: torch.Tensor) -> Sums:
        """From log-likelihoods of rows and their numbers of targets; a pair without targets counts nowhere."""
        counts_p = (lengths_b.chunk(2)[0] > 0).float()
        ratios_b = policy_b - reference_b
        loss_p = pair_losses(ratios_b, lengths_b, self._settings)
        chosen_p, rejected_p = (self._beta * ratios_b.detach()).chunk(2)
        # A tie is half right: the base, compared with itself, gets one half.
        right_p = 0.5 * (1 + torch.sign(chosen_p - rejected_p))
        parts = (right_p, chosen_p - rejected_p, chosen_p, rejected_p)
        return Sums((loss_p * counts_p).sum(), tuple((part_p * counts_p).sum() for part_p in parts))


def pair_losses(ratios_b: torch.Tensor, lengths_b: torch.Tensor, settings: DPOSettings) -> torch.Tensor:
    """(p,). `ratios_b`: log-likelihood under the model less that under the base, of rows of `lengths_b` targets."""
    beta, smoothing = float(settings.beta), float(settings.label_smoothing or 0)
    if settings.loss is DPOLoss.IPO:
        chosen_p, rejected_p = (ratios_b / lengths_b.clamp(min=1)).chunk(2)
        return (chosen_p - rejected_p - 1 / (2 * beta)) ** 2
    chosen_p, rejected_p = ratios_b.chunk(2)
    margin_p = beta * (chosen_p - rejected_p)
    if settings.loss is DPOLoss.HINGE:
        return torch.relu(1 - margin_p)
    right_p = -nn.functional.logsigmoid(margin_p)
    if not smoothing:
        return right_p
    return (1 - smoothing) * right_p - smoothing * nn.functional.logsigmoid(-margin_p)


def has_base_inside(model: nn.Module, method: Method) -> bool:
    """Whether the model gives the base's answers when its adapter is turned off. Not where LoRA starts from something
    else than nothing."""
    plain = method.lora is None or method.lora.init not in STARTS_APART
    return plain and hasattr(model, "disable_adapter")


def base_log_probs(model: Any, batch: Batch) -> torch.Tensor:
    """(b,) of the model with its adapter off; without gradients, dropout or noise."""
    with torch.no_grad(), adapter_off(model) as base:
        return row_log_probs(base, batch)
