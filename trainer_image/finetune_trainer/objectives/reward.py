"""Reward models: the chosen of two answers scores higher (Bradley and Terry 1952, as in Ouyang et al. 2022, "Training
language models to follow instructions with human feedback", equation 1), by a margin if one is set (Touvron et al.
2023, "Llama 2", equation 2), with scores held near 0 (Eisenstein et al. 2023, "Helping or Herding?", equation 2).

Legend of suffixes: p pairs, b rows (2p: chosen, then rejected).
"""

from __future__ import annotations

import torch
from torch import nn

from finetune_api.objective_reward import RewardSettings
from finetune_trainer.engine.batch import Batch, Examples
from finetune_trainer.engine.scorer import row_scores
from finetune_trainer.objectives.base import Indices, Sums
from finetune_trainer.objectives.pairs import Pairs, collate_pairs

PARTS = ("preferenceAccuracy", "rewardMargin", "chosenReward", "rejectedReward")


class Reward:
    """Loss: the sum over pairs, divided by their number."""

    parts: tuple[str, ...] = PARTS

    def __init__(self, settings: RewardSettings) -> None:
        self._margin, self._centering = float(settings.margin or 0), float(settings.centering or 0)

    def weight(self, examples: Examples, indices: Indices) -> int:
        return len(indices)

    def collate(self, examples: Examples, indices: Indices, pad_id: int) -> Batch:
        assert isinstance(examples, Pairs)
        return collate_pairs(examples, indices, pad_id)

    def sums(self, model: nn.Module, batch: Batch) -> Sums:
        return self.compare(row_scores(model, batch), batch.targets_bt.any(1))

    def compare(self, scores_b: torch.Tensor, counts_b: torch.Tensor) -> Sums:
        """`counts_b`: false for rows that count nowhere."""
        chosen_p, rejected_p = scores_b.chunk(2)
        counts_p = counts_b.chunk(2)[0].float()
        loss_p = -nn.functional.logsigmoid(chosen_p - rejected_p - self._margin)
        if self._centering:
            loss_p = loss_p + self._centering * (chosen_p + rejected_p) ** 2
        chosen_p_, rejected_p_ = chosen_p.detach(), rejected_p.detach()
        right_p = 0.5 * (1 + torch.sign(chosen_p_ - rejected_p_))
        parts = (right_p, chosen_p_ - rejected_p_, chosen_p_, rejected_p_)
        return Sums((loss_p * counts_p).sum(), tuple((part_p * counts_p).sum() for part_p in parts))
