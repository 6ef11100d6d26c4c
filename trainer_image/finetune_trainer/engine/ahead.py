"""What an objective has to know of a whole global batch before the loss of its first part can be taken.

It is asked of the model as it stands, without dropout and without gradients, and is a mean over the global batch: so it
depends neither on the world size nor on how the batch is cut, and a resumed run finds the same bits. Objectives that
need none of this cost nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist

from finetune_trainer.engine.batch import Batch
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.mode import answering
from finetune_trainer.engine.strategy.base import Strategy
from finetune_trainer.objectives.base import LooksAhead, Objective


def look_ahead(
    objective: Objective,
    strategy: Strategy,
    place: Place,
    batches: Iterable[Batch],
    weight: int,
    alive: Callable[[], object],
) -> torch.Tensor | None:
    """fp32 scalar, equal on all ranks. `batches`: this rank's, `weight`: of all ranks' together."""
    if not isinstance(objective, LooksAhead):
        return None
    total = torch.zeros((), dtype=torch.float64, device=place.device)
    with answering(strategy.model), torch.no_grad():
        for batch in batches:
            with strategy.precision():
                total += objective.ahead(strategy.model, batch.to(place.device)).double()
            alive()
    dist.all_reduce(total)
    return (total / max(weight, 1)).float()
