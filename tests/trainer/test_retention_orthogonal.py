"""AdaLoRA's orthogonality: the value and the gradient that peft adds to a loss."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from finetune_api.method import AdaLoRA
from finetune_trainer.methods.adalora import Adaptive
from finetune_trainer.retention.orthogonal import Orthogonal
from tests.trainer import small

# peft 0.21 reads an attribute that transformers 5.23 renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def added(*, first: bool) -> tuple[float, dict[str, torch.Tensor], Any]:
    torch.manual_seed(0)
    model: Any = Adaptive(AdaLoRA(initial_rank=4, target_rank=2)).apply(small.model())
    strategy: Any = SimpleNamespace(backward=lambda part, last: part.backward())
    value = Orthogonal(0.5, model, first=first).add(strategy, 0)
    return float(value), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, model


def test_it_is_what_peft_adds_to_a_loss() -> None:
    value, gradients, model = added(first=True)
    model.zero_grad()
    ids = torch.arange(5, 25).unsqueeze(0)
    plain = model.get_base_model()(input_ids=ids, labels=ids).loss
    with_term = model(input_ids=ids, labels=ids).loss
    assert value == pytest.approx(float((with_term - plain).detach()), abs=1e-5)
    (with_term - plain).backward()
    theirs = {n: p.grad for n, p in model.named_parameters() if p.grad is not None and "lora_E" not in n}
    assert gradients.keys() == theirs.keys()
    assert all(torch.allclose(grad, theirs[name], atol=1e-6) for name, grad in gradients.items())


def test_only_the_first_rank_adds_it() -> None:
    value, gradients, _ = added(first=False)
    assert (value, gradients) == (0.0, {})
