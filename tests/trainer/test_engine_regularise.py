"""Noise and dropout: of the right size, in training only, the same however a batch is cut."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from finetune_api.training import Regularization
from finetune_trainer.common.errors import SpecError
from finetune_trainer.engine.regularise import noise, regularise, set_dropout
from finetune_trainer.engine.seeding import seed_micro_batch
from tests.trainer import small

PAD = 0
IDS = torch.tensor([[5, 6, 7, 8], [9, 5, PAD, PAD], [6, 7, 8, PAD]])


def drawn(ids: torch.Tensor, position: int, *, epoch: int = 0, width: int = 64) -> torch.Tensor:
    seed_micro_batch(42, epoch, 3, position)
    return noise(ids, torch.zeros(*ids.shape, width), 5.0, PAD)


def wanted(**fields: Any) -> Regularization:
    return Regularization.model_validate(fields)


def test_its_size_follows_the_rows_own_length() -> None:
    found = drawn(IDS, 0)
    for row, length in enumerate((4, 2, 3)):
        bound = 5.0 / math.sqrt(length * 64)
        assert float(found[row, :length].abs().max()) == pytest.approx(bound, rel=0.05)
        assert float(found[row, :length].abs().max()) <= bound
        assert not found[row, length:].any()
    assert float(drawn(torch.full((1, 500), 5), 0).mean().abs()) < 0.01 * 5.0 / math.sqrt(500 * 64)


def test_another_cut_of_the_batch_draws_the_same() -> None:
    whole = drawn(IDS, 8)
    assert torch.equal(drawn(IDS[:1], 8), whole[:1])
    assert torch.equal(drawn(IDS[1:2, :2], 9)[0], whole[1, :2])
    assert torch.equal(drawn(IDS[2:], 10), whole[2:])


def test_another_row_step_or_epoch_draws_something_else() -> None:
    same = torch.tensor([[5, 6, 7, 8]]).repeat(2, 1)
    first = drawn(same, 0)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, drawn(same, 2))
    assert not torch.equal(first, drawn(same, 0, epoch=1))
    assert torch.equal(first, drawn(same, 0))


def test_noise_is_there_in_training_and_nowhere_else() -> None:
    model = small.model()
    ids = torch.arange(5, 25).unsqueeze(0)
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        regularise(wanted(neftuneAlpha="5"), model, PAD)
        assert torch.equal(model.eval()(input_ids=ids).logits, plain)
        seed_micro_batch(1, 0, 0, 0)
        assert not torch.equal(model.train()(input_ids=ids).logits, plain)


def test_dropout_is_the_models_own_and_not_the_adapters() -> None:
    model = nn.ModuleDict({"drop": nn.Dropout(0.0), "lora_dropout": nn.Dropout(0.5)})
    assert set_dropout(model, 0.1) == 1
    assert [module.p for module in model.values()] == [0.1, 0.5]  # type: ignore[union-attr]
    llama = small.model()
    regularise(wanted(dropout="0.2"), llama, PAD)
    assert {layer.self_attn.attention_dropout for layer in llama.model.layers} == {0.2}


def test_a_model_that_drops_nothing_is_told_so() -> None:
    with pytest.raises(SpecError, match="neither dropout layers nor attention dropout"):
        regularise(wanted(dropout="0.1"), nn.Linear(2, 2), PAD)


def test_nothing_is_changed_unless_asked_for() -> None:
    model = small.model()
    regularise(None, model, PAD)
    regularise(wanted(), model, PAD)
    assert not model.get_input_embeddings()._forward_hooks
