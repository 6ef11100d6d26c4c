"""Layers are found whatever a model calls them, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from torch import nn

from finetune_trainer.engine.layers import decoder_layers
from tests.trainer import small


def block(experts: int = 0) -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 1, 8)
    layer.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(experts))
    return layer


def test_a_models_layers() -> None:
    model = small.model()
    assert decoder_layers(model) == list(model.model.layers)


def test_the_longer_of_two_lists() -> None:
    model = nn.Module()
    model.adapters, model.blocks = nn.ModuleList([nn.Linear(2, 2)]), nn.ModuleList(block() for _ in range(3))
    assert decoder_layers(model) == list(model.blocks)


def test_a_layers_experts_are_not_layers() -> None:
    model = nn.Module()
    model.h = nn.ModuleList(block(experts=8) for _ in range(2))
    assert decoder_layers(model) == list(model.h)


@pytest.mark.parametrize("parts", [[], [nn.Linear(2, 2), nn.ReLU()]])
def test_no_list_of_equal_blocks(parts: list[nn.Module]) -> None:
    model = nn.Module()
    model.parts = nn.ModuleList(parts)
    assert decoder_layers(model) == []
