"""Supervised fine-tuning, and pre-training: the negative log-likelihood of the target tokens."""

from __future__ import annotations

from torch import nn

from finetune_trainer.engine.batch import Batch, Examples, collate, target_tokens
from finetune_trainer.engine.loss import target_loss_sum
from finetune_trainer.objectives.base import Indices, Sums


class SFT:
    """Loss: -sum log p(token | tokens before it) over target tokens, divided by their number."""

    parts: tuple[str, ...] = ()

    def weight(self, examples: Examples, indices: Indices) -> int:
        return target_tokens(examples, indices)

    def collate(self, examples: Examples, indices: Indices, pad_id: int) -> Batch:
        return collate(examples, indices, pad_id)

    def sums(self, model: nn.Module, batch: Batch) -> Sums:
        return Sums(target_loss_sum(model, batch))
