"""Selective activation checkpointing keeps the products that are dear for their size."""

from finetune_trainer.model.estimate.kept import is_kept


def test_a_layers_own_products_are_kept_and_an_adapters_second_factor_is_not() -> None:
    assert is_kept(into=4096, out=14_336)
    assert is_kept(into=14_336, out=4096)
    assert is_kept(into=4096, out=16)
    assert not is_kept(into=16, out=4096)


def test_the_widest_feed_forward_in_use_is_kept() -> None:
    """Gemma 2B's is eight times as wide as its hidden state."""
    assert is_kept(into=2048, out=16_384)
