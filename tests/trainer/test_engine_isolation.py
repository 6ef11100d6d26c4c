"""Packed records do not see each other: packed logits are the unpacked ones, for each model type that packs by default."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, BloomConfig

from finetune_trainer.common.errors import SpecError
from finetune_trainer.data.pack_rule import ISOLATING
from finetune_trainer.data.packed import Packed
from finetune_trainer.data.packing import best_fit
from finetune_trainer.engine.batch import Batch, collate
from finetune_trainer.engine.isolation import as_attended, check_isolation, leak
from finetune_trainer.engine.loss import target_loss_sum

CPU = torch.device("cpu")
VOCABULARY = 64
LENGTHS = (5, 9, 3, 12, 7, 1, 4, 6)
CAPACITY = 16


def build(kind: str, attention: str = "sdpa") -> Any:
    wanted = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 64,
        "sliding_window": 4,
        "num_experts": 4,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "initializer_range": 0.3,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    config_class = CONFIG_MAPPING[kind]
    known = inspect.signature(config_class).parameters
    config = config_class(**{name: value for name, value in wanted.items() if name in known})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


class Records(list[Any]):
    @property
    def lengths(self) -> Any:
        return np.array([len(ids) for ids, _targets in self], dtype=np.int64)

    @property
    def digests(self) -> Any:
        return np.arange(len(self), dtype=np.uint64)


@pytest.fixture(scope="module")
def records() -> Records:
    rng = np.random.default_rng(0)
    return Records(
        (rng.integers(1, VOCABULARY, length).astype(np.int32), rng.random(length) < 0.7) for length in LENGTHS
    )


@pytest.fixture(scope="module")
def packed(records: Records) -> Packed:
    return Packed(records, best_fit(records.lengths, records.digests, CAPACITY), CAPACITY)


@torch.no_grad()
def largest_difference(model: Any, records: Records, packed: Packed) -> float:
    """Between logits of every token in its row and alone. Several rows of different lengths, so there is padding."""
    batch = collate(packed, range(len(packed)), pad_id=0)
    assert batch.positions_bt is not None
    logits = model(input_ids=batch.ids_bt, position_ids=batch.positions_bt, use_cache=False).logits
    differences = []
    for row in range(len(packed)):
        start = 0
        for record in packed.records(row):
            ids = torch.from_numpy(records[record][0]).long()[None]
            alone = model(input_ids=ids, use_cache=False).logits[0]
            differences.append(float((logits[row, start : start + ids.shape[1]] - alone).abs().max()))
            start += ids.shape[1]
    return max(differences)


@pytest.mark.parametrize(
    ("kind", "attention"),
    [
        (kind, attention)
        for kind in sorted(ISOLATING)
        for attention in ("eager", "sdpa")
        if (kind, attention) != ("gemma2", "sdpa")
    ],  # which transformers 5.23 does not have
)
def test_packed_logits_are_the_unpacked_ones(kind: str, attention: str, records: Records, packed: Packed) -> None:
    model = build(kind, attention)
    assert largest_difference(model, records, packed) < 1e-5 * max(1.0, largest_logit(model))
    check_isolation(model, CPU)


@torch.no_grad()
def largest_logit(model: Any) -> float:
    return float(model(input_ids=torch.arange(1, 9)[None], use_cache=False).logits.abs().max())


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_loss_and_gradients_are_the_unpacked_ones(kind: str, records: Records, packed: Packed) -> None:
    def gradients(examples: Any) -> tuple[float, list[torch.Tensor]]:
        model = build(kind).train()
        loss = target_loss_sum(model, collate(examples, range(len(examples)), pad_id=0))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item(), [p.grad for p in model.parameters()]

    loss, unpacked_gradients = gradients(records)
    packed_loss, packed_gradients = gradients(packed)
    assert packed_loss == pytest.approx(loss, rel=1e-5)
    for ours, theirs in zip(packed_gradients, unpacked_gradients, strict=True):
        assert float((ours - theirs).abs().max()) < 1e-4 * max(1.0, float(theirs.abs().max()))


def test_without_positions_they_would_see_each_other() -> None:
    class Blind(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = build("llama")
            self.config = self.model.config

        def forward(self, position_ids: torch.Tensor, **rest: Any) -> Any:
            return self.model(**rest)

    blind = Blind().eval()
    assert leak(blind, VOCABULARY, CPU) > 0.01
    with pytest.raises(SpecError, match=r"spec\.data\.packing.*llama.*see each other.*set data\.packing: false"):
        check_isolation(blind, CPU)


def test_a_model_without_position_ids_is_refused() -> None:
    model = AutoModelForCausalLM.from_config(BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=2))
    with pytest.raises(SpecError, match=r"spec\.data\.packing.*bloom"):
        check_isolation(model, CPU)


def test_the_question_leaves_the_model_in_its_mode() -> None:
    model = build("llama").train()
    check_isolation(model, CPU)
    assert model.training


def test_flash_attention_gets_one_long_row(packed: Packed) -> None:
    batch = collate(packed, [0, 1], pad_id=0)
    model = build("llama")
    assert as_attended(model, batch) is batch
    model.config._attn_implementation_internal = "flash_attention_2"
    joined = as_attended(model, batch)
    assert joined.ids_bt.shape == (1, batch.ids_bt.numel())
    assert joined.positions_bt is not None
    assert int((joined.positions_bt == 0).sum()) >= len(packed.records(0)) + len(packed.records(1))
    model.config._attn_implementation_internal = "sdpa"
    rows, row = (target_loss_sum(model, b).item() for b in (batch, joined))
    assert row == pytest.approx(rows, rel=1e-5)


def test_unpacked_batches_stay_as_they_are(records: Records) -> None:
    batch = collate(records, [0, 1], pad_id=0)
    assert isinstance(batch, Batch)
    assert batch.positions_bt is None
    assert as_attended(build("llama"), batch) is batch
