"""Smoothed targets: torch's cross-entropy over the same logits, in training only, with the plain loss beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_trainer.engine.batch import Batch, collate, without_targets
from finetune_trainer.engine.loss import target_logits, target_loss_sum
from finetune_trainer.objectives.choose import choose
from finetune_trainer.objectives.sft import SFT
from tests.trainer import small

SMOOTHING = 0.1


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(0)
    records: list[Any] = [(rng.integers(5, 200, n).astype(np.int32), rng.random(n) < 0.5) for n in (5, 12, 9)]
    return collate(records, range(len(records)), pad_id=0)


def gradients(loss: torch.Tensor, model: nn.Module) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def test_loss_and_gradients_are_torchs(batch: Batch) -> None:
    model = small.model().train()
    sums = SFT(SMOOTHING).sums(model, batch)
    located = batch.located()
    assert located.labels_n is not None
    expected = nn.functional.cross_entropy(
        target_logits(model, located), located.labels_n, reduction="sum", label_smoothing=SMOOTHING
    )
    torch.testing.assert_close(sums.loss, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradients(sums.loss, model), gradients(expected, model), rtol=1e-4, atol=1e-6)
    (told,) = sums.parts
    torch.testing.assert_close(told, target_loss_sum(model, batch).detach(), rtol=1e-6, atol=0)


def test_held_out_records_are_measured_without(batch: Batch) -> None:
    model = small.model().eval()
    with torch.no_grad():
        sums = SFT(SMOOTHING).sums(model, batch)
        assert torch.equal(sums.loss, target_loss_sum(model, batch))
    assert torch.equal(sums.parts[0], sums.loss)


def test_without_targets_nothing_is_added(batch: Batch) -> None:
    model = small.model().train()
    sums = SFT(SMOOTHING).sums(model, without_targets(batch))
    assert sums.loss.item() == sums.parts[0].item() == 0
    assert all(not gradient.any() for gradient in gradients(sums.loss, model))


@pytest.mark.parametrize(("regularization", "parts"), [(None, ()), ({"labelSmoothing": "0.1"}, ("targetLoss",))])
def test_the_spec_asks_for_it(regularization: dict[str, str] | None, parts: tuple[str, ...]) -> None:
    spec = {
        "model": {"uri": "file:///m"},
        "data": {"train": [{"uri": "file:///d"}]},
        "method": {"type": "LoRA"},
        "training": {"regularization": regularization} if regularization else {},
    }
    assert choose(FineTuneJobSpec.model_validate(spec)).parts == parts
