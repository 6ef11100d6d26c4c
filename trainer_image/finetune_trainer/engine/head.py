"""The output head is asked only where a token is to be predicted.

Logits are the largest tensor there is (tokens times vocabulary), and prompts, padding and the last token of each record
have no use for theirs. The hidden states are thinned out on their way into the head, by a hook for the time of one
forward pass: so it works for every model that has a head, whatever wraps it (adapters, FSDP), and what the model does
with its logits afterwards (scaling, soft caps) is done all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def output_head(model: nn.Module) -> nn.Module | None:
    find = getattr(model, "get_output_embeddings", None)
    found = find() if callable(find) else None
    return found if isinstance(found, nn.Module) else None


@contextmanager
def only_at(model: nn.Module, positions_n: torch.Tensor) -> Iterator[None]:
    """Within, logits of a forward pass are (n, vocabulary). A model without a known head gives all, as ever."""
    head = output_head(model)
    if head is None:
        yield
        return

    def thin_out(_head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden_bth, *rest = inputs
        return hidden_bth.reshape(-1, hidden_bth.shape[-1]).index_select(0, positions_n), *rest

    hook = head.register_forward_pre_hook(thin_out)
    try:
        yield
    finally:
        hook.remove()
