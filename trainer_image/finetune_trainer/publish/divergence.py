"""How far a model still is from its teacher, on records it was not trained on.

Both models stand in memory for this: a distribution over the vocabulary at every token is too much to keep.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from finetune_api.objective import objective_of
from finetune_api.runconfig import RunConfig
from finetune_trainer.common.models import fetch_teacher
from finetune_trainer.data.dataset import Examples
from finetune_trainer.objectives.distill import PARTS, Distill, equip
from finetune_trainer.publish.evaluate import batches


def held_out_divergence(
    model: Any,
    objective: Distill,
    examples: Examples,
    *,
    pad_id: int,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> tuple[float, int]:
    """(mean divergence over target tokens in nats, their number), as the objective's settings have it."""
    which = PARTS.index("divergence")
    total, tokens, done = 0.0, 0, 0
    with torch.inference_mode():
        for indices in batches(examples):
            batch = objective.collate(examples, indices, pad_id)
            tokens += objective.weight(examples, indices)
            total += float(objective.sums(model, batch.to(device)).parts[which].double())
            done += len(indices)
            progress(done, len(examples))
    return total / tokens, tokens


def taught_by(
    config: RunConfig, folder: Path, student: Any, device: torch.device, examples: Examples
) -> Distill | None:
    """The objective with what it learned from, fetched to `folder`; None for other objectives."""
    settings = objective_of(config.spec).distill
    if settings is None:
        return None
    fetch_teacher(config, folder, lambda _bytes: None)
    distill = Distill(settings)
    equip(distill, config.spec, folder, student, device, (examples,))
    return distill
