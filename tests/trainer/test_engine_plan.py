"""Batches and steps from the spec and the number of records."""

from __future__ import annotations

import pytest

from finetune_api.training import Training
from finetune_trainer.common.errors import SpecError
from finetune_trainer.engine.plan import auto_global_batch, plan_batches


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, 8), (399, 8), (400, 8), (799, 8), (800, 16), (1600, 32), (3200, 64), (10**9, 64)]
)
def test_auto_global_batch_leaves_fifty_steps(rows: int, expected: int) -> None:
    assert auto_global_batch(rows) == expected


def test_last_batch_of_an_epoch_counts_as_a_step() -> None:
    plan = plan_batches(Training(epochs=2, global_batch_size=8), 20, 2)
    assert (plan.steps_per_epoch, plan.total_steps) == (3, 6)
    assert [plan.place(step) for step in (0, 2, 3, 5)] == [(0, 0), (0, 2), (1, 0), (1, 2)]


def test_three_epochs_unless_told() -> None:
    assert plan_batches(Training(global_batch_size=4), 4, 1).total_steps == 3
    assert plan_batches(Training(global_batch_size=4, max_steps=7), 4, 1).total_steps == 7


@pytest.mark.parametrize(
    ("training", "world", "override", "micro", "accumulation"),
    [
        (Training(global_batch_size=16), 2, None, 8, 1),
        (Training(global_batch_size=16, micro_batch_size=4), 2, None, 4, 2),
        (Training(global_batch_size=16, micro_batch_size=16), 2, None, 8, 1),
        (Training(global_batch_size=16, micro_batch_size=4), 2, 2, 2, 4),
        (Training(global_batch_size=12, micro_batch_size=4), 2, None, 4, 2),
    ],
)
def test_micro_batches_cut_a_ranks_share(
    training: Training, world: int, override: int | None, micro: int, accumulation: int
) -> None:
    plan = plan_batches(training, 100, world, micro_override=override)
    assert (plan.micro_batch, plan.accumulation) == (micro, accumulation)


def test_gpu_micro_batch_has_a_ceiling() -> None:
    assert plan_batches(Training(global_batch_size=64), 100, 1, on_gpu=True).micro_batch == 8


@pytest.mark.parametrize("size", [None, 16])
def test_batch_that_cannot_be_shared_is_explained(size: int | None) -> None:
    with pytest.raises(SpecError) as raised:
        plan_batches(Training(global_batch_size=size), 100, 3)
    assert raised.value.code == 64
    assert "spec.training.globalBatchSize" in raised.value.message
    assert "multiple of 3" in raised.value.message
    assert ("chosen from the number of records" in raised.value.message) == (size is None)
