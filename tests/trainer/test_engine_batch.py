"""Padding, masks and the loss: numbers equal a computation by hand, and do not depend on how records are grouped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from finetune_trainer.engine.batch import Example, collate, target_tokens
from finetune_trainer.engine.loss import target_loss_sum

VOCABULARY = 11


class Toy(nn.Module):
    """Predicts from the current token alone, so padding cannot matter unless masks are wrong."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table_vv = nn.Parameter(torch.randn(VOCABULARY, VOCABULARY, generator=generator))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool) -> Any:
        assert not use_cache
        return type("Output", (), {"logits": self.table_vv[input_ids]})


def example(ids: list[int], targets: list[int]) -> Example:
    return np.array(ids, dtype=np.int32), np.array(targets, dtype=np.bool_)


EXAMPLES = [
    example([1, 2, 3, 4], [0, 0, 1, 1]),
    example([5, 6], [0, 1]),
    example([7, 8, 9], [1, 0, 1]),
    example([10, 1, 2, 3, 4], [0, 0, 0, 0, 1]),
]


def by_hand(model: Toy, indices: list[int]) -> float:
    total = 0.0
    for i in indices:
        ids, targets = EXAMPLES[i]
        for t in range(1, len(ids)):
            if targets[t]:
                total -= torch.log_softmax(model.table_vv[int(ids[t - 1])], 0)[int(ids[t])].item()
    return total


def test_collate_pads_on_the_right() -> None:
    batch = collate(EXAMPLES, [1, 0], pad_id=9)
    assert batch.ids_bt.tolist() == [[5, 6, 9, 9], [1, 2, 3, 4]]
    assert batch.attention_bt.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch.targets_bt.tolist() == [[False, True, False, False], [False, False, True, True]]


def test_first_token_is_never_a_target() -> None:
    assert not collate(EXAMPLES, [2], pad_id=0).targets_bt[0, 0]
    assert target_tokens(EXAMPLES, [2]) == 1


@pytest.mark.parametrize("groups", [[[0, 1, 2, 3]], [[0], [1], [2], [3]], [[2, 0], [3, 1]]])
def test_loss_sum_does_not_depend_on_grouping(groups: list[list[int]]) -> None:
    model = Toy()
    total = sum(target_loss_sum(model, collate(EXAMPLES, group, pad_id=0)).item() for group in groups)
    assert total == pytest.approx(by_hand(model, [0, 1, 2, 3]), abs=1e-5)
    assert target_tokens(EXAMPLES, [0, 1, 2, 3]) == 5


def test_only_targets_get_gradients() -> None:
    model = Toy()
    target_loss_sum(model, collate(EXAMPLES, [1], pad_id=0)).backward()
    assert model.table_vv.grad is not None
    assert model.table_vv.grad.abs().sum(1).nonzero().squeeze(1).tolist() == [5]
