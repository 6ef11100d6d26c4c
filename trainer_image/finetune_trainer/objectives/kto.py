"""Kahneman-Tversky optimisation (Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization",
equations 7 and 8).

An answer's reward is beta times how much likelier the model finds it than the base does. It is judged against how far
the model has moved from the base as a whole: the mean log-ratio of answers that belong to other prompts, where that is
above 0. The mean is over the global batch (`engine.ahead`), where TRL takes it over one process's batch.

Legend of suffixes: b rows.
"""

from __future__ import annotations

import torch
from torch import nn

from finetune_api.objective_kto import KTOSettings
from finetune_trainer.engine.batch import Batch, Examples
from finetune_trainer.engine.loss import row_log_probs
from finetune_trainer.objectives.base import Indices, Sums
from finetune_trainer.objectives.dpo import base_log_probs
from finetune_trainer.objectives.ratings import Ratings, collate_ratings

PARTS = ("ratingAccuracy", "signedReward", "kl")


class KTO:
    """Loss: the sum over rated answers, divided by their number."""

    parts: tuple[str, ...] = PARTS

    def __init__(self, settings: KTOSettings) -> None:
        self._beta = float(settings.beta)
        self._weights = float(settings.desirable_weight), float(settings.undesirable_weight)

    def weight(self, examples: Examples, indices: Indices) -> int:
        return len(indices)

    def collate(self, examples: Examples, indices: Indices, pad_id: int) -> Batch:
        assert isinstance(examples, Ratings)
        return collate_ratings(examples, indices, pad_id)

    def ahead(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Log-ratios of other prompts' answers."""
        assert batch.beside is not None
        beside = batch.beside
        ratios_b = row_log_probs(model, beside) - _reference(model, beside)
        return (ratios_b * beside.targets_bt.any(1)).sum()

    def sums(self, model: nn.Module, batch: Batch) -> Sums:
        """`batch.ahead` is the mean log-ratio over the global batch, of either sign."""
        assert batch.ahead is not None
        assert batch.good_b is not None
        ratios_b = row_log_probs(model, batch) - _reference(model, batch)
        counts_b = batch.targets_bt.any(1).float()
        return self.compare(ratios_b, batch.good_b, batch.ahead, counts_b)

    def compare(
        self, ratios_b: torch.Tensor, good_b: torch.Tensor, ahead: torch.Tensor, counts_b: torch.Tensor
    ) -> Sums:
        """`ratios_b`: log-likelihood under the model less that under the base. `counts_b`: 0 for a row that counts
        nowhere, else 1."""
        kl = ahead.clamp(min=0)
        sign_b = torch.where(good_b, 1.0, -1.0)
        weights_b = torch.where(good_b, *self._weights)
        loss_b = weights_b * (1 - torch.sigmoid(self._beta * sign_b * (ratios_b - kl)))
        gain_b = sign_b * ratios_b.detach()
        # A tie is half right: the base, compared with itself, gets one half.
        right_b = 0.5 * (1 + torch.sign(gain_b - sign_b * kl))
        parts = (right_b, self._beta * gain_b, kl.expand_as(gain_b))
        return Sums((loss_b * counts_b).sum(), tuple((part_b * counts_b).sum() for part_b in parts))


def _reference(model: nn.Module, batch: Batch) -> torch.Tensor:
    return batch.reference_b if batch.reference_b is not None else base_log_probs(model, batch)
