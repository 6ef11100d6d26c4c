"""KL to the base against the formula written out, its share of every rank, and both kinds of base."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from finetune_api.method import LoRA, Method
from finetune_trainer.engine.batch import collate
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.loss import target_logits
from finetune_trainer.methods.adapters import adapter_off
from finetune_trainer.methods.choose import method_of
from finetune_trainer.methods.lora import add_lora
from finetune_trainer.retention.frozen import frozen_copy
from finetune_trainer.retention.kl import KLToBase, Reference, without_dropout
from tests.trainer import small

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
RECORDS = [([5, 6, 7, 8], 2), ([9, 3, 4], 1), ([20, 21, 22, 23, 24], 3), ([7, 7, 9, 1], 1), ([30, 31], 1)]


class Records:
    def __len__(self) -> int:
        return len(RECORDS)

    def __getitem__(self, index: int) -> Any:
        ids, first = RECORDS[index]
        return np.array(ids, dtype=np.int32), np.arange(len(ids)) >= first


class Alone:
    """As much of a strategy as a term uses."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def precision(self) -> Any:
        return torch.autocast("cpu", enabled=False)

    def backward(self, loss: torch.Tensor, *, last: bool) -> None:
        assert not last
        loss.backward()  # type: ignore[no-untyped-call]


def term(reference: Reference, *, rank: int = 0, world: int = 1, micro: int = 8, weight: float = 0.5) -> KLToBase:
    place = cast(Any, Place(rank=rank, local_rank=rank, world_size=world, device=torch.device("cpu")))
    return KLToBase(
        weight,
        cast(Any, Records()),
        reference,
        place,
        global_batch=12,
        micro_batch=micro,
        seed=1,
        pad_id=0,
        alive=lambda: None,
    )


def moved(model: Any, by: float = 0.05) -> Any:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += by * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture
def adapted() -> Any:
    return add_lora(small.model(0), LoRA(rank=2, alpha=4, dropout="0.3")).train()


def by_hand(base: Any, model: Any, rows: list[int]) -> float:
    found, count = 0.0, 0
    for row in rows:
        ids, first = RECORDS[row]
        with torch.no_grad():
            p, q = (m(input_ids=torch.tensor([ids])).logits[0].double().softmax(-1) for m in (base, model))
        for place in range(first - 1, len(ids) - 1):
            found += float((p[place] * (p[place].log() - q[place].log())).sum())
            count += 1
    return found / count


def test_the_value_is_the_formula(adapted: Any) -> None:
    strategy, mine = cast(Any, Alone(moved(adapted))), term(partial(adapter_off, adapted))
    rows = mine.rows(4).tolist()
    assert len(rows) == 3
    value = float(mine.add(strategy, 4))
    assert value == pytest.approx(0.5 * by_hand(small.model(0), adapted.eval(), rows), rel=1e-4)
    assert value > 1e-4


def test_the_base_itself_has_no_divergence_and_no_gradient(adapted: Any) -> None:
    value = term(partial(adapter_off, adapted)).add(cast(Any, Alone(adapted)), 0)
    assert abs(float(value)) < 1e-6
    assert max(float(p.grad.abs().max()) for p in adapted.parameters() if p.grad is not None) < 1e-6
    assert adapted.training


@pytest.mark.parametrize(
    "method",
    [
        {"type": "DoRA"},
        {"type": "IA3"},
        {"type": "LoRA", "lora": {"rank": 2, "modulesToSave": ["lm_head"]}},
        {"type": "LoRA", "lora": {"rank": 2, "init": "Orthogonal"}},
    ],
)
def test_every_kind_of_adapter_gives_the_base_when_it_is_off(method: dict[str, Any]) -> None:
    model = moved(method_of(Method.model_validate(method)).apply(small.model(0)).train(), 0.2)
    batch = collate(cast(Any, Records()), [0, 1, 2], 0)
    with torch.no_grad(), adapter_off(model) as base:
        found = target_logits(base, batch)
    with torch.no_grad():
        assert torch.allclose(found, target_logits(small.model(0), batch), atol=1e-6)
        assert not torch.allclose(found, target_logits(model, batch), atol=1e-3)
    assert model.training


def test_a_frozen_copy_stays_the_base_while_all_weights_train() -> None:
    model = small.model(0).train()
    frozen = [p for n, p in model.named_parameters() if "embed" in n]
    for parameter in frozen:
        parameter.requires_grad_(False)
    reference = frozen_copy(model)
    moved(model)
    with reference() as base:
        assert {id(p) for p in frozen} <= {id(p) for p in base.parameters()}
        assert not any(p.requires_grad for p in base.parameters())
    assert any(p.requires_grad for p in model.parameters())
    mine = term(reference)
    value = float(mine.add(cast(Any, Alone(model)), 0))
    assert value == pytest.approx(0.5 * by_hand(small.model(0), model.eval(), mine.rows(0).tolist()), rel=1e-4)


@pytest.mark.parametrize(("world", "micro"), [(1, 1), (2, 8), (3, 2), (5, 1)])
def test_ranks_and_micro_batches_add_up_to_the_same(adapted: Any, world: int, micro: int) -> None:
    strategy = cast(Any, Alone(moved(adapted)))

    def gradients() -> dict[str, torch.Tensor]:
        found = {n: p.grad.clone() for n, p in adapted.named_parameters() if p.grad is not None}
        adapted.zero_grad()
        return found

    whole = float(term(partial(adapter_off, adapted)).add(strategy, 1))
    expected = gradients()
    shares = [
        float(term(partial(adapter_off, adapted), rank=r, world=world, micro=micro).add(strategy, 1))
        for r in range(world)
    ]
    assert sum(shares) == pytest.approx(whole, rel=1e-4)
    for name, gradient in gradients().items():
        assert torch.allclose(gradient, expected[name], atol=1e-6)


def test_every_record_has_its_turn_and_the_order_is_a_function_of_the_step(adapted: Any) -> None:
    mine, again = term(partial(adapter_off, adapted)), term(partial(adapter_off, adapted))
    seen = [int(row) for step in range(5) for row in mine.rows(step)]
    assert all(sorted(seen[start : start + 5]) == list(range(5)) for start in (0, 5, 10))
    assert again.rows(3).tolist() == seen[9:12]


def test_dropout_is_off_for_it_and_back_afterwards(adapted: Any) -> None:
    dropouts = [m for m in adapted.modules() if isinstance(m, nn.Dropout)]
    attention: Any = next(m for m in adapted.modules() if hasattr(m, "attention_dropout"))
    attention.attention_dropout = 0.25
    assert dropouts
    with without_dropout(adapted):
        assert not any(m.training for m in dropouts)
        assert attention.attention_dropout == 0
        assert adapted.training
    assert all(m.training for m in dropouts)
    assert attention.attention_dropout == 0.25


def test_logits_are_asked_at_targets_only(adapted: Any) -> None:
    batch = collate(cast(Any, Records()), [0, 1], 0)
    assert target_logits(adapted, batch).shape[0] == 4
