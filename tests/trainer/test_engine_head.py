"""Logits at the targets alone are the logits there; loss and gradients are those of a full forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from finetune_api.method import LoRA
from finetune_trainer.data.pack_rule import ISOLATING
from finetune_trainer.engine.batch import Batch, collate, without_targets
from finetune_trainer.engine.head import only_at, output_head
from finetune_trainer.engine.isolation import ignores_padding
from finetune_trainer.engine.loss import target_loss_sum
from finetune_trainer.methods.lora import add_lora
from tests.trainer.test_engine_isolation import VOCABULARY, build

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
    # Of experts, peft 0.21 names weights that no linear layer holds.
    "ignore:The following .* keys did not match:RuntimeWarning",
)
LENGTHS = (5, 12, 9)


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(0)
    records: list[Any] = [(rng.integers(1, VOCABULARY, n).astype(np.int32), rng.random(n) < 0.5) for n in LENGTHS]
    return collate(records, range(len(records)), pad_id=0)


def kinds() -> list[str]:
    """gemma2 has no sdpa in transformers 5.23."""
    return sorted(ISOLATING - {"gemma2"})


def whole(model: Any, batch: Batch) -> torch.Tensor:
    """With every logit, and with the mask."""
    logits = model(input_ids=batch.ids_bt, attention_mask=batch.attention_bt, use_cache=False).logits
    hits = batch.targets_bt[:, 1:].reshape(-1)
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1])[hits],
        batch.ids_bt[:, 1:].reshape(-1)[hits],
        reduction="sum",
    )


def gradients(model: Any) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_loss_and_gradients_are_those_of_all_logits_and_of_the_mask(kind: str, lora: bool, batch: Batch) -> None:
    model = build(kind).train()
    if lora:
        model = add_lora(model, LoRA(rank=2, alpha=4))
    assert ignores_padding(model)
    loss = whole(model, batch)
    loss.backward()
    expected = gradients(model)
    model.zero_grad(set_to_none=True)
    ours = target_loss_sum(model, batch)
    ours.backward()  # type: ignore[no-untyped-call]
    assert ours.item() == pytest.approx(loss.item(), rel=1e-5)
    for found, wanted in zip(gradients(model), expected, strict=True):
        assert float((found - wanted).abs().max()) < 1e-4 * max(1.0, float(wanted.abs().max()))


def test_the_head_computes_no_other_logits(batch: Batch) -> None:
    model = build("llama")
    assert batch.predicts_n is not None
    with only_at(model, batch.predicts_n):
        few = model(input_ids=batch.ids_bt, use_cache=False).logits
    assert few.shape == (int(batch.targets_bt.sum()), VOCABULARY)
    assert model(input_ids=batch.ids_bt, use_cache=False).logits.shape == (*batch.ids_bt.shape, VOCABULARY)


def test_nothing_predicts_the_first_token_of_a_row() -> None:
    ids = torch.arange(6).reshape(2, 3)
    located = Batch(ids, torch.ones_like(ids), torch.ones_like(ids, dtype=torch.bool)).located()
    assert located.predicts_n is not None
    assert located.labels_n is not None
    assert located.predicts_n.tolist() == [0, 1, 3, 4]
    assert located.labels_n.tolist() == [1, 2, 4, 5]


def test_the_hook_goes_when_the_pass_fails(batch: Batch) -> None:
    model = build("llama")
    assert batch.predicts_n is not None
    with pytest.raises(RuntimeError), only_at(model, batch.predicts_n):
        raise RuntimeError
    head = output_head(model)
    assert head is not None
    assert not head._forward_pre_hooks


def test_a_batch_without_targets_gives_zero_and_zero_gradients(batch: Batch) -> None:
    model = build("llama").train()
    loss = target_loss_sum(model, without_targets(batch))
    assert loss.item() == 0.0
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(float(g.abs().max()) == 0.0 for g in gradients(model))
    assert len(gradients(model)) == len(list(model.parameters()))


def test_other_models_keep_their_mask() -> None:
    model = build("llama")
    model.config.model_type = "somebody_elses"
    assert not ignores_padding(model)
    assert not ignores_padding(torch.nn.Linear(1, 1))
