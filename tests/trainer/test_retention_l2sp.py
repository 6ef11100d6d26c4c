"""L2-SP against the formula, its gradient, and that of several ranks only one adds it."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import nn

from finetune_trainer.retention.l2sp import L2SP


class Plain:
    """As much of a strategy as a term uses."""

    def backward(self, loss: torch.Tensor, *, last: bool) -> None:
        assert not last
        loss.backward()  # type: ignore[no-untyped-call]


STRATEGY = cast(Any, Plain())


def test_value_and_gradient_are_the_formulas() -> None:
    start = {"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([0.5])}
    now = {"a": nn.Parameter(torch.tensor([[1.5, 1.0]])), "b": nn.Parameter(torch.tensor([2.5]))}
    value = L2SP(0.4, now, start, first=True).add(STRATEGY, 3)
    assert float(value) == pytest.approx(0.2 * (0.25 + 1 + 4))
    assert not value.requires_grad
    assert now["a"].grad is not None
    assert now["a"].grad.tolist() == [pytest.approx([0.2, -0.4])]
    assert now["b"].grad is not None
    assert now["b"].grad.tolist() == pytest.approx([0.8])


def test_one_rank_adds_it_for_all() -> None:
    now = {"a": nn.Parameter(torch.tensor([3.0]))}
    term = L2SP(1.0, now, {"a": torch.zeros(1)}, first=False)
    assert float(term.add(STRATEGY, 0)) == 0
    assert now["a"].grad is None
