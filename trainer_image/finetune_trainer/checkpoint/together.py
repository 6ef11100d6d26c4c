"""The ranks that save together answer alike: what failed on one failed on all, and all try again or none does.

Their talk runs on the savers' threads beside training's own collectives, therefore in a gloo group of its own, and as
JSON: torch's object collectives would pickle.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist


class Together:
    """`alone`: rank 0 saves for everybody and asks nobody."""

    def __init__(self, *, alone: bool) -> None:
        # A slow upload of one rank makes the others wait here; the launcher's deadline is what ends it.
        self._group = None if alone else dist.new_group(backend="gloo", timeout=timedelta(days=7))
        self.rank = 0 if alone else dist.get_rank()
        self.size = 1 if alone else dist.get_world_size()

    def all(self, mine: Any) -> list[Any]:
        """Everybody's JSON value, by rank."""
        if self._group is None:
            return [mine]
        text = torch.frombuffer(bytearray(json.dumps(mine).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([text.numel()]), group=self._group)
        longest = int(max(sizes))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: text.numel()] = text
        texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(texts, padded, group=self._group)
        return [json.loads(bytes(t[: int(n)].numpy())) for t, n in zip(texts, sizes, strict=True)]

    def any(self, flag: bool) -> bool:
        return any(self.all(flag))
