"""Sums gradients over the ranks, always in the same order.

torch's DDP wrapper re-sorts its buckets after the first backward pass of each process, so a resumed run would add the
same numbers in another order than the undisturbed one. Here the buckets follow the order of the parameters; one
reduction per optimizer step, after the last micro-batch, so accumulation needs no special case and a rank without
records in a short last batch still takes part.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn

BUCKET_BYTES = 32 << 20


def bucketed(parameters: Sequence[nn.Parameter], limit: int = BUCKET_BYTES) -> list[list[nn.Parameter]]:
    """Consecutive parameters of one dtype, up to `limit` bytes (or one larger parameter) each."""
    buckets: list[list[nn.Parameter]] = []
    size = limit
    for parameter in parameters:
        bytes_ = parameter.numel() * parameter.element_size()
        if not buckets or size + bytes_ > limit or buckets[-1][0].dtype != parameter.dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += bytes_
    return buckets


class GradientSum:
    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        """One process has nothing to sum, and needs no room for it."""
        self._buckets = bucketed(parameters) if dist.get_world_size() > 1 else []
        self._flat = [
            torch.empty(sum(p.numel() for p in b), dtype=b[0].dtype, device=b[0].device) for b in self._buckets
        ]

    def __call__(self) -> None:
        """Replaces every `.grad` by the sum over all ranks; a missing one counts as zero."""
        for bucket, flat in zip(self._buckets, self._flat, strict=True):
            start = 0
            for parameter in bucket:
                view = flat[start : start + parameter.numel()]
                start += parameter.numel()
                if parameter.grad is None:
                    view.zero_()
                else:
                    view.copy_(parameter.grad.reshape(-1))
        works = [dist.all_reduce(flat, async_op=True) for flat in self._flat]
        for work, bucket, flat in zip(works, self._buckets, self._flat, strict=True):
            work.wait()
            start = 0
            for parameter in bucket:
                view = flat[start : start + parameter.numel()].reshape(parameter.shape)
                start += parameter.numel()
                if parameter.grad is None:
                    parameter.grad = view.clone()
                else:
                    parameter.grad.copy_(view)
