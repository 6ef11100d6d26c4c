"""The base model beside one whose own weights train: a copy of what trains, and everything else shared."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from finetune_trainer.retention.kl import Reference


def frozen_copy(model: nn.Module) -> Reference:
    """`model` must hold the base's weights now."""
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    base = copy.deepcopy(model, dict(shared)).eval().requires_grad_(False)

    @contextmanager
    def reference() -> Iterator[nn.Module]:
        yield base

    return reference
