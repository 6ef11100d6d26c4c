"""Advantages against the formulas written out."""

from __future__ import annotations

import pytest
import torch

from finetune_trainer.objectives.advantages import group_relative, leave_one_out

REWARDS = torch.tensor([[1.0, 0.0, 0.5, 0.5], [2.0, 2.0, 2.0, 2.0]])


def test_of_a_group() -> None:
    plain = group_relative(REWARDS, scaled=False)
    assert plain.tolist() == [[0.5, -0.5, 0, 0], [0, 0, 0, 0]]
    std = ((0.25 + 0.25) / 3) ** 0.5
    scaled = group_relative(REWARDS, scaled=True)
    assert scaled[0].tolist() == pytest.approx([0.5 / (std + 1e-4), -0.5 / (std + 1e-4), 0, 0])
    assert scaled[1].tolist() == [0, 0, 0, 0]


def test_of_all_others() -> None:
    assert leave_one_out(REWARDS)[0].tolist() == pytest.approx([1 - 1 / 3, -2 / 3, 0, 0])
    assert leave_one_out(REWARDS)[1].tolist() == [0, 0, 0, 0]
