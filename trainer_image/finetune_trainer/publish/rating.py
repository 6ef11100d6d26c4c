"""How a model stands to rated answers it was not trained on: its loss, how often a reward is on the verdict's side, and
how far the rewards of good and bad answers lie apart.

As of preferences (`publish.preference`), everything is a function of log-likelihoods under two models.
"""

from __future__ import annotations

import torch

from finetune_api.objective_kto import KTOSettings
from finetune_api.publishing import Metric
from finetune_trainer.objectives.kto import KTO, PARTS
from finetune_trainer.objectives.ratings import Ratings
from finetune_trainer.publish.preference import LogProbs


def judge(settings: KTOSettings, ratings: Ratings, model: LogProbs, base: LogProbs) -> dict[str, tuple[float, int]]:
    """Metric → (value, rated answers). Without answers of both kinds there is no margin between them."""
    count = len(ratings)
    own_b, other_b = torch.from_numpy(model - base).double().T
    good_b = torch.tensor([ratings.good(index) for index in range(count)])
    sums = KTO(settings).compare(own_b, good_b, other_b.mean(), torch.ones_like(own_b))
    parts = dict(zip(PARTS, sums.parts, strict=True))
    found = {
        Metric.LOSS.value: (float(sums.loss) / count, count),
        Metric.RATING_ACCURACY.value: (float(parts["ratingAccuracy"]) / count, count),
    }
    if bool(good_b.any()) and not bool(good_b.all()):
        margin = float(settings.beta) * float(own_b[good_b].mean() - own_b[~good_b].mean())
        found[Metric.REWARD_MARGIN.value] = (margin, count)
    return found
