"""The trainable digest: equal weights have equal digests, whatever the attempt or the world size that wrote them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import xxhash


def trainable_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """`xxh3:<128 bits>` over (name, dtype, shape, bytes) in the order of names. Tensors must be on the CPU."""
    state = xxhash.xxh3_128()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        state.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return f"xxh3:{state.hexdigest()}"
