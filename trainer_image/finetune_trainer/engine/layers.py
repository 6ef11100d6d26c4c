"""What every decoder is built of."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


def decoder_layers(model: nn.Module) -> Iterator[nn.Module]:
    """The modules of the longest list of equal blocks; none where the model has no such list."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) and len({type(b) for b in m}) == 1]
    if lists:
        yield from max(lists, key=len)
