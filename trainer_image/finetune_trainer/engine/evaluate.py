"""Held-out loss at checkpoints: a cheap look, not the publish stage's evaluation.

All ranks take equal numbers of batches, and poll for a stop before each one, so that a preemption never waits for an
evaluation to end.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist

from finetune_trainer.engine.batch import Examples, collate, without_targets
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.loss import target_loss_sum
from finetune_trainer.engine.strategy.base import Strategy

MAX_RECORDS = 256


def held_out_loss(
    strategy: Strategy,
    examples: Examples,
    place: Place,
    *,
    micro_batch: int,
    pad_id: int,
    go_on: Callable[[], bool],
) -> float | None:
    """Mean over target tokens of the first 256 records; None without any, or when `go_on` says no."""
    count = min(len(examples), MAX_RECORDS)
    per_round = micro_batch * place.world_size
    sums = torch.zeros(2, dtype=torch.float64, device=place.device)
    model = strategy.model.eval()
    try:
        with torch.no_grad():
            for start in range(0, count, per_round):
                if not go_on():
                    return None
                first = start + place.rank * micro_batch
                indices = range(first, min(first + micro_batch, count))
                if indices or strategy.lockstep:
                    batch = collate(examples, indices or range(1), pad_id)
                    batch = batch if indices else without_targets(batch)
                    sums[1] += int(batch.targets_bt.sum())
                    with strategy.precision():
                        sums[0] += target_loss_sum(model, batch.to(place.device)).double()
    finally:
        model.train()
    dist.all_reduce(sums)
    return float(sums[0] / sums[1]) if float(sums[1]) > 0 else None
