"""How a model stands to preferences it was not trained on: its loss, how often it is right, and by how much.

Everything is a function of log-likelihoods under two models, which are asked one after the other: two numbers a pair
are kept, never two models.

Legend of suffixes: b rows (2p: chosen, then rejected).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from finetune_api.objective import DPOSettings
from finetune_api.publishing import Metric
from finetune_trainer.engine.batch import Batch
from finetune_trainer.engine.loss import row_log_probs
from finetune_trainer.objectives.dpo import DPO, PARTS
from finetune_trainer.objectives.pairs import Pairs, collate_pairs

LogProbs = npt.NDArray[np.float32]
"""(pairs, 2), chosen first."""
Batches = list[list[int]]


def log_probs(
    model: Any,
    pairs: Pairs,
    batches: Batches,
    *,
    pad_id: int,
    device: torch.device,
    progress: Callable[[int, int], None],
    ask: Callable[[Any, Batch], torch.Tensor] = row_log_probs,
) -> LogProbs:
    """`ask`: what is wanted of every row."""
    found, done = np.zeros((len(pairs), 2), dtype=np.float32), 0
    with torch.inference_mode():
        for indices in batches:
            batch = collate_pairs(pairs, indices, pad_id).to(device)
            found[indices] = ask(model, batch).reshape(2, -1).T.cpu().numpy()
            done += len(indices)
            progress(done, len(pairs))
    return found


def judge(settings: DPOSettings, pairs: Pairs, model: LogProbs, base: LogProbs) -> dict[str, tuple[float, int]]:
    """Metric → (value, pairs). A model compared with itself is right half the time, by nothing."""
    targets = [[int(np.count_nonzero(targets[1:])) for _, targets in pairs.pair(i)] for i in range(len(pairs))]
    lengths_b, model_b, base_b = (
        torch.from_numpy(np.asarray(values).T.reshape(-1).copy()) for values in (targets, model, base)
    )
    sums = DPO(settings).compare(model_b, base_b, lengths_b)
    parts = dict(zip(PARTS, sums.parts, strict=True))
    count = len(pairs)
    return {
        Metric.LOSS.value: (float(sums.loss) / count, count),
        Metric.PREFERENCE_ACCURACY.value: (float(parts["preferenceAccuracy"]) / count, count),
        Metric.REWARD_MARGIN.value: (float(parts["rewardMargin"]) / count, count),
    }
