"""Batch sizes and the number of steps, from the spec and the number of records alone.

The global batch never depends on the world size, so that a run which shrinks or grows keeps its schedule and its data
order; only how a batch is cut into micro-batches does. No torch here: preflight may ask the same questions.
"""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.training import Training
from finetune_trainer.common.errors import SpecError

DEFAULT_EPOCHS = 3
AUTO_GLOBAL = (64, 32, 16, 8)
AUTO_STEPS_PER_EPOCH = 50
AUTO_MICRO = 8


@dataclass(frozen=True)
class BatchPlan:
    rows: int
    world_size: int
    global_batch: int
    micro_batch: int
    steps_per_epoch: int
    total_steps: int
    packed: bool = False
    """Whether a row is several records."""

    @property
    def per_rank(self) -> int:
        return self.global_batch // self.world_size

    @property
    def accumulation(self) -> int:
        """Micro-batches per optimizer step and rank."""
        return -(-self.per_rank // self.micro_batch)

    def place(self, step: int) -> tuple[int, int]:
        """(epoch, batch within the epoch) of the step that comes after `step` finished ones."""
        return divmod(step, self.steps_per_epoch)


def auto_global_batch(rows: int) -> int:
    """The largest of 64, 32, 16, 8 that leaves an epoch at least 50 steps; 8 for small sets."""
    return next((b for b in AUTO_GLOBAL if rows // b >= AUTO_STEPS_PER_EPOCH), AUTO_GLOBAL[-1])


def plan_batches(
    training: Training,
    rows: int,
    world_size: int,
    *,
    micro_override: int | None = None,
    on_gpu: bool = False,
    packed: bool = False,
) -> BatchPlan:
    """Raises SpecError when the global batch cannot be shared by the processes.

    The last batch of an epoch may be smaller; it counts as a step of its own.
    """
    global_batch = training.global_batch_size or auto_global_batch(rows)
    if global_batch % world_size:
        chosen = "" if training.global_batch_size else " (chosen from the number of records)"
        raise SpecError(
            "spec.training.globalBatchSize",
            global_batch,
            f"{world_size} processes must share it equally{chosen}; use a multiple of {world_size}, "
            "or a number of nodes and processes that divides it",
        )
    per_rank = global_batch // world_size
    micro = micro_override or training.micro_batch_size or (AUTO_MICRO if on_gpu else per_rank)
    steps_per_epoch = -(-rows // global_batch)
    total = training.max_steps or (training.epochs or DEFAULT_EPOCHS) * steps_per_epoch
    return BatchPlan(
        rows=rows,
        world_size=world_size,
        global_batch=global_batch,
        micro_batch=min(micro, per_rank),
        steps_per_epoch=steps_per_epoch,
        total_steps=total,
        packed=packed,
    )
