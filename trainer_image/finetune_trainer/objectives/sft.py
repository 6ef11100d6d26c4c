"""Supervised fine-tuning, and pre-training: the negative log-likelihood of the target tokens, smoothed if asked for."""

from __future__ import annotations

from torch import nn

from finetune_trainer.engine.batch import Batch, Examples, collate, target_tokens
from finetune_trainer.engine.loss import smoothed_loss_sums, target_loss_sum
from finetune_trainer.objectives.base import Indices, Sums


class SFT:
    """Loss: -sum log p(token | tokens before it) over target tokens, divided by their number.

    With `smoothing`, while the model is in training, the targets are smoothed and `targetLoss` is the loss as above.
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        self._smoothing = smoothing
        self.parts: tuple[str, ...] = ("targetLoss",) if smoothing else ()

    def weight(self, examples: Examples, indices: Indices) -> int:
        return target_tokens(examples, indices)

    def collate(self, examples: Examples, indices: Indices, pad_id: int) -> Batch:
        return collate(examples, indices, pad_id)

    def sums(self, model: nn.Module, batch: Batch) -> Sums:
        if not self._smoothing:
            return Sums(target_loss_sum(model, batch))
        if model.training:
            loss, told = smoothed_loss_sums(model, batch, self._smoothing)
            return Sums(loss, (told,))
        told = target_loss_sum(model, batch)
        return Sums(told, (told.detach(),))
