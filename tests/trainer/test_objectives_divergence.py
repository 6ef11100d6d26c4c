"""The divergence against its formula, by hand and at its ends."""

from __future__ import annotations

import pytest
import torch

from finetune_trainer.objectives.divergence import divergence_sum


def log_probs(seed: int, positions: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(3 * torch.randn(positions, 11, generator=generator), dim=-1)


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * (torch.tensor(a).log() - torch.tensor(b).log()).item() for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_it_is_the_formula(beta: float) -> None:
    student, teacher = log_probs(1), log_probs(2)
    expected = 0.0
    for s, t in zip(student.exp().tolist(), teacher.exp().tolist(), strict=True):
        mixture = [beta * b + (1 - beta) * a for a, b in zip(s, t, strict=True)]
        if beta in (0.0, 1.0):
            expected += kl(t, s) if beta == 0 else kl(s, t)
        else:
            expected += beta * kl(t, mixture) + (1 - beta) * kl(s, mixture)
    assert float(divergence_sum(student, teacher, beta=beta)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_equal_models_are_not_apart_and_feel_no_pull(beta: float) -> None:
    logits = log_probs(3).requires_grad_()
    found = divergence_sum(torch.log_softmax(logits, dim=-1), log_probs(3), beta=beta)
    found.backward()  # type: ignore[no-untyped-call]
    assert found.item() == pytest.approx(0, abs=1e-5)
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-5


def test_the_jensen_shannon_divergence_is_bounded_where_kl_is_not() -> None:
    """By ln 2 at beta 0.5, however far apart the models are."""
    student, teacher = torch.full((1, 4), -60.0), torch.full((1, 4), -60.0)
    student[0, 0] = teacher[0, 3] = 0.0
    assert float(divergence_sum(student, teacher, beta=0.5)) == pytest.approx(0.693147, rel=1e-4)
    assert float(divergence_sum(student, teacher, beta=0.0)) == pytest.approx(60, rel=1e-4)
