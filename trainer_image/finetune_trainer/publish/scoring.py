"""How a reward model scores answers it was not trained on: its loss, how often it is right, and by how much.

A base has no scores, so nothing is compared with it.
"""

from __future__ import annotations

import torch

from finetune_api.objective_reward import RewardSettings
from finetune_api.publishing import Metric
from finetune_trainer.objectives.reward import PARTS, Reward
from finetune_trainer.publish.preference import LogProbs


def judge(settings: RewardSettings, scores: LogProbs) -> dict[str, tuple[float, int]]:
    """Metric → (value, pairs). `scores`: (pairs, 2), chosen first."""
    scores_b = torch.from_numpy(scores.T.reshape(-1).copy())
    sums = Reward(settings).compare(scores_b, torch.ones_like(scores_b))
    parts = dict(zip(PARTS, sums.parts, strict=True))
    count = len(scores)
    return {
        Metric.LOSS.value: (float(sums.loss) / count, count),
        Metric.PREFERENCE_ACCURACY.value: (float(parts["preferenceAccuracy"]) / count, count),
        Metric.REWARD_MARGIN.value: (float(parts["rewardMargin"]) / count, count),
    }
