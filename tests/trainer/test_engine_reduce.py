"""Gradient buckets: a fixed order, every parameter once."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from finetune_trainer.engine.reduce import bucketed


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=30), st.integers(1, 200))
def test_buckets_keep_order_dtype_and_limit(shapes: list[tuple[int, bool]], limit: int) -> None:
    parameters = [
        nn.Parameter(torch.zeros(size, dtype=torch.float64 if double else torch.float32)) for size, double in shapes
    ]
    buckets = bucketed(parameters, limit)
    assert [id(p) for bucket in buckets for p in bucket] == [id(p) for p in parameters]
    for bucket in buckets:
        assert len({p.dtype for p in bucket}) == 1
        assert len(bucket) == 1 or sum(p.numel() * p.element_size() for p in bucket) <= limit
