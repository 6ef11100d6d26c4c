"""Equal weights, equal digest; anything else, another one."""

from __future__ import annotations

import torch

from finetune_trainer.checkpoint.digest import trainable_digest


def test_order_of_names_and_memory_layout_do_not_matter() -> None:
    a, b = torch.arange(6.0).reshape(2, 3), torch.ones(2)
    turned = a.t().contiguous().t()
    assert not turned.is_contiguous()
    assert trainable_digest({"a": a, "b": b}) == trainable_digest({"b": b, "a": turned})


def test_names_dtypes_shapes_and_values_matter() -> None:
    a = torch.zeros(2, 3)
    one = torch.zeros(2, 3)
    one[1, 2] = 1e-7
    variants = [{"a": a}, {"b": a}, {"a": a.reshape(3, 2)}, {"a": a.to(torch.float64)}, {"a": a.bfloat16()}, {"a": one}]
    assert len({trainable_digest(v) for v in variants}) == len(variants)


def test_form_is_pinned() -> None:
    assert trainable_digest({"w": torch.tensor([1.0, 2.0])}) == "xxh3:c376f8692de7da18188e3a82306a27a4"
    assert trainable_digest({"scalar": torch.tensor(3.0)}).startswith("xxh3:")
