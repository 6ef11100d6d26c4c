"""Which parameters `Freeze` leaves free, by their names alone. No torch: the estimate counts them too."""

from __future__ import annotations

import re
from collections.abc import Collection

from finetune_api.method import Freeze

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
_EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|embed_in)\.")
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out)\.")


def layer_of(name: str) -> int | None:
    """The decoder layer that a parameter belongs to, counted from 0; None for what lies outside the layers."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def free(names: Collection[str], freeze: Freeze) -> set[str]:
    """A head that is not among the names is tied to the embeddings, and means them."""
    layers = [index for index in map(layer_of, names) if index is not None]
    first = max(layers, default=-1) + 1 - (freeze.last_layers or 0)
    heads = {name for name in names if _HEAD.search(name)}
    embeddings = {name for name in names if _EMBEDDING.search(name)}
    chosen = {name for name in names if any(re.search(pattern, name) for pattern in freeze.trainable)}
    if freeze.last_layers is not None:
        chosen |= {name for name in names if (index := layer_of(name)) is not None and index >= first}
    if freeze.embeddings:
        chosen |= embeddings
    if freeze.lm_head:
        chosen |= heads or embeddings
    return chosen
