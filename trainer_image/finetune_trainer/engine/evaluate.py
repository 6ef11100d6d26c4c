"""Held-out loss at checkpoints: a cheap look, not the publish stage's evaluation.

All ranks take equal numbers of batches, and poll for a stop before each one, so that a preemption never waits for an
evaluation to end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.distributed as dist
from torch import nn

from finetune_trainer.engine.ahead import look_ahead
from finetune_trainer.engine.batch import Batch, Examples, without_targets
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.strategy.base import Strategy
from finetune_trainer.objectives.base import LooksAhead, Objective, Samples, Sums

MAX_RECORDS = 256


@dataclass(frozen=True)
class HeldOut:
    loss: float
    parts: Mapping[str, float] = field(default_factory=dict)
    """As the objective names them."""


def held_out_loss(
    strategy: Strategy,
    objective: Objective,
    examples: Examples,
    place: Place,
    *,
    micro_batch: int,
    pad_id: int,
    go_on: Callable[[], bool],
    alive: Callable[[], object] = lambda: None,
) -> HeldOut | None:
    """Means over the first 256 records; None without any, or when `go_on` says no."""
    count = min(len(examples), MAX_RECORDS)
    per_round = micro_batch * place.world_size
    stopped = False

    def rounds() -> Iterator[tuple[range, Batch]]:
        nonlocal stopped
        for start in range(0, count, per_round):
            if not go_on():
                stopped = True
                return
            first = start + place.rank * micro_batch
            indices = range(first, min(first + micro_batch, count))
            if indices or strategy.lockstep:
                batch = objective.collate(examples, indices or range(1), pad_id)
                yield indices, batch if indices else without_targets(batch)

    found = None
    if isinstance(objective, LooksAhead):
        weight = objective.weight(examples, range(count))
        found = look_ahead(objective, strategy, place, (batch for _, batch in rounds()), weight, lambda: None)
    totals = torch.zeros(2 + len(objective.parts), dtype=torch.float64, device=place.device)
    model = strategy.model.eval()
    try:
        with torch.no_grad():
            for indices, batch in rounds():
                with strategy.precision():
                    sums = _forward(objective, model, replace(batch.to(place.device), ahead=found), alive)
                totals[0] += objective.weight(examples, indices)
                totals[1:] += torch.stack([sums.loss, *sums.parts]).double()
    finally:
        model.train()
    if stopped:
        return None
    dist.all_reduce(totals)
    counted, *summed = totals.tolist()
    if not counted:
        return None
    loss, *parts = (value / counted for value in summed)
    return HeldOut(loss, dict(zip(objective.parts, parts, strict=True)))


def _forward(objective: Objective, model: nn.Module, batch: Batch, alive: Callable[[], object]) -> Sums:
    if isinstance(objective, Samples):
        return objective.judge(model, batch, alive)
    return objective.sums(model, batch)
