"""All ranks stop, save or fail at the same step.

Each rank's own wishes (its pod's launcher asked for a stop; rank 0 wants a save; a save failed for good) are combined
by all_reduce(MAX) on a gloo group of their own at every optimizer-step boundary. Acting on a signal alone deadlocks:
ranks hear it at different steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from finetune_trainer.engine.straggler import packed

PENDING = -1


@dataclass(frozen=True)
class Agreed:
    stop: bool
    save: bool
    code: int
    """An exit code on which everybody ends; 0: none."""
    slow: int = 0
    fast: int = 0
    """As `engine.straggler` packs them."""


class Agreement:
    def __init__(self) -> None:
        # A rank may wait here for as long as another one saves or evaluates; hangs are the launchers' to judge.
        self._group = dist.new_group(backend="gloo", timeout=timedelta(days=7))

    def decide(self, *, stop: bool, save: bool = False, code: int = 0, busy: float = 0.0) -> Agreed:
        """`busy`: the seconds of this rank's own work in the last step."""
        slow, fast = packed(busy, dist.get_rank(self._group))
        wishes = torch.tensor([stop, save, code, slow, fast], dtype=torch.int64)
        dist.all_reduce(wishes, op=dist.ReduceOp.MAX, group=self._group)
        return Agreed(bool(wishes[0]), bool(wishes[1]), int(wishes[2]), int(wishes[3]), int(wishes[4]))

    def tell(self, value: int) -> int:
        """Rank 0's value, on every rank."""
        told = torch.tensor([value], dtype=torch.int64)
        dist.broadcast(told, src=0, group=self._group)
        return int(told[0])

    def tell_all(self, values: list[int]) -> list[int]:
        told = torch.tensor(values, dtype=torch.int64)
        dist.broadcast(told, src=0, group=self._group)
        return [int(v) for v in told]

    def tell_text(self, text: str) -> str:
        """Rank 0's text, on every rank."""
        content = list(text.encode())
        size = self.tell(len(content))
        mine = content if len(content) == size else [0] * size
        return bytes(self.tell_all(mine)).decode()

    def barrier(self) -> None:
        dist.barrier(group=self._group)
