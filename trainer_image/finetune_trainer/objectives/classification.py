"""Classification: cross-entropy over the labels where a text has exactly one, and binary cross-entropy of each label,
averaged over the labels, where it may have several: what transformers' sequence classifiers minimise.

A class weight multiplies what its label adds (King and Zeng 2001, "Logistic Regression in Rare Events Data", section
4.2; of a sigmoid its positive part, as torch's pos_weight). Sums are divided by the number of texts, not by the sum of
their weights: so a text counts the same whatever stands beside it in a batch.

Legend of suffixes: b rows, c labels.
"""

from __future__ import annotations

import torch
from torch import nn

from finetune_api.objective_classification import ClassificationSettings, Problem
from finetune_trainer.engine.batch import Batch, Examples
from finetune_trainer.engine.scorer import row_logits
from finetune_trainer.objectives.base import Indices, Sums
from finetune_trainer.objectives.labeled import LabeledTexts, collate_labeled

PARTS = ("accuracy",)


class Classification:
    """Loss: the sum over texts, divided by their number."""

    parts: tuple[str, ...] = PARTS

    def __init__(self, settings: ClassificationSettings) -> None:
        self._outputs = len(settings.labels)
        self._single = settings.problem is Problem.SINGLE_LABEL
        weights = settings.class_weights or {}
        self._weights_c = torch.tensor([float(weights.get(label, 1)) for label in settings.labels])

    def weight(self, examples: Examples, indices: Indices) -> int:
        return len(indices)

    def collate(self, examples: Examples, indices: Indices, pad_id: int) -> Batch:
        assert isinstance(examples, LabeledTexts)
        return collate_labeled(examples, indices, pad_id, self._outputs)

    def sums(self, model: nn.Module, batch: Batch) -> Sums:
        assert batch.classes_bc is not None
        return self.compare(row_logits(model, batch), batch.classes_bc, batch.targets_bt.any(1))

    def compare(self, logits_bc: torch.Tensor, classes_bc: torch.Tensor, counts_b: torch.Tensor) -> Sums:
        """`counts_b`: false for rows that count nowhere."""
        weights_c = self._weights_c.to(logits_bc.device)
        if self._single:
            loss_b = -(logits_bc.log_softmax(-1) * classes_bc * weights_c).sum(-1)
        else:
            loss_b = nn.functional.binary_cross_entropy_with_logits(
                logits_bc, classes_bc, pos_weight=weights_c, reduction="none"
            ).mean(-1)
        right_b = (self.decided(logits_bc.detach()) == classes_bc.bool()).all(-1)
        counts_b = counts_b.float()
        return Sums((loss_b * counts_b).sum(), ((right_b * counts_b).sum(),))

    def decided(self, logits_bc: torch.Tensor) -> torch.Tensor:
        """bool (b, c): the likeliest label, or every one of more than even odds."""
        if self._single:
            return nn.functional.one_hot(logits_bc.argmax(-1), self._outputs).bool()
        return logits_bc > 0
